/*
 * ingest_options: the one table of spend-ingest's options.
 */
#ifndef SPEND_INGEST_INGEST_OPTIONS_H
#define SPEND_INGEST_INGEST_OPTIONS_H

#include "base/limits.h"
#include "run/options.h"

#define WORKERS_MAX 128

#define INGEST_OPTIONS(X)                                                                                    \
    X(listen, LISTEN, "127.0.0.1:4100", 0, 0, PLAIN, OPTIONAL, "ingest.listen",                              \
      "where to listen for callers")                                                                         \
    X(admin_listen, LISTEN, "127.0.0.1:4101", 0, 0, PLAIN, OPTIONAL, "ingest.adminListen",                   \
      "where to listen for /healthz, /readyz and /metrics")                                                  \
    X(upstream_url, STRING, NULL, 1, 1024, PLAIN, REQUIRED, "ingest.upstreamUrl",                            \
      "http://host:port[/prefix] of the proxy or provider behind ingest")                                    \
    X(upstream_kind, ENUM, "litellm|openai", 0, 0, PLAIN, OPTIONAL, "ingest.upstreamKind",                   \
      "litellm is also sent our call id, signed, for its own log")                                           \
    X(include_usage, ENUM, "on|off", 0, 0, PLAIN, OPTIONAL, "ingest.includeUsage",                           \
      "ask streams for usage when the caller did not, and take the usage chunk out again")                   \
    X(gate, ENUM, "off|observe|enforce", 0, 0, PLAIN, OPTIONAL, "ingest.gate",                               \
      "budgets and balances: not asked; asked and told of; asked before each call, and refused by")          \
    X(gate_wait, DURATION, "2s", 1000, 600 * US_PER_SECOND, PLAIN, OPTIONAL, "ingest.gateWait",              \
      "longest wait for the ledger's gate; then, and while it does not answer, --on-ledger-down decides")    \
    X(gate_trial, DURATION, "30s", 0, 3600 * US_PER_SECOND, PLAIN, OPTIONAL, "ingest.gateTrial",             \
      "how long a ledger that answers probes again must fail no call before the gate is said to be well, "   \
      "when no call tells sooner")                                                                           \
    X(gate_renew, DURATION, "30s", 10000, 3600 * US_PER_SECOND, PLAIN, OPTIONAL, "ingest.gateRenew",         \
      "how often the hold of a running call is renewed; well below the ledger's --hold-lifetime")            \
    X(gate_untold, INT, "100000", 1, 10000000, PLAIN, OPTIONAL, "ingest.gateUntold",                         \
      "most holds of calls that are over and that the ledger could not be told of yet; more are dropped")    \
    X(on_ledger_down, ENUM, "deny|allow", 0, 0, PLAIN, OPTIONAL, "ingest.onLedgerDown",                      \
      "enforce: a call that the ledger, or its Postgres, does not answer for: 503, or let through, counted " \
      "and held afterwards")                                                                                 \
    X(on_cold_start, ENUM, "wait|serve", 0, 0, PLAIN, OPTIONAL, "ingest.onColdStart",                        \
      "enforce: ready only once the ledger's gate has answered, or at once")                                 \
    X(on_unpriced, ENUM, "allow|deny", 0, 0, PLAIN, OPTIONAL, "ingest.onUnpriced",                           \
      "enforce: a call of a model without a price: let through with nothing held, or 400")                   \
    X(budget_status, ENUM, "400|402|429", 0, 0, PLAIN, OPTIONAL, "ingest.budgetStatus",                      \
      "the status of a call that a budget refuses; LiteLLM's own is 400")                                    \
    X(call_path, LIST, NULL, 0, 64, PLAIN, OPTIONAL, "ingest.callPaths",                                     \
      "a further path whose POSTs are calls; one ending in / is a prefix; repeatable")                       \
    X(tag_account, STRING, "account_id", 1, 128, PLAIN, OPTIONAL, "tags.account",                            \
      "tag key that names the account")                                                                      \
    X(tag_task, STRING, "task", 1, 128, PLAIN, OPTIONAL, "tags.task", "tag key that names the task")         \
    X(tag_conversation, STRING, "conversation", 1, 128, PLAIN, OPTIONAL, "tags.conversation",                \
      "tag key that names the conversation")                                                                 \
    X(journal_dir, STRING, NULL, 1, 3072, PLAIN, REQUIRED, "ingest.journal.dir",                             \
      "where journals live, one directory an instance")                                                      \
    X(journal_bytes, SIZE, "1GiB", 2 << 20, INT64_MAX, PLAIN, OPTIONAL, "ingest.journal.bytes",              \
      "most bytes of one journal")                                                                           \
    X(journal_segment_bytes, SIZE, "16MiB", 1 << 20, 1LL << 30, PLAIN, OPTIONAL,                             \
      "ingest.journal.segmentBytes", "bytes of one journal file")                                            \
    X(journal_sync, ENUM, "none|disk", 0, 0, PLAIN, OPTIONAL, "ingest.journal.sync",                         \
      "disk: a call waits until the disk has its record: a machine that loses power loses no call")          \
    X(capture, ENUM, "auto|fail_closed|fail_open", 0, 0, PLAIN, OPTIONAL, "ingest.capture",                  \
      "a call that cannot be journalled: 503, or let through unbilled and counted; auto: let through with "  \
      "--gate=observe alone")                                                                                \
    X(on_crash, ENUM, "estimate|zero", 0, 0, PLAIN, OPTIONAL, "ingest.onCrash",                              \
      "what a call costs that a crash left open: an estimate from its text, or nothing")                     \
    X(on_upstream_error, ENUM, "free|estimate", 0, 0, PLAIN, OPTIONAL, "ingest.onUpstreamError",             \
      "what a call costs that the upstream broke off after output, without usage")                           \
    X(ledger_url, STRING, NULL, 1, 1024, PLAIN, OPTIONAL, "ingest.ledgerUrl",                                \
      "the ledger's API, for the clock and the gate; without it times are not corrected")                    \
    X(ledger_token, STRING, NULL, 8, 512, SECRET, OPTIONAL, NULL, "ingest's token at the ledger")            \
    X(spend_log_secret, STRING, NULL, 1, 1024, SECRET, OPTIONAL, NULL,                                       \
      "signs our call id in the proxy's own log; without it a random one a start: "                          \
      "signatures cannot be checked later")                                                                  \
    X(operator_token, STRING, NULL, 8, 512, SECRET, OPTIONAL, NULL,                                          \
      "the operator's token: it and --ledger-token may send events and the proxy's log")                     \
    X(proxy_log, ENUM, "compare|bill", 0, 0, PLAIN, OPTIONAL, "ingest.proxyLog",                             \
      "calls that LiteLLM's callback tells of: compared with those captured here, or billed too")            \
    X(events_batch, INT, "1000", 1, 10000, PLAIN, OPTIONAL, "ingest.eventsBatch",                            \
      "most events, or payloads of LiteLLM's, in one request (413)")                                         \
    X(events_time, DURATION, "30s", 1000, 3600 * US_PER_SECOND, PLAIN, OPTIONAL, "ingest.eventsTime",        \
      "longest wait for Kafka to take a request's events (503)")                                             \
    X(header_bytes, SIZE, "32KiB", 1024, 1 << 20, PLAIN, OPTIONAL, "ingest.headerBytes",                     \
      "most bytes of a request's head (431)")                                                                \
    X(body_bytes, SIZE, "32MiB", 1024, 1LL << 30, PLAIN, OPTIONAL, "ingest.bodyBytes",                       \
      "most bytes of a request's body (413)")                                                                \
    X(reply_bytes, SIZE, "16MiB", 1024, 1LL << 30, PLAIN, OPTIONAL, "ingest.replyBytes",                     \
      "most bytes of a plain reply that is read for usage; longer ones pass unread, counted")                \
    X(sse_event_bytes, SIZE, "1MiB", 1024, 64 << 20, PLAIN, OPTIONAL, "ingest.sseEventBytes",                \
      "most bytes of one SSE event that is read for usage")                                                  \
    X(header_time, DURATION, "10s", 1000, 3600 * US_PER_SECOND, PLAIN, OPTIONAL, "ingest.headerTime",        \
      "a request's head must be whole by then (408)")                                                        \
    X(body_rate, SIZE, "1KiB", 1, 1 << 30, PLAIN, OPTIONAL, "ingest.bodyRate",                               \
      "least bytes a second of a request's body, after the header time (408)")                               \
    X(idle_time, DURATION, "75s", 1000, 86400 * US_PER_SECOND, PLAIN, OPTIONAL, "ingest.idleTime",           \
      "an unused client connection is closed after it; a client that reads nothing too")                     \
    X(connections, INT, "20000", 1, 1000000, PLAIN, OPTIONAL, "ingest.connections",                          \
      "most client connections; more wait to be accepted")                                                   \
    X(workers, INT, "1", 0, WORKERS_MAX, PLAIN, OPTIONAL, "ingest.workers",                                  \
      "processes on the same port, each with a journal of its own; 0: one a core")                           \
    X(connect_time, DURATION, "5s", 1000, 600 * US_PER_SECOND, PLAIN, OPTIONAL, "ingest.connectTime",        \
      "longest wait for a connection upstream (502)")                                                        \
    X(upstream_time, DURATION, "600s", 1000, 86400 * US_PER_SECOND, PLAIN, OPTIONAL, "ingest.upstreamTime",  \
      "longest silence of the upstream within a reply (504)")                                                \
    X(upstream_idle, DURATION, "4s", 0, 3600 * US_PER_SECOND, PLAIN, OPTIONAL, "ingest.upstreamIdle",        \
      "how long an unused upstream connection is kept; below the upstream's own time-out")                   \
    X(abort_drain, DURATION, "30s", 0, 3600 * US_PER_SECOND, PLAIN, OPTIONAL, "ingest.abortDrain",           \
      "how long the upstream is read on when the caller has left")                                           \
    X(drain, DURATION, "120s", 0, 3600 * US_PER_SECOND, PLAIN, OPTIONAL, "ingest.drain",                     \
      "how long running calls may take to end after SIGTERM")                                                \
    X(clock_every, DURATION, "30s", 10000, 3600 * US_PER_SECOND, PLAIN, OPTIONAL, "ingest.clockEvery",       \
      "how often the ledger's clock is asked")                                                               \
    X(beat_every, DURATION, "10s", 10000, 3600 * US_PER_SECOND, PLAIN, OPTIONAL, "ingest.beatEvery",         \
      "how often the journal's heartbeat goes to spend.instances")                                           \
    OPTIONS_COMMON(X)

struct ingest_options {
    INGEST_OPTIONS(OPTION_FIELD)
};

extern const struct options_spec ingest_options_spec;

#endif
