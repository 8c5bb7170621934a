/*
 * budget: what the files of `spendctl budget ..` share. Budgets are the API's documents.
 */
#ifndef SPENDCTL_BUDGET_H
#define SPENDCTL_BUDGET_H

#include "command.h"
#include <jansson.h>

/* Everything of one. */
void budget_print(const json_t *budget);
/* A --value of this budget as calls have it, the caller's to json_decref; NULL: said. Of keys only the hash
 * is taken, so that no key is sent anywhere. */
json_t *budget_value(const char *scope, const char *value);

#endif
