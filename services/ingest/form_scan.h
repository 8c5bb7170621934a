/*
 * form_scan: the fields of a multipart/form-data body (RFC 7578), one after the other, as views. Files are
 * passed over. Pure; nothing is copied.
 */
#ifndef SPEND_INGEST_FORM_SCAN_H
#define SPEND_INGEST_FORM_SCAN_H

#include "base/strview.h"

#define FORM_BOUNDARY_MAX 70 /* RFC 2046 */

struct form_scan {
    struct strview rest;                   /* from the next delimiter's CR LF on */
    char delimiter[4 + FORM_BOUNDARY_MAX]; /* CR LF -- boundary */
    size_t delimiter_len;
    bool ended;  /* the closing delimiter was there */
    bool failed; /* it is no such body */
};

struct form_field {
    struct strview name;
    struct strview value;
};

/* false: content_type is not that of a form. */
bool form_scan_init(struct form_scan *s, struct strview content_type, struct strview body);
/* The next field that is no file. false: there is none, or s->failed. */
bool form_scan_next(struct form_scan *s, struct form_field *out);

#endif
