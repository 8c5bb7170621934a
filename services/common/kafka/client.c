/*
 * client: the check of what a user configured, and the CloudEvents headers every record carries.
 */
#include "kafka/client.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "kafka/handle.h"

_Static_assert(sizeof((struct kafka_ce *)0)->time >= CLOCK_TEXT_MAX, "a time fits");

void kafka_ce_fill(struct kafka_ce *ce, const char *source, const char *type, struct strview id,
                   int64_t time_us)
{
    size_t id_len = id.len < sizeof ce->id ? id.len : sizeof ce->id - 1;
    if (id_len > 0)
        memcpy(ce->id, id.ptr, id_len);
    ce->id[id_len] = '\0';
    size_t time_len = clock_format(time_us, ce->time);
    ce->header[0] = (struct kafka_header){SV_LIT("ce_id"), {ce->id, id_len}};
    ce->header[1] = (struct kafka_header){SV_LIT("ce_source"), sv_of(source)};
    ce->header[2] = (struct kafka_header){SV_LIT("ce_type"), sv_of(type)};
    ce->header[3] = (struct kafka_header){SV_LIT("ce_time"), {ce->time, time_len}};
    ce->header[4] = (struct kafka_header){SV_LIT("ce_specversion"), SV_LIT("1.0")};
}

bool kafka_settings_check(const struct kafka_settings *settings, struct err *err)
{
    if (settings->brokers == NULL || settings->brokers[0] == '\0')
        return err_set(err, ERR_INVALID, FATE_FATAL, "no kafka brokers are given (host:port,..)");
    rd_kafka_conf_t *conf = NULL;
    if (!handle_conf(&conf, settings, NULL, 0, err))
        return false;
    rd_kafka_conf_destroy(conf);
    return true;
}
