/*
 * batch_fold: sort, match, fold, bill.
 */
#include "batch_fold.h"

#include "base/money.h"
#include "call_fold.h"
#include "registry_store.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define WHY_ACCOUNT "the ledger does not know the account it is attributed to"

static bool full(struct err *err)
{
    return err_set(err, ERR_MEMORY, FATE_FATAL, "batch_fold: the arena is full");
}

static const struct uuid *id_of(const struct bill_record *r)
{
    return &r->fold.call->call_id;
}

static int by_call(const void *a, const void *b, void *arg)
{
    const struct bill_record *records = arg;
    size_t x = *(const size_t *)a;
    size_t y = *(const size_t *)b;
    int order = uuid_cmp(id_of(&records[x]), id_of(&records[y]));
    return order != 0 ? order : (x > y) - (x < y);
}

bool batch_fold_open(struct batch_fold *f, struct bill_record *records, size_t count, struct arena *a,
                     struct err *err)
{
    *f = (struct batch_fold){.record = records, .record_count = count, .arena = a};
    f->order = arena_alloc(a, count * sizeof *f->order + 1);
    f->id = arena_alloc(a, count * sizeof *f->id + 1);
    f->call = arena_alloc(a, count * sizeof *f->call + 1);
    f->posting = arena_alloc(a, count * 2 * sizeof *f->posting + 1);
    f->letter = arena_alloc(a, count * 2 * sizeof *f->letter + 1);
    if (f->order == NULL || f->id == NULL || f->call == NULL || f->posting == NULL || f->letter == NULL)
        return full(err);
    for (size_t i = 0; i < count; i++) {
        if (records[i].state == RECORD_BILLS)
            f->order[f->order_count++] = i;
    }
    qsort_r(f->order, f->order_count, sizeof *f->order, by_call, records);
    for (size_t i = 0; i < f->order_count; i++) {
        const struct uuid *id = id_of(&records[f->order[i]]);
        if (f->call_count == 0 || uuid_cmp(id, &f->id[f->call_count - 1]) != 0) {
            f->call[f->call_count].row.call_id = *id;
            f->id[f->call_count++] = *id;
        }
    }
    return true;
}

bool batch_fold_take(struct batch_fold *f, const struct pg_rows *rows, struct err *err)
{
    size_t at = 0;
    for (size_t i = 0; i < pg_rows_count(rows); i++) {
        struct uuid id = pg_get_uuid(rows, i, 0);
        while (at < f->call_count && uuid_cmp(&f->id[at], &id) < 0)
            at++;
        assert(at < f->call_count && uuid_cmp(&f->id[at], &id) == 0);
        struct folded_call *call = &f->call[at];
        if (!call_row_get(rows, i, f->arena, &call->row, err))
            return false;
        call->before = call->row;
        call->existed = true;
    }
    return true;
}

static void park(struct batch_fold *f, const struct bill_record *record, bool notice, const char *why)
{
    f->letter[f->letter_count++] = (struct fold_letter){.record = record, .notice = notice, .why = why};
    f->notice_count += notice ? 1 : 0;
}

/* Two records of one rank say different things: one notice a call, whichever comes first. */
static void notice_conflict(struct batch_fold *f, struct folded_call *call, const struct bill_record *record)
{
    if (call->row.conflicted)
        return;
    call->row.conflicted = true;
    call->changed = true;
    park(f, record, true, "two records of this call have the same rank and differ; the greater hash counts");
}

static bool fold_one(struct batch_fold *f, struct folded_call *call, struct bill_record *record,
                     const struct registry_store *store, struct err *err)
{
    unsigned changes;
    struct record_origin position = f->position;
    position.offset = record->input->offset;
    if (!registry_store_surrogate(store, record->account_id, &record->account)) {
        park(f, record, false, WHY_ACCOUNT);
        return true;
    }
    if (!call_fold(&call->row, record, &position, f->arena, &changes, err))
        return false;
    if ((changes & FOLD_CONFLICT) != 0)
        notice_conflict(f, call, record);
    changes &= ~(unsigned)FOLD_CONFLICT;
    call->gated =
        call->gated || record->fold.call->gate == GATE_HELD || record->fold.call->gate == GATE_FORCED;
    call->forced = call->forced || record->fold.call->gate == GATE_FORCED;
    call->changed = call->changed || changes != 0;
    f->repeat_count += changes == 0 ? 1 : 0;
    return true;
}

static bool is_settled(const struct call_row *row)
{
    return row->raw_nanos.has && sv_eq(row->source, sv_of(spend_source_name(SOURCE_GATEWAY)));
}

bool folded_call_settles(const struct folded_call *call)
{
    return is_settled(&call->row) && !(call->existed && is_settled(&call->before));
}

/* Suspense is what the provider charges, nothing more. */
static bool find_markup(const struct call_row *row, const struct registry_store *store, int64_t *markup_ppm,
                        struct err *err)
{
    struct strview account = registry_store_account_id(store, row->account);
    *markup_ppm = MARKUP_ONE_PPM;
    return sv_starts_with(account, SV_LIT("~")) ||
           registry_store_markup(store, account, row->admitted_at, markup_ppm) ||
           err_set(err, ERR_NOT_FOUND, FATE_DEAD_LETTER,
                   "its account has no tier in force when it was admitted");
}

static bool note_posted(struct batch_fold *f, struct call_row *row, int64_t now_us, struct err *err)
{
    struct call_times *t = &row->posted_at;
    int64_t *grown = arena_alloc(f->arena, (t->count + 1) * sizeof *grown);
    if (grown == NULL)
        return full(err);
    if (t->count > 0)
        memcpy(grown, t->utc_us, t->count * sizeof *grown);
    grown[t->count] = now_us;
    *t = (struct call_times){.utc_us = grown, .count = t->count + 1};
    return true;
}

/* The difference between the bill that stood and the one that stands. */
static bool post_difference(struct batch_fold *f, struct folded_call *call, int64_t now_us, struct err *err)
{
    static const enum entry_kind kinds[] = {[MOVE_DEDUCTION] = ENTRY_DEDUCTION,
                                            [MOVE_ADJUSTMENT] = ENTRY_ADJUSTMENT,
                                            [MOVE_REVERSAL] = ENTRY_REVERSAL};
    struct movement moves[2];
    size_t count;
    struct bill before = call_bill_of(&call->before);
    struct bill after = call_bill_of(&call->row);
    bool first = call->before.posted_at.count == 0;
    if (!bill_difference(&before, &after, moves, &count))
        return err_set(err, ERR_OVERFLOW, FATE_DEAD_LETTER, "its correction does not fit int64 nanos");
    for (size_t i = 0; i < count; i++) {
        f->posting[f->posting_count++] = (struct posting){
            .account = moves[i].account,
            .amount_nanos = moves[i].amount_nanos,
            .kind = kinds[moves[i].kind],
            .cause = first ? CAUSE_CALL : CAUSE_CORRECTION,
            .call = moves[i].kind == MOVE_REVERSAL ? &call->before : &call->row,
        };
    }
    f->correction_count += count > 0 && !first ? 1 : 0;
    return count == 0 || note_posted(f, &call->row, now_us, err);
}

static bool bill_one(struct batch_fold *f, struct folded_call *call, const struct registry_store *store,
                     int64_t now_us, struct err *err)
{
    int64_t markup_ppm;
    if (!call->changed)
        return true;
    f->new_count += call->existed ? 0 : 1;
    f->updated_count += call->existed ? 1 : 0;
    return find_markup(&call->row, store, &markup_ppm, err) && call_bill(&call->row, markup_ppm, err) &&
           post_difference(f, call, now_us, err);
}

bool batch_fold_run(struct batch_fold *f, const struct registry_store *store,
                    const struct record_origin *position, int64_t now_us, struct err *err)
{
    size_t at = 0;
    f->position = *position;
    for (size_t i = 0; i < f->record_count; i++) {
        if (f->record[i].state == RECORD_POISON)
            park(f, &f->record[i], false, f->record[i].why);
    }
    for (size_t i = 0; i < f->order_count; i++) {
        struct bill_record *record = &f->record[f->order[i]];
        while (uuid_cmp(&f->id[at], id_of(record)) != 0)
            at++;
        if (!fold_one(f, &f->call[at], record, store, err))
            return false;
    }
    for (size_t i = 0; i < f->call_count; i++) {
        if (!bill_one(f, &f->call[i], store, now_us, err))
            return false;
    }
    return true;
}

enum dead_reason batch_fold_letter(const struct batch_fold *f, size_t i, struct dead_letter *out)
{
    const struct fold_letter *letter = &f->letter[i];
    const struct input_record *input = letter->record->input;
    enum dead_reason reason = letter->notice ? DEAD_CONFLICT : DEAD_MALFORMED;
    *out = (struct dead_letter){
        .kind = letter->notice ? DEAD_KIND_NOTICE : DEAD_KIND_CALL,
        .reason = sv_of(dead_reasons[reason].name),
        .detail = sv_of(letter->why),
        .original = sv_is_null(input->value) ? SV_LIT("") : input->value,
        .origin = f->position,
        .first_seen = input->timestamp_us,
        .attempts = 1,
    };
    out->origin.offset = input->offset;
    if (letter->record->fold.call != NULL) {
        out->has_call_id = true;
        out->call_id = *id_of(letter->record);
    }
    return reason;
}
