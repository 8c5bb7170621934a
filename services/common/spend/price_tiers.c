/*
 * price_tiers: the ranges stand in the names, so they are gathered from there.
 */
#include "spend/price_tiers.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PREFIX "tiered_pricing."

/* Puts it in its place, once. */
static bool tier_add(struct price_tiers *tiers, int64_t from)
{
    size_t at = 0;
    while (at < tiers->count && tiers->from[at] < from)
        at++;
    if (at < tiers->count && tiers->from[at] == from)
        return true;
    if (tiers->count == PRICE_TIERS_MAX)
        return false;
    memmove(tiers->from + at + 1, tiers->from + at, (tiers->count - at) * sizeof tiers->from[0]);
    tiers->from[at] = from;
    tiers->count++;
    return true;
}

bool price_tiers_read(const struct price_entry *entry, struct price_tiers *out)
{
    const struct strview prefix = SV_LIT(PRICE_TIERS_PREFIX);
    out->count = 0;
    for (size_t i = 0; i < entry->rate_count; i++) {
        struct strview name = entry->rates[i].name;
        struct strview price;
        int64_t from;
        if (!sv_starts_with(name, SV_LIT(PREFIX)))
            continue;
        if (!sv_starts_with(name, prefix) ||
            !sv_to_i64(sv_cut(sv_of_bytes(name.ptr + prefix.len, name.len - prefix.len), '.', &price),
                       &from) ||
            from < 0 || sv_is_empty(price) || !tier_add(out, from))
            return false;
    }
    return true;
}

bool price_tiers_rate(const struct price_entry *entry, const struct price_tiers *tiers, size_t i,
                      const char *name, int64_t *femtos)
{
    char full[128];
    int len = snprintf(full, sizeof full, PRICE_TIERS_PREFIX "%" PRId64 ".%s", tiers->from[i], name);
    return len > 0 && (size_t)len < sizeof full && price_entry_rate(entry, sv_of(full), femtos);
}

int64_t price_tiers_slice(const struct price_tiers *tiers, size_t i, int64_t units)
{
    int64_t begin = i == 0 ? 0 : tiers->from[i];
    int64_t end = i + 1 < tiers->count && tiers->from[i + 1] < units ? tiers->from[i + 1] : units;
    return end > begin ? end - begin : 0;
}
