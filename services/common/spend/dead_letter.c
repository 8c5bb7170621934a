/*
 * dead_letter: the one table of reasons. Topics, suspense accounts and texts for people all read it.
 */
#include "spend/dead_letter.h"

const struct dead_reason_row dead_reasons[DEAD_REASON_COUNT] = {
    [DEAD_UNTAGGED] =
        {.name = "untagged",
         .topic = "spend.dlq.untagged",
         .account = "~suspense/untagged",
         .meaning = "Nothing in the call names an account.",
         .remedy =
             "Send an account_id tag with each call, or bind the key to an account: the calls to come are "
             "billed. This one stays in suspense."},
    [DEAD_UNKNOWN] = {.name = "unknown",
                      .topic = "spend.dlq.unknown",
                      .account = "~suspense/unknown",
                      .meaning = "The call names an account that nobody has made.",
                      .remedy =
                          "Make the account, or mend the tag at the caller: the calls to come are billed. "
                          "This one stays in suspense."},
    [DEAD_CONFLICT] = {.name = "conflict",
                       .topic = "spend.dlq.conflict",
                       .account = "~suspense/conflict",
                       .meaning = "The call's tags, task, conversation and key name different accounts.",
                       .remedy =
                           "Let tags, task, conversation and key name one account: the calls to come are "
                           "billed. This one stays in suspense."},
    [DEAD_UNPRICED] =
        {.name = "unpriced",
         .topic = "spend.dlq.unpriced",
         .account = "~suspense/unpriced",
         .meaning = "No price covers the model or the usage of the call.",
         .remedy = "If its usage is known, import prices or give the model an alias: the calls to come "
                   "are billed. Without usage no price helps (docs/ingest.md: which replies are read). "
                   "This one has no amount."},
    [DEAD_MALFORMED] =
        {.name = "malformed",
         .topic = "spend.dlq.malformed",
         .account = NULL,
         .meaning = "The record cannot be read, or holds what no call can hold.",
         .remedy = "Look at its bytes and at who produced it: it carries no money that could be read."},
};

bool dead_reason_parse(struct strview name, enum dead_reason *out)
{
    for (int i = 0; i < DEAD_REASON_COUNT; i++) {
        if (sv_eq(name, sv_of(dead_reasons[i].name))) {
            *out = (enum dead_reason)i;
            return true;
        }
    }
    return false;
}
