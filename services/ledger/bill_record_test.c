/* What no honest record holds is parked before Postgres sees it. */
#include "bill_record.h"

#include "base/buffer.h"
#include "spend/avro_codec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define YEAR_2200_US 7258118400000000LL
#define LONGEST      3000

struct fixture {
    struct arena arena;
    struct buffer bytes;
    char text[LONGEST];
    struct attributed_call good;
    struct dead_letter letter;
    struct strview key;
    struct bill_record record;
};

static int setup(void **state)
{
    static struct fixture f;
    struct err err;
    f = (struct fixture){0};
    arena_init(&f.arena, 1 << 20);
    buffer_init(&f.bytes, 1 << 20);
    memset(f.text, 'x', sizeof f.text);
    assert_true(avro_codec_open(&err));
    const struct record_origin origin = {.topic = SV_LIT("spend.calls"), .partition = 1, .offset = 7};
    const struct spend_call call = {
        .source_id = SV_LIT("1"),
        .admitted_at = 1700000000000000,
        .received_at = 1700000000000000,
        .path = SV_LIT("/v1/chat/completions"),
        .upstream = SV_LIT("litellm"),
        .outcome = OUTCOME_COMPLETED,
    };
    f.good = (struct attributed_call){
        .call = call, .origin = origin, .account_id = SV_LIT("acme"), .raw_nanos = OPT_I64(5)};
    f.letter = (struct dead_letter){
        .reason = SV_LIT("untagged"),
        .detail = SV_LIT("no tag names an account"),
        .original = SV_LIT(""),
        .origin = origin,
        .first_seen = 1700000000000000,
        .has_call = true,
        .call = call,
        .has_hash = true,
    };
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    arena_free(&f->arena);
    buffer_free(&f->bytes);
    return 0;
}

static enum bill_record_state state_of(struct fixture *f, bool dead)
{
    struct err err;
    const struct input_record input = {.key = f->key, .value = buffer_view(&f->bytes)};
    assert_true(bill_record_read(&input, dead, &f->arena, &f->record, &err));
    return f->record.state;
}

static enum bill_record_state read_attributed(struct fixture *f, const struct attributed_call *v)
{
    struct err err;
    buffer_clear(&f->bytes);
    assert_true(avro_encode_attributed_call(v, &f->bytes, &err));
    return state_of(f, false);
}

static enum bill_record_state read_dead(struct fixture *f, const struct dead_letter *v)
{
    struct err err;
    buffer_clear(&f->bytes);
    assert_true(avro_encode_dead_letter(v, &f->bytes, &err));
    return state_of(f, true);
}

static void test_a_record_as_the_attributor_writes_it_bills(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(read_attributed(f, &f->good), RECORD_BILLS);
    assert_int_equal(read_dead(f, &f->letter), RECORD_BILLS);
}

/* What the attributor could not read has no call: ingest's key is its id. */
static void test_a_malformed_call_only_ends(void **state)
{
    struct fixture *f = *state;
    struct dead_letter d = f->letter;
    struct uuid id;
    const struct {
        const char *key;
        const char *topic;
        enum dead_kind kind;
        enum bill_record_state state;
    } cases[] = {
        {"01890a5d-ac96-774b-bcce-b302099a8057", "spend.calls", DEAD_KIND_CALL, RECORD_ENDS},
        {"01890a5d-ac96-774b-bcce-b302099a8057", "spend.attributed", DEAD_KIND_CALL, RECORD_NOTHING},
        {"01890a5d-ac96-774b-bcce-b302099a8057", "spend.calls", DEAD_KIND_NOTICE, RECORD_NOTHING},
        {"acme", "spend.calls", DEAD_KIND_CALL, RECORD_NOTHING},
        {"", "spend.calls", DEAD_KIND_CALL, RECORD_NOTHING},
    };
    assert_true(uuid_parse(sv_of(cases[0].key), &id));
    d.reason = SV_LIT("malformed");
    d.has_call = d.has_hash = false;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        f->key = sv_of(cases[i].key);
        d.origin.topic = sv_of(cases[i].topic);
        d.kind = cases[i].kind;
        assert_int_equal(read_dead(f, &d), cases[i].state);
        if (cases[i].state == RECORD_ENDS)
            assert_int_equal(uuid_cmp(&f->record.call_id, &id), 0);
    }
}

static void test_a_text_is_taken_up_to_its_limit_and_parked_beyond(void **state)
{
    struct fixture *f = *state;
    struct attributed_call v = f->good;
    struct dead_letter d = f->letter;
    const struct {
        struct strview *text;
        size_t limit;
    } cases[] = {
        {&v.task_id, LIMIT_TAG_BYTES},       {&v.conversation_id, LIMIT_TAG_BYTES},
        {&v.user, LIMIT_ID_BYTES},           {&v.team, LIMIT_ID_BYTES},
        {&v.price_key, LIMIT_TEXT_BYTES},    {&v.origin.topic, LIMIT_TEXT_BYTES},
        {&v.account_id, LIMIT_ID_BYTES},     {&d.detail, LIMIT_DETAIL_BYTES},
        {&d.origin.topic, LIMIT_TEXT_BYTES},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const size_t lengths[] = {cases[i].limit, cases[i].limit + 1, LONGEST};
        for (size_t k = 0; k < 3; k++) {
            v = f->good;
            d = f->letter;
            *cases[i].text = sv_of_bytes(f->text, lengths[k]);
            bool bills = read_attributed(f, &v) == RECORD_BILLS;
            bills = read_dead(f, &d) == RECORD_BILLS && bills;
            assert_int_equal(bills, k == 0);
        }
    }
    v = f->good;
    v.task_id = sv_of_bytes(f->text, LIMIT_TAG_BYTES + 1);
    assert_int_equal(read_attributed(f, &v), RECORD_POISON);
    assert_non_null(strstr(f->record.why, "task_id"));
}

static void test_a_time_before_1970_or_from_2200_on_is_parked(void **state)
{
    struct fixture *f = *state;
    struct attributed_call v = f->good;
    struct dead_letter d = f->letter;
    int64_t *const times[] = {&v.config_watermark, &v.redrive.at,       &d.first_seen,
                              &d.redrive.at,       &v.call.received_at, &d.call.received_at};
    static const int64_t values[] = {0, YEAR_2200_US - 1, -1, YEAR_2200_US, INT64_MIN, INT64_MAX};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        for (size_t k = 0; k < sizeof values / sizeof values[0]; k++) {
            v = f->good;
            d = f->letter;
            v.redrive = d.redrive = (struct redrive){.has = true, .set = SV_LIT("s")};
            *times[i] = values[k];
            bool bills = read_attributed(f, &v) == RECORD_BILLS;
            bills = read_dead(f, &d) == RECORD_BILLS && bills;
            assert_int_equal(bills, k < 2);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_record_as_the_attributor_writes_it_bills, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_malformed_call_only_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_text_is_taken_up_to_its_limit_and_parked_beyond, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_time_before_1970_or_from_2200_on_is_parked, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
