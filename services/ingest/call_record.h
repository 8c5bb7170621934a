/*
 * call_record: the SpendCall of one call, from its first bytes to its end, and the one a crash left open.
 * Pure but for counting. Texts of the value live in the arena it was made with.
 */
#ifndef SPEND_INGEST_CALL_RECORD_H
#define SPEND_INGEST_CALL_RECORD_H

#include "base/buffer.h"
#include "ingest/reply_watch.h"
#include "ingest/tag_capture.h"

/* What is known before anything goes upstream. */
struct call_start {
    struct uuid call_id;
    const char *instance;
    uint64_t boot;
    uint64_t seq;
    int64_t received_at;
    int64_t admitted_at;
    enum spend_operation operation;
    const char *provider; /* NULL: the path does not tell */
    struct strview path;
    const char *upstream;
    size_t request_bytes;
    enum spend_gate gate;
};

/* Fills *out as `unknown` with the estimate that a crash would be billed by. false: out of memory. */
bool call_record_start(const struct call_start *start, const struct tag_capture *capture, struct arena *a,
                       struct spend_call *out) NODISCARD;

/* How it ended. */
struct call_end {
    enum spend_outcome outcome;
    bool reply_whole;      /* the upstream's reply came to its end */
    bool estimate_failed;  /* --on-upstream-error=estimate */
    uint64_t request_text; /* bytes, for an estimate */
    struct strview stamp;  /* see struct tag_capture */
    int64_t finished_at;
    int64_t ttfb_us; /* negative: no byte came */
    int64_t duration_us;
    uint64_t reply_bytes;
};

/* The reply's own headers: status, call id, retries, fallbacks, cost. */
bool call_record_reply(struct spend_call *call, const struct reply_head *head, struct arena *a) NODISCARD;
/* Usage, quality and the rest. watch's texts must outlive *call. */
void call_record_end(struct spend_call *call, const struct call_end *end, const struct reply_watch *watch);

/* What an open call's record says in place: how much text its reply had, and of a call that the gate decides
 * whether, how and when it was let through; 0 until then. received_at is the admitted_at it was opened with.
 */
uint64_t call_record_progress(const struct spend_call *call, uint64_t reply_text);
/* The bytes of an open call's head, turned into those of a finished `unknown` one; `rejected` when the gate
 * had not let it pass. */
bool call_record_recover(struct strview head, uint64_t progress, bool estimate, struct arena *a,
                         struct buffer *out, struct err *err) NODISCARD;
/*
 * Checks and encodes. *tags null: set to the tags' bytes within out. Else what that set for this call
 * earlier: neither checked nor encoded again.
 */
bool call_record_encode(const struct spend_call *call, struct strview *tags, struct buffer *out,
                        struct err *err) NODISCARD;
/* Counts outcome, quality and times. */
void call_record_count(const struct spend_call *call);

#endif
