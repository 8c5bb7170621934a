#include "ingest/most_asked.h"

/* Another name limits nothing. */
static const struct {
    enum spend_operation operation;
    struct strview name;
    bool is_n;
} names[] = {
    {OPERATION_CHAT, SV_INIT("max_tokens"), false},
    {OPERATION_CHAT, SV_INIT("max_completion_tokens"), false},
    {OPERATION_COMPLETION, SV_INIT("max_tokens"), false},
    {OPERATION_COMPLETION, SV_INIT("max_completion_tokens"), false},
    {OPERATION_RESPONSES, SV_INIT("max_output_tokens"), false},
    {OPERATION_MESSAGES, SV_INIT("max_tokens"), false},
    {OPERATION_CHAT, SV_INIT("n"), true},
    {OPERATION_COMPLETION, SV_INIT("n"), true},
    {OPERATION_COMPLETION, SV_INIT("best_of"), true},
    {OPERATION_IMAGE, SV_INIT("n"), true},
};

void most_asked_note(struct opt_i64 *most, int64_t n)
{
    if (n < 0)
        n = INT64_MAX;
    if (!most->has || n > most->v)
        *most = OPT_I64(n);
}

/* What is no whole number may be understood as any; of null, an upstream takes its own most. */
void most_asked_read(struct most_asked *most, enum spend_operation operation, const struct json_value *key,
                     const struct json_value *value)
{
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        int64_t n;
        if (names[i].operation != operation || !json_scan_text_is(key, names[i].name))
            continue;
        if (names[i].is_n && value->kind == JSON_KIND_NULL) /* one reply */
            return;
        bool whole = value->kind == JSON_KIND_NUMBER && json_scan_i64(value, &n);
        most_asked_note(names[i].is_n ? &most->n : &most->max_tokens, whole ? n : INT64_MAX);
    }
}
