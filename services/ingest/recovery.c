/*
 * recovery: adopts at start; the rest happens while serving.
 */
#include "ingest/recovery.h"

#include "base/clock.h"
#include "base/log.h"
#include "ingest/call_record.h"
#include "ingest/instance_beat.h"
#include "ingest/meter.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define REBEAT_US (10 * US_PER_SECOND)
#define LOOK_US   (30 * US_PER_SECOND)

struct adopted {
    struct journal *journal;
    int64_t reports; /* of its `closed` */
    int64_t beaten_us;
    bool closing; /* `closed` was sent */
    struct adopted *next;
};

struct recovery {
    struct delivery *delivery;
    struct journal_options options;
    int64_t looked_us;
    int64_t counted_us;
    struct journal *own; /* the caller's */
    bool estimate;
    struct adopted *adopted;
    struct adopted *removed;
    size_t count;
};

static bool open_finish(struct journal_call *call, bool estimate, struct arena *a, struct buffer *bytes,
                        struct err *err)
{
    struct journal_record record;
    journal_read(call, &record);
    buffer_clear(bytes);
    arena_reset(a);
    return call_record_recover(record.payload, record.progress, estimate, a, bytes, err) &&
           journal_finish(call, buffer_view(bytes), err);
}

/* first: all that are open, else those that were left. */
static void calls_finish(struct journal *j, bool estimate, bool first, struct delivery *d)
{
    struct arena arena;
    struct buffer bytes;
    arena_init(&arena, 1 << 20);
    buffer_init(&bytes, LIMIT_CALL_BYTES);
    for (struct journal_call *call = journal_oldest(j); call != NULL; call = call->newer) {
        struct err err = {0};
        if (call->finished || !(first || call->left))
            continue;
        struct strview kept = {call->left_bytes, call->left_len};
        bool ok = kept.ptr != NULL ? journal_finish(call, kept, &err)
                                   : open_finish(call, estimate, &arena, &bytes, &err);
        if (ok && d != NULL)
            delivery_send(d, call);
        if (!ok && first) {
            log_error("call_not_recovered", LOG_STR("instance", journal_instance(j)),
                      LOG_INT("seq", call->seq), LOG_ERR(&err), LOG_END);
            journal_leave(call, SV_NULL);
        } else if (!ok && err.code != ERR_INVALID) { /* no room for this one is none for the others */
            break;
        }
    }
    buffer_free(&bytes);
    arena_free(&arena);
}

void recovery_finish_open(struct journal *j, bool estimate)
{
    for (const struct journal_call *call = journal_oldest(j); call != NULL; call = call->newer)
        meter_add(call->finished ? METER_RECOVERED_FINISHED : METER_RECOVERED_OPEN, 1);
    calls_finish(j, estimate, true, NULL);
}

void recovery_finish_left(struct journal *j, bool estimate, struct delivery *d)
{
    if (journal_left(j) > 0)
        calls_finish(j, estimate, false, d);
}

static void found_log(const struct journal *j, const struct journal_found *found, bool own)
{
    meter_add(METER_JOURNAL_SKIPPED, (int64_t)found->skipped);
    meter_add(METER_JOURNAL_DAMAGED, (int64_t)found->damaged);
    log_line(journal_is_damaged(j) ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO, "journal_recovered",
             LOG_FIELDS(LOG_STR("instance", journal_instance(j)), LOG_STR("own", own ? "yes" : "no"),
                        LOG_INT("finished", found->finished), LOG_INT("open", found->open),
                        LOG_INT("skipped", found->skipped), LOG_INT("damaged", found->damaged),
                        LOG_STR("cut", found->cut ? "yes" : "no"), LOG_INT("boot", journal_boot(j)),
                        LOG_INT("next_seq", journal_next_seq(j)), LOG_END));
}

static bool adopt(struct recovery *r, struct journal *j, struct err *err)
{
    struct adopted *a = calloc(1, sizeof *a);
    if (a == NULL)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "recovery: out of memory");
    a->journal = j;
    if (!delivery_adopt(r->delivery, j, err)) {
        free(a);
        return false;
    }
    a->next = r->adopted;
    r->adopted = a;
    r->count++;
    return true;
}

/* One directory: ours if we have none yet, else adopted. false: the start cannot go on. */
static bool directory_take(struct recovery *r, const char *name, struct journal **own, struct err *err)
{
    const struct journal_options *o = &r->options;
    struct journal_found found = {0};
    struct journal *j = NULL;
    bool mine = *own == NULL && journal_open(&j, o, name, true, &found, err);
    if (!mine && !journal_open(&j, o, name, false, &found, err)) {
        if (err->code != ERR_STATE)
            return err_wrap(err, "recovery: journal %s", name);
        err_clear(err);
        return true;
    }
    found_log(j, &found, mine);
    recovery_finish_open(j, r->estimate);
    if (!mine && !adopt(r, j, err)) {
        journal_stop(j, false);
        return false;
    }
    if (mine)
        *own = j;
    return true;
}

static int is_journal(const struct dirent *entry)
{
    struct uuid id;
    return uuid_parse(sv_of(entry->d_name), &id) ? 1 : 0;
}

/* Each unlocked directory. */
static bool directories_take(struct recovery *r, struct journal **own, struct err *err)
{
    struct dirent **found = NULL;
    int count = scandir(r->options.dir, &found, is_journal, alphasort);
    bool ok = count >= 0 ||
              err_set(err, ERR_IO, FATE_FATAL, "--journal-dir=%s: %s", r->options.dir, strerror(errno));
    for (int i = 0; i < count; i++) {
        ok = ok && directory_take(r, found[i]->d_name, own, err);
        free(found[i]);
    }
    free(found);
    return ok;
}

/* One that stops with calls left may do so after we have looked. */
static void directories_look_again(struct recovery *r)
{
    struct err err = {0};
    if (!directories_take(r, &r->own, &err))
        log_error("journals_not_looked_at", LOG_ERR(&err), LOG_END);
}

bool recovery_open(struct recovery **out, const struct journal_options *o, bool estimate, struct delivery *d,
                   struct journal **own, struct err *err)
{
    struct recovery *r = calloc(1, sizeof *r);
    *own = NULL;
    if (r == NULL)
        return err_set(err, ERR_MEMORY, FATE_FATAL, "recovery: out of memory");
    r->delivery = d;
    r->options = *o;
    r->estimate = estimate;
    (void)mkdir(o->dir, 0700); /* one level; what else is wrong with it, scandir says */
    bool ok = directories_take(r, own, err);
    if (ok && *own == NULL)
        ok = journal_create(own, o, clock_now_us(), err);
    if (ok && delivery_adopt(d, *own, err)) {
        r->own = *own;
        *out = r;
        return true;
    }
    journal_stop(*own, false);
    *own = NULL;
    recovery_free(r);
    return false;
}

static void adopted_beat(struct recovery *r, struct adopted *a, int64_t now_us, int64_t every_us)
{
    bool closed = journal_undelivered(a->journal) == 0;
    if (journal_is_damaged(a->journal)) /* its last beat knew better how far it got: silence rings */
        return;
    if (a->beaten_us != 0 && now_us - a->beaten_us < (closed ? REBEAT_US : every_us) &&
        !(closed && !a->closing))
        return;
    a->closing = closed;
    a->beaten_us = now_us;
    instance_beat_send(r->delivery, a->journal, closed, closed ? &a->reports : NULL);
}

/* Kafka has all of it and knows that it is closed; or what could be read of it. */
static bool is_over(const struct adopted *a)
{
    return journal_is_damaged(a->journal) ? journal_undelivered(a->journal) == 0 : a->reports > 0;
}

static int is_set_aside(const struct dirent *entry)
{
    const char *tail = strchr(entry->d_name, '.');
    return tail != NULL && strcmp(tail, JOURNAL_SET_ASIDE) == 0 ? 1 : 0;
}

/* Those that are to be set aside, too. Whoever has looked at one removes it. */
static void set_aside_count(const struct recovery *r)
{
    struct dirent **found = NULL;
    int count = scandir(r->options.dir, &found, is_set_aside, NULL);
    for (int i = 0; i < count; i++)
        free(found[i]);
    free(found);
    for (const struct adopted *a = r->adopted; a != NULL; a = a->next)
        count += a->journal != NULL && journal_is_damaged(a->journal) ? 1 : 0;
    meter_set(METER_JOURNALS_SET_ASIDE, count);
}

static void adopted_end(struct recovery *r, struct adopted *a)
{
    struct journal *j = a->journal;
    delivery_forget(r->delivery, j);
    a->journal = NULL;
    r->count--;
    if (!journal_is_damaged(j)) {
        log_info("journal_closed", LOG_STR("instance", journal_instance(j)), LOG_END);
        journal_remove(j);
        return;
    }
    log_error(
        "journal_set_aside", LOG_STR("instance", journal_instance(j)),
        LOG_STR("hint", "calls may be lost: it is not beaten closed; its directory is kept as .damaged"),
        LOG_END);
    journal_set_aside(j);
    set_aside_count(r);
}

void recovery_tick(struct recovery *r, int64_t now_us, int64_t beat_every_us)
{
    if (r->looked_us == 0)
        r->looked_us = now_us;
    if (now_us - r->looked_us >= LOOK_US) {
        r->looked_us = now_us;
        directories_look_again(r);
    }
    if (r->counted_us == 0 || now_us - r->counted_us >= REBEAT_US) {
        r->counted_us = now_us;
        set_aside_count(r);
    }
    recovery_finish_left(r->own, r->estimate, r->delivery);
    for (const struct adopted *a = r->adopted; a != NULL; a = a->next)
        recovery_finish_left(a->journal, r->estimate, r->delivery);
    for (struct adopted **at = &r->adopted; *at != NULL;) {
        struct adopted *a = *at;
        if (!is_over(a)) {
            adopted_beat(r, a, now_us, beat_every_us);
            at = &a->next;
            continue;
        }
        adopted_end(r, a);
        *at = a->next;
        a->next = r->removed; /* a second `closed` may still be reported into it */
        r->removed = a;
    }
}

size_t recovery_left(const struct recovery *r)
{
    return r->count;
}

static void list_free(struct adopted *a)
{
    while (a != NULL) {
        struct adopted *next = a->next;
        journal_stop(a->journal, false);
        free(a);
        a = next;
    }
}

void recovery_free(struct recovery *r)
{
    if (r == NULL)
        return;
    list_free(r->adopted);
    list_free(r->removed);
    free(r);
}
