/*
 * budget_words: what of a budget is said in words and read from them: its subject, window, thresholds; what a
 * shell can take. Pure, but that times are in the zone that is in use. Budgets are the API's documents.
 */
#ifndef SPENDCTL_BUDGET_WORDS_H
#define SPENDCTL_BUDGET_WORDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define BUDGET_WORDS_MAX 768

/* The amount of a member; false when it is null, missing or no amount. */
bool budget_nanos(const json_t *budget, const char *key, int64_t *nanos);
/* It counts for ever; what it has spent is never reset. */
bool budget_is_lifetime(const json_t *budget);

/* "tag tenant=acme", "each account" */
const char *budget_about(const json_t *budget, char out[BUDGET_WORDS_MAX]);
/* "20 USD", "none" */
const char *budget_limit(const json_t *budget, char out[BUDGET_WORDS_MAX]);
/* "50 % reached, 80 %" */
const char *budget_thresholds(const json_t *budget, char out[BUDGET_WORDS_MAX]);
/* "calendar month in Europe/Berlin" */
const char *budget_window(const json_t *budget, char out[BUDGET_WORDS_MAX]);

/* lifetime, a period, or seconds as "3600s": sets kind, period and seconds of a window. false: none of these.
 */
bool budget_read_window(const char *text, json_t *window);
/* "50,80,100", or "none"; NULL: something else. */
json_t *budget_read_thresholds(const char *text);

/* The text as one word of a command line. */
const char *budget_quote(const char *text, char out[BUDGET_WORDS_MAX]);

#endif
