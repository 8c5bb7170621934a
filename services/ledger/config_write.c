#include "config_write.h"

#include "pg_query.h"
#include "spend/avro_codec.h"
#include <inttypes.h>
#include <stdio.h>

bool config_write_begin(struct pg_session *pg, struct config_stamp *stamp, struct err *err)
{
    struct pg_rows *rows = NULL;
    if (!pg_session_query(pg, "SELECT recorded_at, version FROM config_begin()", NULL, &rows, err))
        return false;
    stamp->recorded_at = pg_get_time(rows, 0, 0);
    stamp->version = pg_get_i64(rows, 0, 1);
    pg_rows_free(rows);
    return true;
}

bool config_write_audit(struct pg_session *pg, const char *actor, const char *action, struct strview object,
                        struct strview detail, struct err *err)
{
    return pg_query(pg, "INSERT INTO admin_audit (role, action, object, detail) VALUES ($1, $2, $3, $4)",
                    PG_ARGS(PG_STR(actor), PG_STR(action), PG_TEXT(object), PG_JSON(detail)), NULL, err);
}

static bool to_outbox(struct pg_session *pg, const char *topic, struct strview key, struct strview value,
                      int64_t recorded_at, struct err *err)
{
    return pg_query(pg, "INSERT INTO config_outbox (topic, key, value, recorded_at) VALUES ($1, $2, $3, $4)",
                    PG_ARGS(PG_STR(topic), PG_TEXT(key), PG_BYTES(value), PG_TIME(recorded_at)), NULL, err);
}

bool config_write_encode(const struct registry_record *record, struct buffer *key, struct buffer *value,
                         struct err *err)
{
    buffer_clear(key);
    buffer_clear(value);
    return avro_encode_registry_record(record, value, err) &&
           (buffer_printf(key, "%s:" SV_FMT, registry_kind_name(record->kind), SV_ARG(record->id)) ||
            err_set(err, ERR_FULL, FATE_FATAL, "config: the key of a registry record is too long"));
}

bool config_write_record(struct pg_session *pg, const struct config_stamp *stamp,
                         const struct registry_record *record, struct err *err)
{
    struct buffer key, value;
    buffer_init(&key, CONFIG_KEY_BYTES);
    buffer_init(&value, CONFIG_RECORD_BYTES);
    bool ok =
        config_write_encode(record, &key, &value, err) &&
        to_outbox(pg, "spend.registry", buffer_view(&key), buffer_view(&value), stamp->recorded_at, err);
    buffer_free(&key);
    buffer_free(&value);
    return ok;
}

bool config_write_book(struct pg_session *pg, const struct config_stamp *stamp, int64_t version,
                       struct strview record, struct err *err)
{
    char key[32];
    int len = snprintf(key, sizeof key, "%" PRId64, version);
    return to_outbox(pg, "spend.prices", (struct strview){key, (size_t)len}, record, stamp->recorded_at, err);
}
