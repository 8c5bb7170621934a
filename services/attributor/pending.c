/*
 * pending: a growing array in the order of arrival, which is each partition's order.
 */
#include "pending.h"

#include <assert.h>
#include <stdlib.h>

struct pending {
    struct pending_item *items;
    size_t count;
    size_t room;
    size_t records_max;
    int64_t bytes;
    int64_t bytes_max;
    struct pending_partition *partitions;
    struct consumer_partition *positions; /* as many */
    size_t partition_count;
};

static bool out_of_memory(struct err *err)
{
    return err_set(err, ERR_MEMORY, FATE_FATAL, "pending: out of memory");
}

bool pending_new(struct pending **out, size_t records, int64_t bytes, struct err *err)
{
    struct pending *p = calloc(1, sizeof *p);
    if (p == NULL)
        return out_of_memory(err);
    p->records_max = records;
    p->bytes_max = bytes;
    *out = p;
    return true;
}

void pending_free(struct pending *p)
{
    if (p == NULL)
        return;
    pending_drop_all(p);
    free(p->items);
    free(p);
}

static int64_t item_bytes(const struct pending_item *item)
{
    return (int64_t)(item->message.key.len + item->message.value.len);
}

void pending_drop_all(struct pending *p)
{
    if (p == NULL)
        return;
    for (size_t i = 0; i < p->count; i++)
        consumer_message_free(&p->items[i].message);
    p->count = 0;
    p->bytes = 0;
    free(p->partitions);
    free(p->positions);
    p->partitions = NULL;
    p->positions = NULL;
    p->partition_count = 0;
}

bool pending_assign(struct pending *p, const struct consumer_partition *parts, size_t count, struct err *err)
{
    pending_drop_all(p);
    p->partitions = calloc(count + 1, sizeof *p->partitions);
    p->positions = calloc(count + 1, sizeof *p->positions);
    if (p->partitions == NULL || p->positions == NULL)
        return out_of_memory(err);
    for (size_t i = 0; i < count; i++)
        p->partitions[p->partition_count++] =
            (struct pending_partition){.partition = parts[i].partition, .next = -1};
    return true;
}

bool pending_add(struct pending *p, struct consumer_message *m, int64_t now_us, struct err *err)
{
    if (p->count == p->room) {
        size_t room = p->room == 0 ? 256 : p->room * 2;
        struct pending_item *items = reallocarray(p->items, room, sizeof *items);
        if (items == NULL) {
            consumer_message_free(m);
            return out_of_memory(err);
        }
        p->items = items;
        p->room = room;
    }
    p->items[p->count] = (struct pending_item){.message = *m, .read_us = now_us};
    p->bytes += item_bytes(&p->items[p->count++]);
    return true;
}

bool pending_is_full(const struct pending *p)
{
    return p->count >= p->records_max || p->bytes >= p->bytes_max;
}

bool pending_is_ready(const struct pending *p, int64_t watermark)
{
    for (size_t i = 0; i < p->count; i++) {
        if (p->items[i].known_by <= watermark)
            return true;
    }
    return false;
}

const struct pending_item *pending_oldest_waiting(const struct pending *p, int64_t watermark)
{
    for (size_t i = 0; i < p->count; i++) {
        if (p->items[i].known_by > watermark)
            return &p->items[i];
    }
    return NULL;
}

size_t pending_count(const struct pending *p)
{
    return p->count;
}

struct pending_item *pending_at(struct pending *p, size_t i)
{
    assert(i < p->count);
    return &p->items[i];
}

size_t pending_partition_count(const struct pending *p)
{
    return p->partition_count;
}

struct pending_partition *pending_partition(struct pending *p, size_t i)
{
    assert(i < p->partition_count);
    return &p->partitions[i];
}

struct pending_partition *pending_partition_of(struct pending *p, const struct pending_item *item)
{
    size_t i = 0;
    while (i < p->partition_count && p->partitions[i].partition != item->message.partition)
        i++;
    assert(i < p->partition_count); /* what is held is of the assignment */
    return &p->partitions[i];
}

void pending_begin(struct pending *p)
{
    for (size_t i = 0; i < p->count; i++)
        p->items[i].is_sent = false;
    for (size_t i = 0; i < p->partition_count; i++) {
        p->partitions[i].is_waiting = false;
        p->partitions[i].next = -1;
    }
}

void pending_mark(struct pending *p, struct pending_item *item)
{
    item->is_sent = true;
    pending_partition_of(p, item)->next = item->message.offset + 1;
}

const struct consumer_partition *pending_positions(struct pending *p, const char *topic, size_t *count)
{
    *count = 0;
    for (size_t i = 0; i < p->partition_count; i++) {
        if (p->partitions[i].next >= 0)
            p->positions[(*count)++] =
                (struct consumer_partition){topic, p->partitions[i].partition, p->partitions[i].next};
    }
    return p->positions;
}

void pending_forget_sent(struct pending *p)
{
    size_t kept = 0;
    for (size_t i = 0; i < p->count; i++) {
        if (p->items[i].is_sent) {
            p->bytes -= item_bytes(&p->items[i]);
            consumer_message_free(&p->items[i].message);
        } else {
            p->items[kept++] = p->items[i];
        }
    }
    p->count = kept;
}
