/*
 * hold_row: a column is an array, for one statement writes all rows.
 */
#include "hold_row.h"

/* Ids of all rows in one array; a row says where its own begin. */
struct window_ids {
    int64_t *id;
    size_t count;
};

static void ids_add(struct window_ids *ids, const struct gate_call *c, bool billed)
{
    for (size_t i = 0; i < c->match_count; i++)
        if (c->match[i].rule->billed == billed)
            ids->id[ids->count++] = c->window[i];
}

bool hold_row_args(struct hold *h, struct hold_item *const *items, size_t count, bool revived, int64_t at,
                   struct pg_fields *args)
{
    enum { ACCOUNT, RAW, BILLED, MARKUP, ADMITTED_AT, NUMBERS };
    enum { FORCED, PRICED, RAW_AT, BILLED_AT, END_AT, SMALLS };
    struct arena *a = &h->arena;
    struct uuid *id = arena_alloc(a, count * sizeof *id);
    int32_t *small[SMALLS];
    int64_t *number[NUMBERS];
    struct window_ids windows = {0};
    size_t most = 0;
    size_t n = 0;
    for (size_t k = 0; k < SMALLS; k++)
        small[k] = arena_alloc(a, count * sizeof(int32_t));
    for (size_t k = 0; k < NUMBERS; k++)
        number[k] = arena_alloc(a, count * sizeof(int64_t));
    for (size_t i = 0; i < count; i++)
        most += items[i]->gate.match_count;
    windows.id = arena_alloc(a, most * sizeof(int64_t) + 1);
    if (id == NULL || small[SMALLS - 1] == NULL || number[NUMBERS - 1] == NULL || windows.id == NULL)
        return false;
    for (size_t i = 0; i < count; i++) {
        const struct gate_call *c = &items[i]->gate;
        if (revived && !items[i]->is_revived)
            continue;
        id[n] = c->call.call_id;
        small[FORCED][n] = items[i]->forced ? 1 : 0;
        small[PRICED][n] = c->is_priced ? 1 : 0;
        number[ACCOUNT][n] = c->has_account ? c->account : 0;
        number[RAW][n] = c->raw_nanos;
        number[BILLED][n] = c->billed_nanos;
        number[MARKUP][n] = c->markup_ppm;
        number[ADMITTED_AT][n] = c->call.admitted_at;
        small[RAW_AT][n] = (int32_t)windows.count + 1; /* Postgres counts from 1 */
        ids_add(&windows, c, false);
        small[BILLED_AT][n] = (int32_t)windows.count + 1;
        ids_add(&windows, c, true);
        small[END_AT][n] = (int32_t)windows.count + 1;
        n++;
    }
    pg_put_uuid_array(args, id, n);
    for (size_t k = 0; k < SMALLS; k++)
        pg_put_i32_array(args, small[k], n);
    for (size_t k = 0; k < ADMITTED_AT; k++)
        pg_put_i64_array(args, number[k], n);
    pg_put_time_array(args, number[ADMITTED_AT], n);
    pg_put_i64_array(args, windows.id, windows.count);
    pg_put_time(args, at + h->options.lifetime_us);
    return true;
}
