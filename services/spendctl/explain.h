/*
 * explain: the story of a call or a task on one screen. Documents stay the caller's.
 */
#ifndef SPENDCTL_EXPLAIN_H
#define SPENDCTL_EXPLAIN_H

#include <jansson.h>

/* The exit code: EXIT_MEND for what somebody has to look after. */
int explain_call(const json_t *call);
int explain_task(const json_t *bill);

#endif
