/*
 * limits: every fixed limit of the contract, by name. Those that users may move are options with these
 * defaults.
 */
#ifndef SPEND_BASE_LIMITS_H
#define SPEND_BASE_LIMITS_H

#define LIMIT_BODY_BYTES           (32LL << 20) /* request body through ingest */
#define LIMIT_HEADER_BYTES         (32LL << 10) /* request line and headers together */
#define LIMIT_HEADER_COUNT         100          /* header lines of a request */
#define LIMIT_REPLY_HEADER_COUNT   480          /* of a reply: proxies repeat their providers' */
#define LIMIT_JSON_DEPTH           64           /* nesting of a JSON body */
#define LIMIT_REPLY_JSON_DEPTH     512 /* of a reply: what it says of usage may stand behind anything */
#define LIMIT_TAGS                 64  /* tags a call */
#define LIMIT_TAG_BYTES            256 /* bytes a tag */
#define LIMIT_ID_BYTES             128 /* account, task, conversation, user, team */
#define LIMIT_CALL_BYTES           (64 << 10) /* SpendCall, AttributedCall on a topic */
#define LIMIT_DEAD_LETTER_BYTES    (96 << 10) /* DeadLetter */
#define LIMIT_PRICE_BOOK_BYTES     (8 << 20)  /* a price book on spend.prices */
#define LIMIT_PROVIDER_USAGE_BYTES (8 << 10)  /* the provider's usage object as it came */
#define LIMIT_DETAIL_BYTES         400        /* a dead letter's detail text */
#define LIMIT_TEXT_BYTES           512   /* model names, paths, user agents kept in a record (cut, counted) */
#define LIMIT_REGISTRY_VERSIONS    64    /* history kept in one registry record */
#define LIMIT_BATCH_RECORDS        10000 /* records in one Postgres transaction */

#endif
