/*
 * budget_charge: subject, matches, windows, differences.
 */
#include "budget_charge.h"

#include "base/money.h"
#include "registry_store.h"
#include "spend/tag_set.h"

#include <string.h>

static bool full(struct err *err)
{
    return err_set(err, ERR_MEMORY, FATE_FATAL, "budget_charge: the arena is full");
}

/* A dead letter tells neither whose key it is nor what its tags name: the function that decides calls does,
 * as at the gate. Suspense is nobody's account. */
static bool subject_of_suspense(const struct budget_charge *c, struct spend_call *call,
                                struct scope_subject *out)
{
    struct attribution who;
    attribute(call, registry_store_registry(c->registry), c->rules, &who);
    struct tag *tags = arena_alloc(c->arena, who.tag_count * sizeof *tags + 1);
    if (tags == NULL)
        return false;
    memcpy(tags, who.tags, who.tag_count * sizeof *tags);
    *out = (struct scope_subject){.key_hash = call->key_hash,
                                  .user = who.user,
                                  .team = who.team,
                                  .task = who.task_id,
                                  .conversation = who.conversation_id,
                                  .model = call->model_requested,
                                  .tags = tags,
                                  .tag_count = who.tag_count};
    return true;
}

static bool subject_of_record(const struct budget_charge *c, const struct bill_record *r,
                              struct scope_subject *out)
{
    struct spend_call call = *r->fold.call;
    if (!sv_is_null(r->reason))
        return subject_of_suspense(c, &call, out);
    *out = (struct scope_subject){.key_hash = call.key_hash,
                                  .user = r->user,
                                  .team = r->team,
                                  .account_id = r->account_id,
                                  .task = r->task,
                                  .conversation = r->conversation,
                                  .model = call.model_requested,
                                  .tags = call.tags,
                                  .tag_count = call.tag_count};
    return true;
}

static bool subject_of_row(const struct budget_charge *c, const struct call_row *row,
                           struct scope_subject *out)
{
    struct tag *tags = arena_alloc(c->arena, row->tags.count * sizeof *tags + 1);
    if (tags == NULL)
        return false;
    for (size_t i = 0; i < row->tags.count; i++) {
        tags[i] = (struct tag){.raw = row->tags.raw[i], .origins = (unsigned)row->tags.origins[i]};
        tag_split(tags[i].raw, &tags[i].key, &tags[i].value);
    }
    if (row->ranks.attribution[0] == CLASS_SUSPENSE + 1) {
        struct spend_call call = {.admitted_at = row->admitted_at,
                                  .received_at = row->received_at,
                                  .key_hash = row->key_hash,
                                  .model_requested = row->model_requested,
                                  .tags = tags,
                                  .tag_count = row->tags.count};
        return subject_of_suspense(c, &call, out);
    }
    *out = (struct scope_subject){.key_hash = row->key_hash,
                                  .user = row->user,
                                  .team = row->team,
                                  .account_id = registry_store_account_id(c->registry, row->account),
                                  .task = row->task,
                                  .conversation = row->conversation,
                                  .model = row->model_requested,
                                  .tags = tags,
                                  .tag_count = row->tags.count};
    return true;
}

static bool miss(struct budget_charge *c, const struct budget_match *match, int64_t at, struct err *err)
{
    if (c->missing_count == c->missing_room) {
        size_t room = c->missing_room == 0 ? 64 : c->missing_room * 2;
        struct window_wanted *more = arena_alloc(c->arena, room * sizeof *more);
        if (more == NULL)
            return full(err);
        if (c->missing_count > 0)
            memcpy(more, c->missing, c->missing_count * sizeof *more);
        c->missing = more;
        c->missing_room = room;
    }
    c->missing[c->missing_count++] = (struct window_wanted){*match, at};
    return true;
}

bool budget_charge_foresee(struct budget_charge *c, const struct bill_record *records, size_t count,
                           struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        struct budget_match *match;
        size_t matches;
        if (records[i].state != RECORD_BILLS)
            continue;
        int64_t at = records[i].fold.call->admitted_at;
        struct scope_subject subject;
        if (!subject_of_record(c, &records[i], &subject))
            return full(err);
        if (!budget_store_match(c->budgets, &subject, at, c->arena, &match, &matches, err))
            return false;
        for (size_t k = 0; k < matches; k++)
            if (window_map_find(c->map, &match[k], at) == 0 && !miss(c, &match[k], at, err))
                return false;
    }
    return true;
}

static int64_t amount_of(const struct call_row *row, bool billed)
{
    const struct opt_i64 *amount = billed ? &row->billed_nanos : &row->raw_nanos;
    return amount->has ? amount->v : 0;
}

static bool has_id(const struct call_ids *ids, int64_t id)
{
    for (size_t i = 0; i < ids->count; i++)
        if (ids->id[i] == id)
            return true;
    return false;
}

/* What a row puts into a window that it is charged to. */
static struct window_delta share_of(const struct call_row *row, bool billed, int64_t window)
{
    const struct call_gate *gate = &row->gate;
    const struct opt_i64 *let = billed ? &gate->billed_nanos : &gate->raw_nanos;
    int64_t amount = amount_of(row, billed); /* never below zero, as what the gate let through of it */
    int64_t gated = let->has && has_id(&gate->windows, window) ? let->v : 0;
    return (struct window_delta){.window = window,
                                 .spent_nanos = amount,
                                 .ungated_nanos = amount - gated,
                                 .away_nanos = gate->away ? gated : 0};
}

/* Takes what stood out of the windows it stood in. */
static bool take_back(struct budget_charge *c, const struct call_row *before, bool billed, struct err *err)
{
    const struct call_ids *ids = billed ? &before->windows_billed : &before->windows_raw;
    for (size_t i = 0; i < ids->count; i++) {
        struct window_delta d = share_of(before, billed, ids->id[i]);
        d.spent_nanos = -d.spent_nanos;
        d.ungated_nanos = -d.ungated_nanos;
        d.away_nanos = -d.away_nanos;
        if (!window_charge_add(&c->charge, &d, err))
            return false;
    }
    return true;
}

static struct opt_i64 least(struct opt_i64 let, struct opt_i64 amount)
{
    return let.has && amount.has && amount.v < let.v ? amount : let;
}

/* Let through while nobody could be asked; its row knows it as long as it has no price. */
static bool was_forced(const struct folded_call *call)
{
    return call->forced || (!call->before.raw_nanos.has && call->before.gate.away);
}

/* The amount with which it settles is what the gate let through, in the windows where a hold stood for it, or
 * in all when nobody could be asked. A later one takes nothing but the ungated from a window that it raises;
 * what it lowers does not come back, others may have used it up. */
static bool pass_gate(struct budget_charge *c, struct folded_call *call, size_t most)
{
    struct call_row *row = &call->row;
    const struct call_gate *before = &call->before.gate;
    bool first = folded_call_settles(call);
    row->gate = (struct call_gate){.windows = {.id = arena_alloc(c->arena, most * sizeof(int64_t) + 1)}};
    if (row->gate.windows.id == NULL)
        return false;
    row->gate.away = first || !row->raw_nanos.has ? was_forced(call) : before->away;
    if (!row->raw_nanos.has)
        return true;
    row->gate.raw_nanos = first ? row->raw_nanos : least(before->raw_nanos, row->raw_nanos);
    row->gate.billed_nanos = first ? row->billed_nanos : least(before->billed_nanos, row->billed_nanos);
    return true;
}

static bool passed_gate(const struct folded_call *call, int64_t window)
{
    if (!call->row.raw_nanos.has)
        return false;
    if (folded_call_settles(call))
        return was_forced(call) || has_id(&call->held, window);
    return has_id(&call->before.gate.windows, window);
}

static bool charge_one(struct budget_charge *c, struct folded_call *call, const struct budget_match *match,
                       struct err *err)
{
    struct call_row *row = &call->row;
    bool billed = match->rule->billed;
    struct call_ids *ids = billed ? &row->windows_billed : &row->windows_raw;
    int64_t window = window_map_find(c->map, match, row->admitted_at);
    if (window == 0)
        return miss(c, match, row->admitted_at, err);
    if (has_id(ids, window)) /* two values that share ~other */
        return true;
    ids->id[ids->count++] = window;
    if (passed_gate(call, window))
        row->gate.windows.id[row->gate.windows.count++] = window;
    struct window_delta d = share_of(row, billed, window);
    d.latest = row->admitted_at;
    return window_charge_add(&c->charge, &d, err);
}

static bool charge_row(struct budget_charge *c, struct folded_call *call, struct err *err)
{
    struct call_row *row = &call->row;
    struct scope_subject subject;
    struct budget_match *match;
    size_t count;
    if (call->existed &&
        (!take_back(c, &call->before, false, err) || !take_back(c, &call->before, true, err)))
        return false;
    if (!subject_of_row(c, row, &subject))
        return full(err);
    if (!budget_store_match(c->budgets, &subject, row->admitted_at, c->arena, &match, &count, err))
        return false;
    row->windows_raw = (struct call_ids){arena_alloc(c->arena, count * sizeof(int64_t) + 1), 0};
    row->windows_billed = (struct call_ids){arena_alloc(c->arena, count * sizeof(int64_t) + 1), 0};
    if (row->windows_raw.id == NULL || row->windows_billed.id == NULL || !pass_gate(c, call, count))
        return full(err);
    for (size_t i = 0; i < count; i++)
        if (!charge_one(c, call, &match[i], err))
            return false;
    if (row->gate.windows.count == 0)
        row->gate = (struct call_gate){.away = !row->raw_nanos.has && row->gate.away};
    return true;
}

bool budget_charge_fold(struct budget_charge *c, struct batch_fold *f, struct err *err)
{
    c->missing_count = 0;
    for (size_t i = 0; i < f->call_count; i++)
        if (f->call[i].changed && !charge_row(c, &f->call[i], err))
            return false;
    return window_charge_close(&c->charge, err);
}

bool budget_charge_open(struct budget_charge *c, struct pg_session *pg, struct err *err)
{
    size_t count = c->missing_count;
    c->missing_count = 0;
    return window_map_open(c->map, pg, c->missing, count, err);
}
