/*
 * hold_row: a column is an array, for one statement writes all rows.
 */
#include "hold_row.h"

/* '{1,2}': rows of arrays of different lengths are no array. */
static bool ids_text(struct hold *h, const struct gate_call *c, bool billed, struct strview *out)
{
    struct buffer *text = &h->text;
    buffer_clear(text);
    bool ok = buffer_append_byte(text, '{');
    bool first = true;
    for (size_t i = 0; ok && i < c->match_count; i++) {
        if (c->match[i].rule->billed != billed)
            continue;
        ok = buffer_printf(text, "%s%lld", first ? "" : ",", (long long)c->window[i]);
        first = false;
    }
    return ok && buffer_append_byte(text, '}') && arena_dup(&h->arena, buffer_view(text), out);
}

bool hold_row_args(struct hold *h, struct hold_item *const *items, size_t count, bool revived, int64_t at,
                   struct pg_fields *args)
{
    enum { ACCOUNT, RAW, BILLED, MARKUP, ADMITTED_AT, NUMBERS };
    struct arena *a = &h->arena;
    struct uuid *id = arena_alloc(a, count * sizeof *id);
    int32_t *forced = arena_alloc(a, count * sizeof *forced);
    int32_t *priced = arena_alloc(a, count * sizeof *priced);
    int64_t *number[NUMBERS];
    struct strview *windows[2];
    size_t n = 0;
    for (size_t k = 0; k < NUMBERS; k++)
        number[k] = arena_alloc(a, count * sizeof(int64_t));
    for (size_t k = 0; k < 2; k++)
        windows[k] = arena_alloc(a, count * sizeof(struct strview));
    if (id == NULL || forced == NULL || priced == NULL || number[NUMBERS - 1] == NULL || windows[1] == NULL)
        return false;
    for (size_t i = 0; i < count; i++) {
        const struct gate_call *c = &items[i]->gate;
        if (revived && !items[i]->is_revived)
            continue;
        id[n] = c->call.call_id;
        forced[n] = items[i]->forced ? 1 : 0;
        priced[n] = c->is_priced ? 1 : 0;
        number[ACCOUNT][n] = c->has_account ? c->account : 0;
        number[RAW][n] = c->raw_nanos;
        number[BILLED][n] = c->billed_nanos;
        number[MARKUP][n] = c->markup_ppm;
        number[ADMITTED_AT][n] = c->call.admitted_at;
        if (!ids_text(h, c, false, &windows[0][n]) || !ids_text(h, c, true, &windows[1][n]))
            return false;
        n++;
    }
    pg_put_uuid_array(args, id, n);
    pg_put_i32_array(args, forced, n);
    pg_put_i32_array(args, priced, n);
    for (size_t k = 0; k < ADMITTED_AT; k++)
        pg_put_i64_array(args, number[k], n);
    pg_put_text_array(args, windows[0], n);
    pg_put_text_array(args, windows[1], n);
    pg_put_time_array(args, number[ADMITTED_AT], n);
    pg_put_time(args, at + h->options.lifetime_us);
    return true;
}
