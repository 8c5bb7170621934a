/*
 * config_write: the frame of every write of configuration: one transaction that takes the configuration lock
 * before it reads the clock, gets the next config_version, and leaves an audit row and the complete record in
 * config_outbox. Owns: the frame. What is written into which table is the caller's. Refuses: to guess times.
 */
#ifndef SPEND_LEDGER_CONFIG_WRITE_H
#define SPEND_LEDGER_CONFIG_WRITE_H

#include "base/buffer.h"
#include "spend/registry.h"

struct pg_session;

/* The most that a fact's whole history may take as a record: no longer one is ever written, to the tables or
 * to the outbox. */
#define CONFIG_RECORD_BYTES (1 << 20)
#define CONFIG_KEY_BYTES    (LIMIT_ID_BYTES + 64 + LIMIT_TEXT_BYTES)

/* What every row of one write carries. */
struct config_stamp {
    int64_t recorded_at;
    int64_t version;
};

/* Inside an open transaction. The lock is held until it ends. */
bool config_write_begin(struct pg_session *pg, struct config_stamp *stamp, struct err *err) NODISCARD;
/* A row of admin_audit: who (a role), did what ("put tier"), to what; detail is JSON or null. */
bool config_write_audit(struct pg_session *pg, const char *actor, const char *action, struct strview object,
                        struct strview detail, struct err *err) NODISCARD;
/* A fact as it goes out: both buffers are written over. */
bool config_write_encode(const struct registry_record *record, struct buffer *key, struct buffer *value,
                         struct err *err) NODISCARD;
/* The record's bytes on their way to spend.registry. Its id and versions are complete. */
bool config_write_record(struct pg_session *pg, const struct config_stamp *stamp,
                         const struct registry_record *record, struct err *err) NODISCARD;
/* The same for spend.prices: an encoded price book. */
bool config_write_book(struct pg_session *pg, const struct config_stamp *stamp, int64_t version,
                       struct strview record, struct err *err) NODISCARD;

#endif
