/*
 * option_row: what one row of an option table is called and which values it takes, as text. For options and
 * its pages.
 */
#ifndef SPEND_RUN_OPTION_ROW_H
#define SPEND_RUN_OPTION_ROW_H

#include "run/options.h"

#define OPTION_TEXT_MAX 200

void option_row_flag(const struct option_row *row, char out[OPTION_TEXT_MAX]); /* "batch-max" */
void option_row_env(const struct option_row *row, char out[OPTION_TEXT_MAX]);  /* "SPEND_BATCH_MAX" */
/* "a whole number from 1 to 10000", "one of off, observe, enforce"; reads well behind "must be". */
void option_row_values(const struct option_row *row, char out[OPTION_TEXT_MAX]);
/* The default for people: an ENUM's first word; NULL when there is none. `room` may be used for it. */
const char *option_row_default(const struct option_row *row, char room[OPTION_TEXT_MAX]);

#endif
