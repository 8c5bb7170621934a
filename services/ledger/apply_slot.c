/*
 * apply_slot: arrays that double.
 */
#include "apply_slot.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_ROOM 64

static bool full(struct err *err)
{
    return err_set(err, ERR_MEMORY, FATE_FATAL, "apply_slot: out of memory");
}

bool apply_slots_add(struct apply_slots *s, const char *topic, int32_t partition, int64_t expected,
                     const uint8_t *last_sha256, struct err *err)
{
    if (s->count == s->room) {
        size_t room = s->room == 0 ? FIRST_ROOM : s->room * 2;
        struct apply_slot *grown = realloc(s->slot, room * sizeof *grown);
        if (grown == NULL)
            return full(err);
        s->slot = grown;
        s->room = room;
    }
    char *copy = strdup(topic);
    if (copy == NULL)
        return full(err);
    struct apply_slot *slot = &s->slot[s->count++];
    *slot = (struct apply_slot){.topic = copy,
                                .partition = partition,
                                .expected = expected,
                                .start = expected,
                                .position = expected,
                                .is_checked = last_sha256 == NULL};
    if (last_sha256 != NULL)
        memcpy(slot->last_sha256, last_sha256, sizeof slot->last_sha256);
    return true;
}

static struct apply_slot *find(const struct apply_slots *s, const char *topic, int32_t partition)
{
    for (size_t i = 0; i < s->count; i++) {
        if (s->slot[i].partition == partition && strcmp(s->slot[i].topic, topic) == 0)
            return &s->slot[i];
    }
    return NULL;
}

static bool grow(struct apply_slot *slot)
{
    size_t room = slot->room == 0 ? FIRST_ROOM : slot->room * 2;
    struct consumer_message *messages = realloc(slot->messages, room * sizeof *messages);
    if (messages == NULL)
        return false;
    slot->messages = messages;
    struct input_record *records = realloc(slot->records, room * sizeof *records);
    if (records == NULL)
        return false;
    slot->records = records;
    slot->room = room;
    return true;
}

/* The first message of a slot that knows what must stand before its offset. */
static bool check_last(struct apply_slot *slot, const struct consumer_message *message, struct err *err)
{
    uint8_t sha256[SHA256_LEN];
    const struct input_record record = {.key = message->key, .value = message->value};
    input_record_sha256(&record, sha256);
    slot->is_checked =
        message->offset == slot->expected - 1 && memcmp(sha256, slot->last_sha256, sizeof sha256) == 0;
    return slot->is_checked ||
           err_set(
               err, ERR_CONFLICT, FATE_FATAL,
               "%s/%d: at offset %lld does not stand what was applied from there: the topic was made anew, "
               "start a new stream (--stream)",
               slot->topic, slot->partition, (long long)slot->expected - 1);
}

bool apply_slots_keep(struct apply_slots *s, struct consumer_message *message, struct err *err)
{
    struct apply_slot *slot = find(s, message->topic, message->partition);
    if (slot != NULL && !slot->is_checked && !check_last(slot, message, err)) {
        consumer_message_free(message);
        return false;
    }
    bool wanted = slot != NULL && message->offset >= slot->position;
    bool ok = !wanted || slot->count < slot->room || grow(slot);
    if (!wanted || !ok) {
        consumer_message_free(message);
        return ok || full(err);
    }
    slot->messages[slot->count] = *message;
    slot->records[slot->count] = (struct input_record){
        .offset = message->offset,
        .timestamp_us = message->timestamp_us,
        .key = message->key,
        .value = message->value,
    };
    slot->count++;
    slot->position = message->offset + 1;
    s->bytes += (int64_t)message->value.len;
    return true;
}

void apply_slots_drop(struct apply_slots *s, struct apply_slot *slot, size_t n)
{
    if (n > 0)
        slot->start = slot->records[n - 1].offset + 1;
    for (size_t i = 0; i < n; i++) {
        s->bytes -= (int64_t)slot->records[i].value.len;
        consumer_message_free(&slot->messages[i]);
    }
    slot->count -= n;
    if (n == 0 || slot->count == 0)
        return;
    memmove(slot->messages, slot->messages + n, slot->count * sizeof *slot->messages);
    memmove(slot->records, slot->records + n, slot->count * sizeof *slot->records);
}

bool apply_slot_follows(const struct apply_slot *slot)
{
    return slot->start == slot->expected;
}

void apply_slot_set(struct apply_slot *slot, int64_t offset)
{
    assert(slot->count == 0);
    slot->start = offset;
    slot->position = offset;
}

size_t apply_slots_longest(const struct apply_slots *s)
{
    size_t longest = 0;
    for (size_t i = 0; i < s->count; i++) {
        if (s->slot[i].retry_us == 0 && s->slot[i].count > longest)
            longest = s->slot[i].count;
    }
    return longest;
}

bool apply_slots_wait(const struct apply_slots *s)
{
    for (size_t i = 0; i < s->count; i++) {
        if (s->slot[i].waits)
            return true;
    }
    return false;
}

void apply_slots_clear(struct apply_slots *s)
{
    for (size_t i = 0; i < s->count; i++) {
        apply_slots_drop(s, &s->slot[i], s->slot[i].count);
        free(s->slot[i].topic);
        free(s->slot[i].messages);
        free(s->slot[i].records);
    }
    s->count = 0;
}

void apply_slots_free(struct apply_slots *s)
{
    apply_slots_clear(s);
    free(s->slot);
    *s = (struct apply_slots){0};
}
