#include "ingest/gate_health.h"

#include "base/clock.h"
#include "base/log.h"

void gate_health_init(struct gate_health *h, const char *url, int64_t wait_us, int64_t trial_us)
{
    *h = (struct gate_health){
        .url = url, .wait_us = wait_us, .trial_us = trial_us, .away_for = METER_GATE_AWAY_UNREACHABLE};
}

/* What is said to nothing asked does not show that a call would be answered: so it is tried. */
void gate_health_probed(struct gate_health *h)
{
    if (h->on_trial_us != 0)
        return;
    if (!h->away || !h->answered_once) {
        gate_health_answered(h);
        return;
    }
    h->away = false;
    h->failing_us = 0;
    h->on_trial_us = clock_mono_us();
}

void gate_health_answered(struct gate_health *h)
{
    if (h->away || h->on_trial_us != 0 || !h->answered_once)
        log_info("gate_answers", LOG_STR("ledger", h->url), LOG_END);
    h->answered_once = true;
    h->away = false;
    h->failing_us = 0;
    h->on_trial_us = 0;
    meter_set(METER_GATE_AWAY, 0);
}

static const char *hint_of(int status)
{
    if (status == 401 || status == 403)
        return "set SPEND_LEDGER_TOKEN to the ledger's SPEND_INGEST_TOKEN";
    return status == 503 ? "the ledger's Postgres is away, or too much waits for it: see the ledger's log"
                         : "is --ledger-url the ledger's API, and does it run?";
}

void gate_health_check(struct gate_health *h)
{
    int64_t now = clock_mono_us();
    bool late = h->failing_us != 0 && now - h->failing_us >= h->wait_us;
    if (h->on_trial_us != 0 && h->failing_us == 0 &&
        now - h->on_trial_us >= h->trial_us + h->wait_us) /* what was asked in it had its time */
        gate_health_answered(h);
    if (h->away || h->failing_us == 0 || (h->answered_once && !late))
        return;
    h->away = true;
    meter_set(METER_GATE_AWAY, 1);
    log_warn("gate_away", LOG_INT("status", h->status), LOG_STR("err", h->why.text),
             LOG_STR("hint", hint_of(h->status)), LOG_END);
}

void gate_health_failed(struct gate_health *h, int status, const struct err *why)
{
    h->away_for = status == 503              ? METER_GATE_AWAY_POSTGRES
                  : status != 0              ? METER_GATE_AWAY_ERROR
                  : why->code == ERR_TIMEOUT ? METER_GATE_AWAY_SLOW
                                             : METER_GATE_AWAY_UNREACHABLE;
    h->status = status;
    h->why = *why;
    if (h->on_trial_us != 0) { /* as it was */
        h->on_trial_us = 0;
        h->away = true;
    }
    if (h->failing_us == 0)
        h->failing_us = clock_mono_us();
    gate_health_check(h);
}

void gate_health_waited(struct gate_health *h)
{
    if (h->failing_us == 0)
        h->away_for = METER_GATE_AWAY_SLOW;
}

bool gate_health_is_doubtful(const struct gate_health *h)
{
    return h->away || !h->answered_once || h->on_trial_us != 0;
}
