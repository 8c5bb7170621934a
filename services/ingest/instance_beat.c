/*
 * instance_beat: one record; who sends it when is the service's business.
 */
#include "ingest/instance_beat.h"

#include "base/clock.h"
#include "base/log.h"

void instance_beat_send(struct delivery *d, const struct journal *j, bool closed, int64_t *reports)
{
    struct err err = {0};
    struct instance beat = {.instance = sv_of(journal_instance(j)),
                            .boot = (int64_t)journal_boot(j),
                            .next_seq = (int64_t)journal_next_seq(j),
                            .oldest_open_seq = (int64_t)journal_oldest_open_seq(j),
                            .closed = closed,
                            .at = clock_now_us()};
    if (!delivery_beat(d, &beat, reports, &err))
        log_warn("beat_not_produced", LOG_SV("instance", beat.instance), LOG_ERR(&err), LOG_END);
}
