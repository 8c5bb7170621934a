/* Against a ledger that answers as each test says, on a real socket. */
#include "ingest/gate_client.h"

#include "base/clock.h"
#include "ingest/json_pick.h"
#include "ingest/meter.h"

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define WAIT_US  300000LL
#define RENEW_US 100000LL
#define SAID_MAX 1024
#define AT       "2026-09-21T14:13:20.000001Z"

static struct event_base *base;
static struct evhttp *server;
static struct gate_client *gate;
static char url[64];
static int64_t renew_us = RENEW_US;

/* What the ledger was told: "path n" each, and the body. */
static struct {
    char path[64];
    size_t count;
    char body[65536];
} said[SAID_MAX];
static size_t said_count;
static int answer_status;     /* 0: none, the request hangs */
static const char *state;     /* of each call */
static const char *bad_model; /* bad_status for a request that holds it */
static int bad_status;
static const char *busy_model; /* a call that holds it is busy */
static struct evhttp_request *hanging[SAID_MAX];
static size_t hanging_count;

static size_t answer_calls(const char *body, const char *path, struct evbuffer *out)
{
    struct json_scan scan;
    struct json_value value;
    size_t count = 0;
    const char *word = strstr(path, "renew") != NULL && strcmp(state, "refused") == 0 ? "placed" : state;
    json_scan_init(&scan, sv_of(body), 8);
    assert_true(json_scan_value(&scan, &value));
    evbuffer_add_printf(out, "{\"items\":[");
    while (json_scan_item(&scan, &value)) {
        struct strview whole;
        struct json_pick id = {.path = "call_id"};
        assert_true(json_scan_skip(&scan, &value, &whole) && json_pick(whole, &id, 1));
        bool busy =
            busy_model != NULL && memmem(whole.ptr, whole.len, busy_model, strlen(busy_model)) != NULL;
        evbuffer_add_printf(out, "%s{\"call_id\":\"" SV_FMT "\",\"state\":\"%s\",\"admitted_at\":\"" AT "\"}",
                            count == 0 ? "" : ",", SV_ARG(id.value.raw), busy ? "busy" : word);
        count++;
    }
    evbuffer_add_printf(out, "]}");
    return count;
}

static void on_request(struct evhttp_request *req, void *arg)
{
    (void)arg;
    struct evbuffer *in = evhttp_request_get_input_buffer(req);
    struct evbuffer *out = evbuffer_new();
    static char body[65536];
    size_t len = evbuffer_get_length(in);
    assert_true(len < sizeof body && evbuffer_remove(in, body, len) == (int)len);
    body[len] = '\0';
    const char *path = evhttp_request_get_uri(req);
    size_t count = answer_calls(body, path, out);
    if (count > 0) { /* a probe is nothing to tell of */
        assert_true(said_count < SAID_MAX);
        (void)snprintf(said[said_count].path, sizeof said[0].path, "%s", path);
        memcpy(said[said_count].body, body, len + 1);
        said[said_count++].count = count;
    }
    bool bad = bad_model != NULL && strstr(body, bad_model) != NULL;
    if (answer_status == 0)
        hanging[hanging_count++] = req;
    else
        evhttp_send_reply(req, bad ? bad_status : answer_status, NULL,
                          answer_status == 200 && !bad ? out : NULL);
    evbuffer_free(out);
}

struct asker {
    struct spend_call call;
    struct gate_ticket *ticket;
    int answers;
    bool away;
    enum gate_reply_state state;
    int64_t admitted_at;
    bool ends_at_once; /* the call is over with its answer */
};

static void on_answer(void *arg, bool away, const struct gate_reply *reply)
{
    struct asker *a = arg;
    a->answers++;
    a->away = away;
    a->state = reply->state;
    a->admitted_at = reply->admitted_at;
    if (a->ends_at_once)
        gate_ticket_void(a->ticket);
}

static int late_answers;
static int late_away;

static void on_late(void *arg, bool away, const struct gate_reply *reply)
{
    assert_null(arg);
    assert_true(away || reply->state == GATE_REPLY_REFUSED);
    late_answers++;
    late_away += away ? 1 : 0;
}

static void ask(struct asker *a, const char *model)
{
    static const struct gate_size size = {400, {.has = false}, {.has = false}};
    *a = (struct asker){.call = {.call_id = uuid_v7(clock_now_us()), .model_requested = sv_of(model)}};
    a->ticket = gate_client_ask(gate, &a->call, &size, on_answer, a);
    assert_non_null(a->ticket);
}

/* Turns the loop until it is so. */
#define UNTIL(condition)                                                                                     \
    do {                                                                                                     \
        int64_t end_us = clock_mono_us() + 20LL * US_PER_SECOND;                                             \
        while (!(condition)) {                                                                               \
            assert_true(clock_mono_us() < end_us);                                                           \
            assert_int_equal(event_base_loop(base, EVLOOP_ONCE), 0);                                         \
        }                                                                                                    \
    } while (0)

static void assert_said(size_t i, const char *path, size_t count)
{
    assert_true(i < said_count);
    assert_string_equal(said[i].path, path);
    assert_int_equal(said[i].count, count);
}

static void start(bool observe, size_t tickets_max)
{
    struct err err = {0};
    const struct gate_client_options options = {.base = base,
                                                .ledger_url = url,
                                                .observe = observe,
                                                .wait_us = WAIT_US,
                                                .renew_us = renew_us,
                                                .trial_us = WAIT_US,
                                                .tickets_max = tickets_max};
    const char *why;
    said_count = hanging_count = 0;
    answer_status = 200;
    state = "placed";
    bad_model = busy_model = NULL;
    assert_true(gate_client_new(&gate, &options, &err));
    UNTIL(gate_client_is_well(gate, &why));
}

static void stop(void)
{
    gate_client_free(gate);
    while (hanging_count > 0)
        evhttp_send_reply(hanging[--hanging_count], 503, NULL, NULL);
}

static void test_one_request_carries_all_that_waited_for_the_last(void **unused)
{
    (void)unused;
    static struct asker a[1 + GATE_AT_ONCE + 5];
    const size_t many = sizeof a / sizeof a[0];
    start(false, 1000);
    for (size_t i = 0; i < many; i++)
        ask(&a[i], "m");
    UNTIL(a[many - 1].answers == 1);
    assert_int_equal(said_count, 3);
    assert_said(0, "/v1/holds", 1);
    assert_said(1, "/v1/holds", GATE_AT_ONCE);
    assert_said(2, "/v1/holds", 5);
    for (size_t i = 0; i < many; i++) {
        assert_true(a[i].answers == 1 && !a[i].away && a[i].state == GATE_REPLY_PLACED);
        assert_int_equal(a[i].admitted_at, 1790000000000001);
        gate_ticket_void(a[i].ticket);
    }
    UNTIL(gate_client_is_told(gate));
    stop();
}

static void test_a_hold_is_renewed_while_its_call_runs_and_then_captured(void **unused)
{
    (void)unused;
    struct asker a;
    start(false, 1000);
    ask(&a, "m");
    UNTIL(said_count == 3);
    assert_said(1, "/v1/holds/renew", 1);
    assert_said(2, "/v1/holds/renew", 1);
    a.call.outcome = OUTCOME_COMPLETED;
    a.call.usage.units[USAGE_OUTPUT] = OPT_I64(7);
    gate_ticket_capture(a.ticket, &a.call);
    assert_false(gate_client_is_told(gate));
    assert_int_equal(meter_value(METER_GATE_UNTOLD), 1);
    UNTIL(gate_client_is_told(gate));
    assert_int_equal(meter_value(METER_GATE_UNTOLD), 0);
    assert_string_equal(said[said_count - 1].path, "/v1/holds/capture");
    assert_non_null(strstr(said[said_count - 1].body, "\"output\":7"));
    size_t before = said_count;
    int64_t later = clock_mono_us() + 3 * RENEW_US;
    UNTIL(clock_mono_us() > later);
    assert_int_equal(said_count, before); /* and not renewed any more */
    stop();
}

static void test_a_caller_that_leaves_before_the_answer_leaves_no_hold(void **unused)
{
    (void)unused;
    struct asker a;
    struct asker waiting;
    start(false, 1000);
    ask(&a, "m");
    ask(&waiting, "m"); /* behind it, not asked for yet */
    gate_ticket_void(waiting.ticket);
    gate_ticket_void(a.ticket);
    UNTIL(gate_client_is_told(gate));
    assert_int_equal(a.answers + waiting.answers, 0);
    assert_int_equal(said_count, 2);
    assert_said(0, "/v1/holds", 1);
    assert_said(1, "/v1/holds/void", 1);
    stop();
}

static void test_a_refused_call_has_nothing_to_end(void **unused)
{
    (void)unused;
    struct asker a;
    start(false, 1000);
    state = "refused";
    ask(&a, "m");
    UNTIL(a.answers == 1);
    assert_true(!a.away && a.state == GATE_REPLY_REFUSED);
    gate_ticket_void(a.ticket);
    assert_true(gate_client_is_told(gate));
    assert_int_equal(said_count, 1);
    stop();
}

static void test_what_is_let_through_without_an_answer_is_told_and_ended_later(void **unused)
{
    (void)unused;
    struct asker a;
    struct asker late;
    start(false, 1000);
    answer_status = 503;
    ask(&a, "m");
    UNTIL(a.answers == 1);
    assert_true(a.away);
    gate_ticket_force(a.ticket, 1790000000000001);
    const char *why;
    UNTIL(!gate_client_is_well(gate, &why));
    int64_t asked = clock_mono_us();
    ask(&late, "m"); /* it is known to be away: nobody waits */
    UNTIL(late.answers == 1);
    assert_true(late.away && clock_mono_us() - asked < WAIT_US);
    gate_ticket_void(late.ticket);
    a.call.outcome = OUTCOME_COMPLETED;
    gate_ticket_capture(a.ticket, &a.call);
    assert_false(gate_client_is_told(gate));
    size_t before = said_count;
    answer_status = 200;
    UNTIL(gate_client_is_told(gate));
    size_t forced = before;
    while (forced < said_count &&
           strstr(said[forced].body, "\"forced\":1,\"admitted_at\":\"" AT "\"") == NULL)
        forced++;
    assert_true(forced < said_count - 1);
    assert_said(forced, "/v1/holds", 1);
    assert_said(said_count - 1, "/v1/holds/capture", 1);
    UNTIL(gate_client_is_well(gate, &why));
    stop();
}

static void test_a_place_without_an_answer_is_voided_once_there_is_one(void **unused)
{
    (void)unused;
    struct asker a;
    start(false, 1000);
    answer_status = 0; /* it is read, perhaps done, and never answered */
    ask(&a, "m");
    UNTIL(a.answers == 1);
    assert_true(a.away);
    gate_ticket_void(a.ticket);
    assert_false(gate_client_is_told(gate));
    answer_status = 200;
    UNTIL(gate_client_is_told(gate));
    assert_said(said_count - 1, "/v1/holds/void", 1);
    stop();
}

static void test_calls_that_end_with_their_answer_are_all_told(void **unused)
{
    (void)unused;
    struct asker a[4];
    const char *why;
    start(false, 1000);
    answer_status = 503;
    ask(&a[0], "m");
    a[0].ends_at_once = true;
    UNTIL(a[0].answers == 1);
    UNTIL(!gate_client_is_well(gate, &why));
    for (size_t i = 1; i < 4; i++) {
        ask(&a[i], "m");
        a[i].ends_at_once = true;
    }
    UNTIL(a[1].answers + a[2].answers + a[3].answers == 3);
    assert_int_equal(meter_value(METER_GATE_UNTOLD), 1); /* the one that may be held */
    answer_status = 200;
    UNTIL(gate_client_is_told(gate));
    assert_said(said_count - 1, "/v1/holds/void", 1);
    assert_int_equal(meter_value(METER_GATE_UNTOLD), 0);
    UNTIL(gate_client_is_well(gate, &why));
    stop();
}

static void test_renewals_do_not_wait_until_nothing_else_is_left_to_say(void **unused)
{
    (void)unused;
    static struct asker a[3 * GATE_AT_ONCE];
    const size_t many = sizeof a / sizeof a[0];
    renew_us = 1; /* always due */
    start(false, 1000);
    renew_us = RENEW_US;
    for (size_t i = 0; i < many; i++)
        ask(&a[i], "m");
    for (size_t i = 0; i < many; i++)
        UNTIL(a[i].answers == 1);
    size_t from = said_count;
    for (size_t i = 1; i < many; i++)
        gate_ticket_capture(a[i].ticket, &a[i].call);
    size_t captures = 0;
    while (captures < 3) {
        size_t before = said_count;
        UNTIL(said_count > before);
        captures = 0;
        for (size_t i = from; i < said_count; i++)
            captures += strcmp(said[i].path, "/v1/holds/capture") == 0 ? 1 : 0;
    }
    size_t renewals = 0;
    for (size_t i = from; i < said_count; i++)
        renewals += strcmp(said[i].path, "/v1/holds/renew") == 0 ? 1 : 0;
    assert_true(renewals >= 2);
    gate_ticket_void(a[0].ticket);
    UNTIL(gate_client_is_told(gate));
    stop();
}

static void test_one_bad_call_does_not_spoil_the_others(void **unused)
{
    const int *const status = *unused; /* what is answered to a request with it */
    struct asker a[6];
    start(false, 1000);
    bad_model = "unheard";
    bad_status = *status;
    for (size_t i = 0; i < 6; i++)
        ask(&a[i], i == 3 ? "unheard" : "m");
    for (size_t i = 0; i < 6; i++)
        UNTIL(a[i].answers == 1);
    for (size_t i = 0; i < 6; i++)
        assert_true(a[i].away == (i == 3));
    const char *why;
    assert_true(gate_client_is_well(gate, &why));
    for (size_t i = 0; i < 6; i++)
        gate_ticket_void(a[i].ticket);
    UNTIL(gate_client_is_told(gate));
    stop();
}

static size_t said_of(size_t from, const char *path, const char *words)
{
    size_t n = 0;
    for (size_t i = from; i < said_count; i++)
        n += strcmp(said[i].path, path) == 0 && strstr(said[i].body, words) != NULL ? 1 : 0;
    return n;
}

/* A proxy's in front of it, say: nothing is told by it, and nothing lost. */
static void test_an_answer_that_is_not_the_ledgers_is_none(void **unused)
{
    (void)unused;
    struct asker a;
    struct asker b;
    const char *why;
    int64_t dropped = meter_value(METER_GATE_DROPPED);
    start(false, 1000);
    ask(&a, "m");
    UNTIL(a.answers == 1);
    size_t from = said_count;
    int64_t began = clock_mono_us();
    answer_status = 502;
    a.call.outcome = OUTCOME_COMPLETED;
    gate_ticket_capture(a.ticket, &a.call);
    ask(&b, "m");
    UNTIL(b.answers == 1);
    assert_true(b.away);
    gate_ticket_force(b.ticket, 1790000000000001);
    UNTIL(!gate_client_is_well(gate, &why));
    assert_int_equal(meter_value(METER_GATE_AWAY), 1);
    assert_true((int64_t)(said_count - from) <= 2 * (1 + (clock_mono_us() - began) / 50000));
    gate_ticket_capture(b.ticket, &b.call);
    from = said_count;
    answer_status = 200;
    UNTIL(gate_client_is_told(gate));
    assert_int_equal(said_of(from, "/v1/holds", "\"forced\":1"), 1);
    assert_int_equal(said_of(from, "/v1/holds/void", ""), 0);
    assert_true(said_of(from, "/v1/holds/capture", "completed") >= 1);
    assert_int_equal(meter_value(METER_GATE_DROPPED), dropped);
    stop();
}

/* A hold is not ended before its bill because its end was not understood. */
static void test_what_the_ledger_does_not_take_is_dropped_and_counted(void **status)
{
    struct asker a;
    struct asker b;
    int64_t dropped = meter_value(METER_GATE_DROPPED);
    start(false, 1000);
    ask(&a, "unheard");
    UNTIL(a.answers == 1);
    bad_model = "unheard";
    bad_status = *(const int *)*status;
    size_t from = said_count;
    gate_ticket_capture(a.ticket, &a.call);
    UNTIL(gate_client_is_told(gate));
    assert_int_equal(said_of(from, "/v1/holds/capture", "unheard"), 1);
    assert_int_equal(meter_value(METER_GATE_DROPPED), dropped + 1);
    ask(&b, "unheard");
    UNTIL(b.answers == 1);
    assert_true(b.away);
    gate_ticket_force(b.ticket, 1790000000000001);
    UNTIL(meter_value(METER_GATE_DROPPED) == dropped + 2);
    gate_ticket_capture(b.ticket, &b.call);
    UNTIL(gate_client_is_told(gate));
    assert_int_equal(said_of(from, "/v1/holds/capture", ""), 1);
    assert_int_equal(said_of(from, "/v1/holds/void", ""), 0);
    stop();
}

static void test_a_ledger_that_takes_nothing_is_away(void **unused)
{
    (void)unused;
    struct asker a;
    const char *why;
    start(false, 1000);
    bad_model = "unheard";
    bad_status = 500;
    for (int i = 0; i < 3; i++) {
        assert_true(gate_client_is_well(gate, &why));
        ask(&a, "unheard");
        UNTIL(a.answers == 1);
        gate_ticket_leave(a.ticket, on_late);
    }
    UNTIL(meter_value(METER_GATE_AWAY) == 1);
    for (int i = 0; i < 6; i++) { /* its answers to probes do not make it well */
        UNTIL(gate_client_is_well(gate, &why));
        ask(&a, "unheard");
        UNTIL(a.answers == 1);
        assert_true(a.away && meter_value(METER_GATE_AWAY) == 1);
        gate_ticket_leave(a.ticket, on_late);
    }
    UNTIL(meter_value(METER_GATE_AWAY) == 0);
    UNTIL(gate_client_is_told(gate));
    stop();
}

/* On trial it is asked on, and of nothing there is nothing to refuse. */
static void test_a_ledger_that_answers_probes_once_is_not_well(void **unused)
{
    (void)unused;
    static const int faults[] = {503, 500, 400};
    const char *why;
    start(false, 1000);
    UNTIL(gate_client_is_well(gate, &why));
    answer_status = 503;
    struct asker a[2]; /* one alone, again and again, would be taken for refused */
    for (size_t i = 0; i < 2; i++)
        ask(&a[i], "m");
    UNTIL(a[0].answers == 1 && a[1].answers == 1 && meter_value(METER_GATE_AWAY) == 1);
    for (size_t i = 0; i < 2; i++)
        gate_ticket_leave(a[i].ticket, on_late);
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        answer_status = 200;
        UNTIL(gate_client_is_well(gate, &why));
        answer_status = faults[i];
        UNTIL(!gate_client_is_well(gate, &why));
        assert_true(meter_value(METER_GATE_AWAY) == 1);
    }
    answer_status = 200;
    UNTIL(meter_value(METER_GATE_AWAY) == 0);
    UNTIL(gate_client_is_told(gate));
    stop();
}

/* A row that somebody else has locked: busy is the call that wants it, and no other. */
static void test_one_call_that_is_locked_out_keeps_none_from_the_gate(void **unused)
{
    (void)unused;
    struct asker locked;
    struct asker others[20];
    start(false, 1000);
    busy_model = "unheard";
    ask(&locked, "unheard");
    for (size_t i = 0; i < 20; i++) {
        ask(&others[i], "m");
        UNTIL(others[i].answers == 1);
        assert_false(others[i].away);
        gate_ticket_void(others[i].ticket);
    }
    UNTIL(locked.answers == 1);
    assert_true(locked.away); /* it has waited as long as it may */
    gate_ticket_void(locked.ticket);
    ask(&locked, "unheard");
    ask(&others[0], "m");
    UNTIL(others[0].answers == 1);
    assert_int_equal(locked.answers, 0);
    busy_model = NULL;
    UNTIL(locked.answers == 1);
    assert_true(!locked.away && locked.state == GATE_REPLY_PLACED);
    gate_ticket_void(locked.ticket);
    gate_ticket_void(others[0].ticket);
    UNTIL(gate_client_is_told(gate));
    stop();
}

/* .. of an end 503 is the answer to all that came with it: then they go one by one. */
static void test_one_end_that_is_locked_out_keeps_none_from_being_told(void **unused)
{
    (void)unused;
    struct asker a[6];
    start(false, 1000);
    for (size_t i = 0; i < 6; i++)
        ask(&a[i], i == 2 ? "unheard" : "m");
    for (size_t i = 0; i < 6; i++)
        UNTIL(a[i].answers == 1);
    bad_model = "unheard";
    bad_status = 503;
    for (size_t i = 0; i < 6; i++)
        gate_ticket_capture(a[i].ticket, &a[i].call);
    UNTIL(meter_value(METER_GATE_UNTOLD) == 1);
    bad_model = NULL;
    UNTIL(gate_client_is_told(gate));
    stop();
}

/* Its place may have been answered long ago, and that answer lost. */
static void test_what_is_told_late_is_renewed_at_once(void **unused)
{
    (void)unused;
    struct asker a;
    struct asker before;
    renew_us = 60LL * US_PER_SECOND;
    start(false, 1000);
    renew_us = RENEW_US;
    ask(&before, "m");
    UNTIL(before.answers == 1);
    answer_status = 503;
    ask(&a, "m");
    UNTIL(a.answers == 1);
    gate_ticket_force(a.ticket, 1790000000000001);
    answer_status = 200;
    size_t from = said_count;
    char id[UUID_TEXT_LEN + 1];
    uuid_format(&a.call.call_id, id);
    UNTIL(said_of(from, "/v1/holds/renew", id) == 1);
    gate_ticket_void(a.ticket);
    gate_ticket_void(before.ticket);
    UNTIL(gate_client_is_told(gate));
    assert_int_equal(said_of(from, "/v1/holds/renew", ""), 1);
    stop();
}

static void test_a_hold_that_is_gone_is_not_ended(void **unused)
{
    (void)unused;
    struct asker a;
    start(false, 1000);
    ask(&a, "m");
    UNTIL(a.answers == 1);
    state = "expired";
    UNTIL(said_count == 2);
    assert_said(1, "/v1/holds/renew", 1);
    int64_t later = clock_mono_us() + 3 * RENEW_US;
    UNTIL(clock_mono_us() > later);
    gate_ticket_capture(a.ticket, &a.call);
    assert_true(gate_client_is_told(gate));
    assert_int_equal(said_count, 2);
    stop();
}

static void test_more_than_may_wait_are_dropped(void **unused)
{
    (void)unused;
    struct asker a[3];
    renew_us = 60LL * US_PER_SECOND;
    start(false, 2);
    renew_us = RENEW_US;
    for (size_t i = 0; i < 3; i++)
        ask(&a[i], "m");
    for (size_t i = 0; i < 3; i++)
        UNTIL(a[i].answers == 1);
    int64_t dropped = meter_value(METER_GATE_DROPPED);
    for (size_t i = 0; i < 3; i++)
        gate_ticket_capture(a[i].ticket, &a[i].call);
    UNTIL(gate_client_is_told(gate));
    assert_int_equal(meter_value(METER_GATE_DROPPED) - dropped, 1);
    stop();
}

static void test_to_observe_holds_nothing(void **unused)
{
    (void)unused;
    struct asker a;
    start(true, 1000);
    state = "refused";
    ask(&a, "m");
    UNTIL(a.answers == 1);
    assert_int_equal(a.state, GATE_REPLY_REFUSED);
    assert_said(0, "/v1/holds?observe=true", 1);
    gate_ticket_leave(a.ticket, on_late);
    answer_status = 503;
    ask(&a, "m");
    UNTIL(a.answers == 1);
    assert_true(a.away);
    gate_ticket_leave(a.ticket, on_late);
    assert_true(gate_client_is_told(gate));
    assert_int_equal(late_answers, 0);
    stop();
}

static void test_what_is_observed_is_counted_also_when_the_call_was_faster(void **unused)
{
    (void)unused;
    struct asker a[3];
    late_answers = late_away = 0;
    start(true, 1000);
    state = "refused";
    for (size_t i = 0; i < 3; i++) {
        ask(&a[i], "m");
        gate_ticket_leave(a[i].ticket, on_late);
    }
    UNTIL(late_answers == 3);
    assert_int_equal(late_away, 0);
    answer_status = 0; /* .. or when none came, asked for or not */
    for (size_t i = 0; i < 2; i++) {
        ask(&a[i], "m");
        gate_ticket_leave(a[i].ticket, on_late);
    }
    UNTIL(late_answers == 5);
    assert_int_equal(late_away, 2);
    assert_int_equal(a[0].answers + a[1].answers + a[2].answers, 0);
    assert_int_equal(meter_value(METER_GATE_WAITING), 0);
    stop();
}

int main(void)
{
    static int bad_request = 400;
    static int server_error = 500;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_request_carries_all_that_waited_for_the_last),
        cmocka_unit_test(test_a_hold_is_renewed_while_its_call_runs_and_then_captured),
        cmocka_unit_test(test_a_caller_that_leaves_before_the_answer_leaves_no_hold),
        cmocka_unit_test(test_a_refused_call_has_nothing_to_end),
        cmocka_unit_test(test_what_is_let_through_without_an_answer_is_told_and_ended_later),
        cmocka_unit_test(test_a_place_without_an_answer_is_voided_once_there_is_one),
        cmocka_unit_test(test_calls_that_end_with_their_answer_are_all_told),
        cmocka_unit_test(test_renewals_do_not_wait_until_nothing_else_is_left_to_say),
        cmocka_unit_test_prestate(test_one_bad_call_does_not_spoil_the_others, &bad_request),
        cmocka_unit_test_prestate(test_one_bad_call_does_not_spoil_the_others, &server_error),
        cmocka_unit_test(test_an_answer_that_is_not_the_ledgers_is_none),
        cmocka_unit_test_prestate(test_what_the_ledger_does_not_take_is_dropped_and_counted, &bad_request),
        cmocka_unit_test_prestate(test_what_the_ledger_does_not_take_is_dropped_and_counted, &server_error),
        cmocka_unit_test(test_a_ledger_that_takes_nothing_is_away),
        cmocka_unit_test(test_a_ledger_that_answers_probes_once_is_not_well),
        cmocka_unit_test(test_one_call_that_is_locked_out_keeps_none_from_the_gate),
        cmocka_unit_test(test_one_end_that_is_locked_out_keeps_none_from_being_told),
        cmocka_unit_test(test_what_is_told_late_is_renewed_at_once),
        cmocka_unit_test(test_a_hold_that_is_gone_is_not_ended),
        cmocka_unit_test(test_more_than_may_wait_are_dropped),
        cmocka_unit_test(test_to_observe_holds_nothing),
        cmocka_unit_test(test_what_is_observed_is_counted_also_when_the_call_was_faster),
    };
    meter_open();
    base = event_base_new();
    server = evhttp_new(base);
    evhttp_set_allowed_methods(server, EVHTTP_REQ_POST);
    evhttp_set_gencb(server, on_request, NULL);
    struct evhttp_bound_socket *socket = evhttp_bind_socket_with_handle(server, "127.0.0.1", 0);
    struct sockaddr_in address = {0};
    socklen_t len = sizeof address;
    if (socket == NULL ||
        getsockname(evhttp_bound_socket_get_fd(socket), (struct sockaddr *)&address, &len) != 0)
        return 1;
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%d/", ntohs(address.sin_port));
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    evhttp_free(server);
    event_base_free(base);
    return failed;
}
