/*
 * embedded: the schemas of this folder as the programs carry them, made at build by generate.py.
 */
#ifndef SPEND_SCHEMAS_EMBEDDED_H
#define SPEND_SCHEMAS_EMBEDDED_H

#include <stddef.h>
#include <stdint.h>

struct embedded_schema {
    const char *name;     /* of the record: "SpendCall" */
    const char *text;     /* the .avsc file */
    const char *shape;    /* its fields in one line, as services/common/spend/avro_map.h writes them */
    uint64_t fingerprint; /* CRC-64-AVRO of its Parsing Canonical Form */
};

extern const struct embedded_schema embedded_schemas[];
extern const size_t embedded_schema_count;

#endif
