/*
 * budget_state: what a budget window has spent and held, as others read it (schemas/budget_state.avsc), as an
 * open value.
 */
#ifndef SPEND_SPEND_BUDGET_STATE_H
#define SPEND_SPEND_BUDGET_STATE_H

#include "spend/scope.h"

enum budget_measure { MEASURE_RAW, MEASURE_BILLED, MEASURE_COUNT };
enum budget_mode { MODE_HARD, MODE_SHADOW, MODE_COUNT };

const char *budget_measure_name(enum budget_measure measure);
bool budget_measure_parse(struct strview text, enum budget_measure *out);
const char *budget_mode_name(enum budget_mode mode);

struct budget_state {
    struct strview budget_id;
    enum scope_kind scope;
    struct strview value; /* of `each`: which one, or ~other */
    int32_t revision;
    int64_t window_start;
    struct opt_i64 window_end; /* null: lifetime */
    int64_t n;                 /* of states of one key the greatest (revision, window_start, n) counts */
    struct opt_i64 limit_nanos;
    enum budget_measure measure;
    enum budget_mode mode;
    int64_t spent_nanos;
    int64_t held_nanos;
    struct opt_i64 threshold_crossed; /* the highest, in percent */
};

#endif
