/*
 * meter: every number ingest counts, in one table. Counters but where the name says otherwise.
 * Owns the registered metrics. Any thread.
 */
#ifndef SPEND_INGEST_METER_H
#define SPEND_INGEST_METER_H

#include <stdint.h>

#define METERS(X)                                                                                            \
    X(REQUESTS_CALL, COUNTER, "spend_ingest_requests_total", "kind", "call", "requests by what they are")    \
    X(REQUESTS_OTHER, COUNTER, "spend_ingest_requests_total", "kind", "passthrough", "")                     \
    X(REFUSED_FRAMING, COUNTER, "spend_ingest_refused_total", "reason", "framing",                           \
      "requests ingest answered itself")                                                                     \
    X(REFUSED_HEADER_LIMIT, COUNTER, "spend_ingest_refused_total", "reason", "header_limit", "")             \
    X(REFUSED_BODY_LIMIT, COUNTER, "spend_ingest_refused_total", "reason", "body_limit", "")                 \
    X(REFUSED_SLOW, COUNTER, "spend_ingest_refused_total", "reason", "slow", "")                             \
    X(REFUSED_NOT_METERED, COUNTER, "spend_ingest_refused_total", "reason", "not_metered", "")               \
    X(REFUSED_JOURNAL, COUNTER, "spend_ingest_refused_total", "reason", "journal_full", "")                  \
    X(REFUSED_DISK, COUNTER, "spend_ingest_refused_total", "reason", "journal_failed", "")                   \
    X(REFUSED_RECORD, COUNTER, "spend_ingest_refused_total", "reason", "record", "")                         \
    X(REFUSED_PRICE, COUNTER, "spend_ingest_refused_total", "reason", "price_elsewhere", "")                 \
    X(REFUSED_FOREIGN, COUNTER, "spend_ingest_refused_total", "reason", "foreign", "")                       \
    X(REFUSED_BUDGET, COUNTER, "spend_ingest_refused_total", "reason", "budget", "")                         \
    X(REFUSED_CONFLICT, COUNTER, "spend_ingest_refused_total", "reason", "conflict", "")                     \
    X(REFUSED_LEDGER, COUNTER, "spend_ingest_refused_total", "reason", "ledger_away", "")                    \
    X(REFUSED_UNPRICED, COUNTER, "spend_ingest_refused_total", "reason", "unpriced", "")                     \
    X(REFUSED_TAGS, COUNTER, "spend_ingest_refused_total", "reason", "tags", "")                             \
    X(REFUSED_BODY, COUNTER, "spend_ingest_refused_total", "reason", "body_unparsed", "")                    \
    X(GATE_HELD, COUNTER, "spend_ingest_gate_total", "result", "held",                                       \
      "calls at the gate by what came of it")                                                                \
    X(GATE_FORCED, COUNTER, "spend_ingest_gate_total", "result", "forced", "")                               \
    X(GATE_REFUSED, COUNTER, "spend_ingest_gate_total", "result", "refused", "")                             \
    X(GATE_WOULD_PASS, COUNTER, "spend_ingest_gate_total", "result", "would_pass", "")                       \
    X(GATE_WOULD_BLOCK, COUNTER, "spend_ingest_gate_total", "result", "would_block", "")                     \
    X(GATE_UNOBSERVED, COUNTER, "spend_ingest_gate_total", "result", "unobserved", "")                       \
    X(GATE_UNPRICED, COUNTER, "spend_ingest_gate_unpriced_total", NULL, NULL,                                \
      "calls that nothing can be held for, for lack of a price (alarm on it)")                               \
    X(GATE_WARNED, COUNTER, "spend_ingest_gate_warned_total", NULL, NULL,                                    \
      "calls that a shadow budget would have stopped")                                                       \
    X(GATE_AWAY_UNREACHABLE, COUNTER, "spend_ingest_gate_unanswered_total", "reason", "unreachable",         \
      "calls that the ledger's gate did not answer in time (alarm on it)")                                   \
    X(GATE_AWAY_SLOW, COUNTER, "spend_ingest_gate_unanswered_total", "reason", "slow", "")                   \
    X(GATE_AWAY_POSTGRES, COUNTER, "spend_ingest_gate_unanswered_total", "reason", "postgres", "")           \
    X(GATE_AWAY_ERROR, COUNTER, "spend_ingest_gate_unanswered_total", "reason", "error", "")                 \
    X(GATE_AWAY, GAUGE, "spend_ingest_gate_away", NULL, NULL,                                                \
      "1 while the ledger's gate does not answer (alarm on it)")                                             \
    X(GATE_WAITING, GAUGE, "spend_ingest_gate_waiting", NULL, NULL, "calls that wait for the gate's answer") \
    X(GATE_UNTOLD, GAUGE, "spend_ingest_gate_untold", NULL, NULL,                                            \
      "calls that are over and whose hold the ledger was not told of yet")                                   \
    X(GATE_DROPPED, COUNTER, "spend_ingest_gate_dropped_total", NULL, NULL,                                  \
      "holds that the ledger was never told of (--gate-untold, or not taken): they expire, or their bill "   \
      "ends them")                                                                                           \
    X(GATE_INVALID, COUNTER, "spend_ingest_gate_invalid_total", NULL, NULL,                                  \
      "what the ledger refused to read: a defect (alarm on it)")                                             \
    X(HOLDS_LAPSED, COUNTER, "spend_ingest_holds_lapsed_total", NULL, NULL,                                  \
      "holds that were gone when they were renewed, their calls still running")                              \
    X(GATE_WAIT, HISTOGRAM, "spend_ingest_gate_wait_seconds", NULL, NULL,                                    \
      "how long calls waited for the gate's answer")                                                         \
    X(EVENTS_ACCEPTED, COUNTER, "spend_ingest_events_total", "result", "accepted",                           \
      "events of /spend/v1/events by what became of them")                                                   \
    X(EVENTS_INVALID, COUNTER, "spend_ingest_events_total", "result", "invalid", "")                         \
    X(EVENTS_DUPLICATE, COUNTER, "spend_ingest_events_total", "result", "duplicate", "")                     \
    X(EVENTS_CONFLICT, COUNTER, "spend_ingest_events_total", "result", "conflict", "")                       \
    X(EVENTS_UNCONFIRMED, COUNTER, "spend_ingest_events_unconfirmed_total", NULL, NULL,                      \
      "requests of events that Kafka did not take within --events-time (503)")                               \
    X(PROXY_BILLED, COUNTER, "spend_ingest_proxy_log_total", "result", "accepted",                           \
      "payloads of LiteLLM's log by what became of them")                                                    \
    X(PROXY_INVALID, COUNTER, "spend_ingest_proxy_log_total", "result", "invalid", "")                       \
    X(PROXY_CONFLICT, COUNTER, "spend_ingest_proxy_log_total", "result", "conflict", "")                     \
    X(PROXY_EVIDENCE, COUNTER, "spend_ingest_proxy_log_total", "result", "evidence", "")                     \
    X(PROXY_OURS, COUNTER, "spend_ingest_proxy_log_calls_total", "seen", "here",                             \
      "payloads of LiteLLM's log that tell a call id of ours, signed, and those that tell none")             \
    X(PROXY_ELSEWHERE, COUNTER, "spend_ingest_proxy_log_calls_total", "seen", "elsewhere", "")               \
    X(UPSTREAM_UNREACHABLE, COUNTER, "spend_ingest_upstream_failures_total", "reason", "unreachable",        \
      "requests the upstream did not answer whole")                                                          \
    X(UPSTREAM_TIMEOUT, COUNTER, "spend_ingest_upstream_failures_total", "reason", "timeout", "")            \
    X(UPSTREAM_CUT, COUNTER, "spend_ingest_upstream_failures_total", "reason", "cut", "")                    \
    X(UPSTREAM_MALFORMED, COUNTER, "spend_ingest_upstream_failures_total", "reason", "malformed", "")        \
    X(UPSTREAM_RETRIED, COUNTER, "spend_ingest_upstream_retries_total", NULL, NULL,                          \
      "safe requests sent again because a kept connection was closed")                                       \
    X(OUTCOME_REJECTED, COUNTER, "spend_ingest_calls_total", "outcome", "rejected", "calls by outcome")      \
    X(OUTCOME_FAILED, COUNTER, "spend_ingest_calls_total", "outcome", "failed", "")                          \
    X(OUTCOME_UNKNOWN, COUNTER, "spend_ingest_calls_total", "outcome", "unknown", "")                        \
    X(OUTCOME_ABORTED, COUNTER, "spend_ingest_calls_total", "outcome", "aborted", "")                        \
    X(OUTCOME_COMPLETED, COUNTER, "spend_ingest_calls_total", "outcome", "completed", "")                    \
    X(QUALITY_UNKNOWN, COUNTER, "spend_ingest_usage_total", "quality", "unknown", "calls by usage quality")  \
    X(QUALITY_ESTIMATED, COUNTER, "spend_ingest_usage_total", "quality", "estimated", "")                    \
    X(QUALITY_PARTIAL, COUNTER, "spend_ingest_usage_total", "quality", "partial", "")                        \
    X(QUALITY_FINAL, COUNTER, "spend_ingest_usage_total", "quality", "final", "")                            \
    X(USAGE_MISMATCH, COUNTER, "spend_ingest_usage_mismatch_total", NULL, NULL,                              \
      "usage objects whose parts do not add up to the provider's totals")                                    \
    X(USAGE_UNREADABLE, COUNTER, "spend_ingest_usage_unreadable_total", NULL, NULL,                          \
      "usage numbers that are no non-negative integers")                                                     \
    X(USAGE_CUT, COUNTER, "spend_ingest_provider_usage_dropped_total", NULL, NULL,                           \
      "provider usage objects over 8 KiB or no UTF-8, left out of the record")                               \
    X(REPLY_UNREAD, COUNTER, "spend_ingest_replies_unread_total", NULL, NULL,                                \
      "replies to calls that could not be read: encoded, too long or no JSON")                               \
    X(SSE_OVERSIZE, COUNTER, "spend_ingest_sse_oversize_total", NULL, NULL, "SSE events past their limit")   \
    X(USAGE_ASKED, COUNTER, "spend_ingest_usage_asked_total", NULL, NULL,                                    \
      "streams that were asked for usage on the caller's behalf")                                            \
    X(USAGE_REMOVED, COUNTER, "spend_ingest_usage_chunks_removed_total", NULL, NULL,                         \
      "usage chunks taken out of streams again")                                                             \
    X(BODY_UNPARSED, COUNTER, "spend_ingest_body_unparsed_total", NULL, NULL,                                \
      "call bodies that are no JSON")                                                                        \
    X(TAGS_UNTAGGED, COUNTER, "spend_ingest_calls_without_tags_total", NULL, NULL, "calls with no tag")      \
    X(TAGS_TRUNCATED, COUNTER, "spend_ingest_tags_truncated_total", NULL, NULL,                              \
      "calls that lost tags to a limit or a fault")                                                          \
    X(TAGS_EMPTY, COUNTER, "spend_ingest_tags_dropped_total", "reason", "empty", "tag items dropped")        \
    X(TAGS_NON_STRING, COUNTER, "spend_ingest_tags_dropped_total", "reason", "non_string", "")               \
    X(TAGS_REFUSED, COUNTER, "spend_ingest_tags_dropped_total", "reason", "refused", "")                     \
    X(TEXT_CUT, COUNTER, "spend_ingest_text_cut_total", NULL, NULL, "texts cut to fit a record")             \
    X(LOGS_METADATA_SKIPPED, COUNTER, "spend_ingest_logs_metadata_skipped_total", NULL, NULL,                \
      "calls whose own logs metadata left no room for our id")                                               \
    X(LOGS_METADATA_DROPPED, COUNTER, "spend_ingest_logs_metadata_dropped_total", NULL, NULL,                \
      "logs metadata headers that are no JSON object, left out")                                             \
    X(UNCAPTURED, COUNTER, "spend_ingest_uncaptured_total", NULL, NULL,                                      \
      "calls let through without a record (capture=fail_open), and LiteLLM's payloads that found no room: "  \
      "money that is not billed")                                                                            \
    X(NOT_ON_DISK, COUNTER, "spend_ingest_not_on_disk_total", NULL, NULL,                                    \
      "calls let through or ended though the disk refused their record (journal-sync=disk)")                 \
    X(JOURNAL_LOST, GAUGE, "spend_ingest_journal_lost", NULL, NULL,                                          \
      "1 while the journal's files are gone (alarm on it)")                                                  \
    X(RECOVERED_FINISHED, COUNTER, "spend_ingest_recovered_total", "state", "finished",                      \
      "calls found in a journal after a crash")                                                              \
    X(RECOVERED_OPEN, COUNTER, "spend_ingest_recovered_total", "state", "open", "")                          \
    X(JOURNAL_SKIPPED, COUNTER, "spend_ingest_journal_skipped_bytes_total", NULL, NULL,                      \
      "journal bytes that could not be read")                                                                \
    X(JOURNAL_DAMAGED, COUNTER, "spend_ingest_journal_damaged_total", NULL, NULL,                            \
      "journal segments whose header is damaged")                                                            \
    X(JOURNALS_SET_ASIDE, GAUGE, "spend_ingest_journals_set_aside", NULL, NULL,                              \
      "damaged journals, kept as .damaged or about to be: calls may be lost (alarm on it)")                  \
    X(DELIVERY_RETRIED, COUNTER, "spend_ingest_delivery_retried_total", NULL, NULL,                          \
      "records produced again after a failed report")                                                        \
    X(PRODUCER_REPLACED, COUNTER, "spend_ingest_producer_replaced_total", NULL, NULL,                        \
      "producers replaced after a fatal error")                                                              \
    X(CLIENTS, GAUGE, "spend_ingest_connections", NULL, NULL, "client connections")                          \
    X(CLIENTS_LIMIT, COUNTER, "spend_ingest_connections_limit_total", NULL, NULL,                            \
      "times accepting stopped at the connection limit")                                                     \
    X(EXCHANGES, GAUGE, "spend_ingest_exchanges", NULL, NULL, "requests under way")                          \
    X(UPSTREAM_IDLE, GAUGE, "spend_ingest_upstream_idle", NULL, NULL, "upstream connections kept")           \
    X(CLOCK_OFFSET, GAUGE, "spend_ingest_clock_offset_us", NULL, NULL,                                       \
      "microseconds that Postgres's clock is ahead of this one")                                             \
    X(CLOCK_KNOWN, GAUGE, "spend_ingest_clock_known", NULL, NULL, "1 once the offset was measured")          \
    X(CALL_TTFB, HISTOGRAM, "spend_ingest_call_ttfb_seconds", NULL, NULL,                                    \
      "from a call's arrival to the first byte of its reply")                                                \
    X(CALL_DURATION, HISTOGRAM, "spend_ingest_call_duration_seconds", NULL, NULL,                            \
      "from a call's arrival to the last byte of its reply")

#define METER_ID(id, ...) METER_##id,
enum meter { METERS(METER_ID) METER_COUNT };

void meter_open(void); /* once, before anything counts */
void meter_add(enum meter m, int64_t n);
void meter_set(enum meter m, int64_t n);      /* gauges */
void meter_observe(enum meter m, int64_t us); /* histograms */
int64_t meter_value(enum meter m);

#endif
