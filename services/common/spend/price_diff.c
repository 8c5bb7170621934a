/*
 * price_diff: both books are sorted, so one walk over the two sees every difference.
 */
#include "spend/price_diff.h"

static bool change_add(struct price_diff *diff, struct arena *a, struct price_change change)
{
    if (diff->change_count == PRICE_CHANGES_MAX) {
        diff->left_out++;
        return true;
    }
    return arena_dup(a, change.key, &change.key) && arena_dup(a, change.name, &change.name) &&
           (diff->changes[diff->change_count++] = change, true);
}

static bool entry_changed(struct price_diff *diff, struct arena *a, const struct price_entry *from,
                          const struct price_entry *to, bool *changed)
{
    size_t i = 0;
    size_t k = 0;
    *changed = false;
    while (i < from->rate_count || k < to->rate_count) {
        const struct price_rate *old = i < from->rate_count ? &from->rates[i] : NULL;
        const struct price_rate *new = k < to->rate_count ? &to->rates[k] : NULL;
        int order = old == NULL ? 1 : new == NULL ? -1 : sv_cmp(old->name, new->name);
        struct price_change change = {.key = to->key};
        if (new != NULL && order >= 0) {
            change.name = new->name;
            change.to = OPT_I64(new->femtos);
        }
        if (old != NULL && order <= 0) {
            change.name = old->name;
            change.from = OPT_I64(old->femtos);
        }
        i += order <= 0;
        k += order >= 0;
        if (order == 0 && change.from.v == change.to.v)
            continue;
        *changed = true;
        if (!change_add(diff, a, change))
            return false;
    }
    return true;
}

bool price_diff_make(const struct price_book *from, const struct price_book *to, struct arena *a,
                     struct price_diff *out)
{
    const struct price_book none = {.entry_count = 0};
    size_t i = 0;
    size_t k = 0;
    if (from == NULL)
        from = &none;
    *out = (struct price_diff){.changes = arena_alloc(a, PRICE_CHANGES_MAX * sizeof *out->changes)};
    if (out->changes == NULL)
        return false;
    while (i < from->entry_count || k < to->entry_count) {
        const struct price_entry *old = i < from->entry_count ? &from->entries[i] : NULL;
        const struct price_entry *new = k < to->entry_count ? &to->entries[k] : NULL;
        int order = old == NULL ? 1 : new == NULL ? -1 : sv_cmp(old->key, new->key);
        bool changed = false;
        bool ok = true;
        if (old != NULL && new != NULL && order == 0)
            ok = entry_changed(out, a, old, new, &changed);
        else if (old != NULL && order < 0)
            ok = change_add(out, a, (struct price_change){.key = old->key});
        else if (new != NULL)
            ok = change_add(out, a, (struct price_change){.key = new->key, .is_new = true});
        if (!ok)
            return false;
        out->changed += changed;
        out->removed += order < 0;
        out->added += order > 0;
        i += order <= 0;
        k += order >= 0;
    }
    return true;
}
