/*
 * budget_state: the words of its schema.
 */
#include "spend/budget_state.h"

#include <assert.h>

static const char *const measures[MEASURE_COUNT] = {[MEASURE_RAW] = "raw", [MEASURE_BILLED] = "billed"};
static const char *const modes[MODE_COUNT] = {[MODE_HARD] = "hard", [MODE_SHADOW] = "shadow"};

const char *budget_measure_name(enum budget_measure measure)
{
    assert((size_t)measure < MEASURE_COUNT);
    return measures[measure];
}

bool budget_measure_parse(struct strview text, enum budget_measure *out)
{
    for (int i = 0; i < MEASURE_COUNT; i++) {
        if (sv_eq(text, sv_of(measures[i]))) {
            *out = (enum budget_measure)i;
            return true;
        }
    }
    return false;
}

const char *budget_mode_name(enum budget_mode mode)
{
    assert((size_t)mode < MODE_COUNT);
    return modes[mode];
}
