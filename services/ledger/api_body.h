/*
 * api_body: a request's JSON object read by a table of its fields. Fields that the table does not name are
 * refused by name, so that a misspelt one is never silently without effect. Money is text or a JSON integer,
 * never a real.
 */
#ifndef SPEND_LEDGER_API_BODY_H
#define SPEND_LEDGER_API_BODY_H

#include "api_request.h"

#define API_FIELDS_MAX 16

enum api_field_type {
    API_FIELD_TEXT,   /* a string */
    API_FIELD_ID,     /* a string that api_id_check accepts */
    API_FIELD_MONEY,  /* USD: "12.50", or a JSON integer */
    API_FIELD_MARKUP, /* "1.30", or a JSON integer */
    API_FIELD_TIME,   /* RFC 3339 */
    API_FIELD_TEXTS,  /* an array of strings */
    API_FIELD_INTEGER,
    API_FIELD_INTEGERS, /* an array of them */
    API_FIELD_OBJECT,   /* an object, kept as text: read it with a table of its own */
};

enum api_field_need { API_FIELD_OPTIONAL, API_FIELD_REQUIRED };

struct api_field {
    const char *name;
    enum api_field_type type;
    enum api_field_need need;
};

struct api_value {
    bool given;            /* it stands in the body */
    bool present;          /* and is not null */
    struct strview text;   /* TEXT, ID, OBJECT */
    int64_t number;        /* MONEY in nanos, MARKUP in ppm, TIME in micros, INTEGER */
    struct strview *texts; /* TEXTS */
    size_t text_count;
    int64_t *integers; /* INTEGERS */
    size_t integer_count;
};

/* values[i] belongs to fields[i]. `of` says what the object is ("an account") in a refusal. An empty body is
 * {}. */
bool api_body_read(struct api_request *r, const char *of, struct strview json, const struct api_field *fields,
                   size_t count, struct api_value *values) NODISCARD;

#endif
