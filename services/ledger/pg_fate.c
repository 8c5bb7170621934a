/*
 * pg_fate: one table, the first prefix that fits.
 */
#include "pg_fate.h"

#include <string.h>

struct fate_row {
    const char *prefix;
    enum err_code code;
    enum err_fate fate;
};

static const struct fate_row rows[] = {
    {"23505", ERR_CONFLICT, FATE_RETRY},       /* somebody else was first: look again */
    {"40P01", ERR_CONFLICT, FATE_RETRY},       /* a deadlock: the other one went on */
    {"SP001", ERR_CONFLICT, FATE_RETRY},       /* ours: a window ended meanwhile, map again */
    {"22003", ERR_OVERFLOW, FATE_DEAD_LETTER}, /* number out of range */
    {"22", ERR_INVALID, FATE_DEAD_LETTER},     /* these values are at fault */
    {"23", ERR_INVALID, FATE_DEAD_LETTER},     {"40", ERR_POSTGRES, FATE_RETRY}, /* serialization, deadlock */
    {"55P03", ERR_TIMEOUT, FATE_RETRY},    /* somebody else's lock, for longer than lock_timeout */
    {"55", ERR_POSTGRES, FATE_RETRY},      /* an object in use */
    {"08", ERR_POSTGRES, FATE_RETRY},      /* connection */
    {"53", ERR_POSTGRES, FATE_RETRY},      /* out of connections, disk, memory */
    {"54", ERR_INVALID, FATE_DEAD_LETTER}, /* program limit exceeded: an index row, a field too large */
    {"57", ERR_POSTGRES, FATE_RETRY},      /* stopping, starting, cancelled */
    {"58", ERR_POSTGRES, FATE_RETRY},      /* the server's own I/O */
    {"25006", ERR_POSTGRES, FATE_RETRY},   /* read only: a standby, until the address points elsewhere */
    {"25", ERR_POSTGRES, FATE_RETRY},      /* a time-out ended the transaction */
    {"XX001", ERR_POSTGRES, FATE_FATAL},   /* corrupted data */
    {"XX002", ERR_POSTGRES, FATE_FATAL},       {"XX", ERR_POSTGRES, FATE_RETRY},
};

void pg_fate_of(const char *sqlstate, enum err_code *code, enum err_fate *fate)
{
    *code = ERR_POSTGRES;
    *fate = FATE_RETRY;
    if (sqlstate == NULL || sqlstate[0] == '\0')
        return;
    *fate = FATE_FATAL; /* schema, privilege, password, statement: only a person mends it */
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strncmp(sqlstate, rows[i].prefix, strlen(rows[i].prefix)) == 0) {
            *code = rows[i].code;
            *fate = rows[i].fate;
            return;
        }
    }
}
