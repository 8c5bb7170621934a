/*
 * gate_health: whether the ledger's gate answers, and why not. Once it has not for as long as a call may
 * wait, nobody waits for it any more. Pure but for counting and the log.
 */
#ifndef SPEND_INGEST_GATE_HEALTH_H
#define SPEND_INGEST_GATE_HEALTH_H

#include "base/err.h"
#include "ingest/meter.h"

#include <stdint.h>

struct gate_health {
    const char *url;
    int64_t wait_us;
    int64_t trial_us;
    bool answered_once;
    bool away;          /* nobody waits for it, until it has answered again */
    int64_t failing_us; /* since when it has not answered; 0: it has */
    int64_t
        on_trial_us; /* since when it answers probes again, as it seems; 0: no trial. The gauge is still up */
    enum meter away_for; /* which counter says why it did not, the last time */
    int status;          /* .. and what it said; 0: nothing */
    struct err why;
};

void gate_health_init(struct gate_health *h, const char *url, int64_t wait_us, int64_t trial_us);
void gate_health_answered(struct gate_health *h);
/* To a request without calls: it is away no more, until a call fails; well when none has for as long as a
 * trial takes. */
void gate_health_probed(struct gate_health *h);
/* status 0: no answer came, and why is said. */
void gate_health_failed(struct gate_health *h, int status, const struct err *why);
/* It never answered, is away, or on trial: it is asked with nothing when there is nothing to ask. */
bool gate_health_is_doubtful(const struct gate_health *h);
/* A call has waited as long as one may: in vain for what fails, if something does. */
void gate_health_waited(struct gate_health *h);
/* Time goes on. */
void gate_health_check(struct gate_health *h);

#endif
