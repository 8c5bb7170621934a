/*
 * twin_rules: one command a rule of common/spend and base/money.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/money.h"
#include "spend/attribute.h"
#include "spend/avro_codec.h"
#include "spend/rank_fold.h"
#include "spend/rater.h"
#include "spend/tag_set.h"
#include "twin.h"

/* false: it is malformed, and that was said. */
static bool take_call(struct twin *t, size_t word, struct spend_call *call)
{
    struct err err;
    if (avro_decode_spend_call(twin_bytes(t, word), &t->arena, call, &err) && spend_call_check(call, &err))
        return true;
    twin_say(t, "malformed");
    return false;
}

void twin_check(struct twin *t)
{
    struct spend_call call;
    if (take_call(t, 1, &call))
        twin_say(t, "ok");
}

void twin_hash(struct twin *t)
{
    struct spend_call call;
    uint8_t hash[SHA256_LEN];
    if (!take_call(t, 1, &call))
        return;
    spend_call_hash(&call, t->sha, hash);
    twin_say_bytes(t, sv_of_bytes(hash, sizeof hash));
}

static void say_tags(struct twin *t, const struct tag *tags, size_t count)
{
    twin_say_number(t, (int64_t)count);
    for (size_t i = 0; i < count; i++) {
        twin_say_bytes(t, tags[i].raw);
        twin_say_bytes(t, tags[i].key);
        twin_say_bytes(t, tags[i].value);
        twin_say_number(t, (int64_t)tags[i].origins);
    }
}

/* tags (list|item|user|other ORIGIN TEXT)*: what capture makes of it. */
void twin_tags(struct twin *t)
{
    struct tag_set set;
    tag_set_init(&set);
    for (size_t i = 1; i + 2 < t->word_count; i += 3) {
        enum tag_origin origin = (enum tag_origin)twin_number(t, i + 1);
        struct strview text = twin_bytes(t, i + 2);
        switch (t->words[i].ptr[0]) {
        case 'l':
            tag_set_add_list(&set, text, origin);
            break;
        case 'i':
            tag_set_add_item(&set, text, origin);
            break;
        case 'u':
            tag_set_add_user(&set, text, &t->arena);
            break;
        default:
            tag_set_count_non_string(&set);
            break;
        }
    }
    twin_say_number(t, (int64_t)set.empty);
    twin_say_number(t, (int64_t)set.non_string);
    twin_say_number(t, (int64_t)set.refused);
    twin_say_number(t, (int64_t)set.fault);
    say_tags(t, set.tags, set.count);
}

void twin_attribute(struct twin *t)
{
    static const char *const verdicts[] = {"account", "untagged", "unknown", "conflict"};
    const struct attribute_rules rules = {SV_LIT("account_id"), SV_LIT("task"), SV_LIT("conversation")};
    struct spend_call call;
    struct attribution *out = calloc(1, sizeof *out);
    if (out != NULL && take_call(t, 1, &call)) {
        attribute(&call, t->registry, &rules, out);
        twin_say(t, verdicts[out->verdict]);
        if (out->verdict == ATTRIBUTE_ACCOUNT) {
            const struct strview named[] = {out->account_id, out->task_id, out->conversation_id, out->user,
                                            out->team};
            twin_say(t, spend_route_name(out->route));
            for (size_t i = 0; i < sizeof named / sizeof named[0]; i++)
                twin_say_bytes(t, named[i]);
        }
        say_tags(t, out->tags, out->tag_count);
    }
    free(out);
}

/* rate CALL KNOWN_BY */
void twin_rate(struct twin *t)
{
    struct spend_call call;
    struct rate_result out;
    struct err err;
    if (!take_call(t, 1, &call))
        return;
    if (!rater_rate(&call, t->registry, t->prices, twin_number(t, 2), &out, &err)) {
        twin_say(t, "overflow");
        return;
    }
    if (out.verdict == RATE_UNPRICED) {
        twin_say(t, "unpriced");
        return;
    }
    twin_say(t, spend_rating_name(out.rating));
    twin_say_number(t, out.raw_nanos);
    twin_say_number(t, out.price_version);
    twin_say_bytes(t, out.price_key);
}

/* fold (attributed|dead RECORD)*: the ranks after each, and what it changed. */
void twin_fold(struct twin *t)
{
    struct call_ranks ranks = {0};
    for (size_t i = 1; i + 1 < t->word_count; i += 2) {
        struct attributed_call attributed;
        struct dead_letter dead;
        struct call_record record;
        struct err err;
        bool ok = t->words[i].ptr[0] == 'a'
                      ? avro_decode_attributed_call(twin_bytes(t, i + 1), &t->arena, &attributed, &err)
                      : avro_decode_dead_letter(twin_bytes(t, i + 1), &t->arena, &dead, &err);
        if (!ok) {
            twin_say(t, "malformed");
            return;
        }
        if (t->words[i].ptr[0] == 'a')
            call_record_of_attributed(&attributed, &record);
        else
            call_record_of_dead_letter(&dead, &record);
        twin_say_number(t, rank_fold(&ranks, &record));
    }
    twin_say_bytes(t, sv_of_bytes(ranks.identity, sizeof ranks.identity));
    twin_say_bytes(t, sv_of_bytes(ranks.measurement, sizeof ranks.measurement));
    twin_say_bytes(t, sv_of_bytes(ranks.attribution, sizeof ranks.attribution));
}

static struct bill take_bill(const struct twin *t, size_t word)
{
    return (struct bill){
        .has_account = twin_number(t, word) != 0,
        .account = twin_number(t, word + 1),
        .has_amount = twin_number(t, word + 2) != 0,
        .billed_nanos = twin_number(t, word + 3),
    };
}

/* move (HAS ACCOUNT HAS AMOUNT){2} */
void twin_move(struct twin *t)
{
    static const char *const kinds[] = {
        [MOVE_DEDUCTION] = "deduction", [MOVE_ADJUSTMENT] = "adjustment", [MOVE_REVERSAL] = "reversal"};
    struct bill before = take_bill(t, 1);
    struct bill after = take_bill(t, 5);
    struct movement moves[2];
    size_t count = 0;
    if (!bill_difference(&before, &after, moves, &count)) {
        twin_say(t, "overflow");
        return;
    }
    twin_say_number(t, (int64_t)count);
    for (size_t i = 0; i < count; i++) {
        twin_say_number(t, moves[i].account);
        twin_say_number(t, moves[i].amount_nanos);
        twin_say(t, kinds[moves[i].kind]);
    }
}

/* money femtos UNITS RATE | markup RAW PPM | decimal TEXT SCALE | usd NANOS */
void twin_money(struct twin *t)
{
    struct err err;
    char text[MONEY_TEXT_MAX];
    int64_t out = 0;
    bool was_rounded = false;
    bool ok = false;
    switch (t->words[1].ptr[0]) {
    case 'f':
        ok = money_from_femtos((int128)twin_number(t, 2) * twin_number(t, 3), 1, &out);
        break;
    case 'm':
        ok = money_mark_up(twin_number(t, 2), twin_number(t, 3), &out);
        break;
    case 'd':
        ok = money_parse_decimal(twin_bytes(t, 2), (int)twin_number(t, 3), &out, &was_rounded, &err);
        break;
    default:
        (void)money_format_usd(twin_number(t, 2), text);
        twin_say(t, text);
        return;
    }
    if (!ok) {
        twin_say(t, "no");
        return;
    }
    twin_say_number(t, out);
    twin_say_number(t, was_rounded);
}
