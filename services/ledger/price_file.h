/*
 * price_file: the price file that ships with the program (data/model_prices.json), embedded at build.
 */
#ifndef SPEND_LEDGER_PRICE_FILE_H
#define SPEND_LEDGER_PRICE_FILE_H

#include "base/strview.h"

#define PRICE_FILE_SOURCE "LiteLLM 1.83.14, shipped with the ledger"

struct strview price_file(void);

#endif
