/*
 * avro_map: for each record, which C member holds which Avro field, in the order of the bytes. The codec's
 * two directions and the check against schemas/ all read these tables, so that they cannot disagree.
 */
#ifndef SPEND_SPEND_AVRO_MAP_H
#define SPEND_SPEND_AVRO_MAP_H

#include "base/buffer.h"
#include "spend/avro_codec.h"

enum avro_kind {
    AVRO_LONG,    /* int64_t; nullable: struct opt_i64 */
    AVRO_INT,     /* int32_t; nullable: struct opt_i64 within 32 bits */
    AVRO_BOOL,    /* bool */
    AVRO_TEXT,    /* struct strview; nullable: null is the null view */
    AVRO_BYTES,   /* struct strview */
    AVRO_FIXED,   /* size bytes; nullable: a bool beside */
    AVRO_ENUM,    /* an enum of size words; in Avro its number */
    AVRO_FLAG,    /* a bool; in Avro an enum of two words */
    AVRO_WORD,    /* an enum of size words; in Avro its word */
    AVRO_RECORD,  /* a struct by map; nullable: a bool beside */
    AVRO_RECORDS, /* pointer and count of structs by map, at most size */
    AVRO_TEXTS,   /* pointer and count of struct strview, at most size */
    AVRO_ORIGINS, /* bits of enum tag_origin; in Avro an array of their words */
};

typedef const char *avro_word_fn(unsigned value);

struct avro_map;

struct avro_field {
    const char *name;
    enum avro_kind kind;
    bool nullable;
    size_t at;   /* offset of the value, or of the pointer to the items */
    size_t has;  /* offset of the bool beside it, or of the items' count */
    size_t size; /* bytes, words or most items: see the kinds */
    avro_word_fn *word;
    const struct avro_map *map;
    unsigned since; /* the generation that added it; those before left it null */
};

struct avro_map {
    const char *name; /* the record's */
    size_t c_size;    /* of the struct */
    const struct avro_field *fields;
    size_t count;
    size_t most_bytes; /* framed; 0 for records inside others */
};

extern const struct avro_map avro_maps[AVRO_RECORD_COUNT];

/* The map as schemas/generate.py writes a schema's shape. false: the buffer is full. */
bool avro_map_shape(const struct avro_map *map, struct buffer *out) NODISCARD;

/* A body without frame (avro_read and avro_write are names of avro-c's). Encoding leaves what it wrote when
 * it fails: the caller drops it. */
bool avro_map_write(const struct avro_map *map, const void *value, struct buffer *out,
                    struct err *err) NODISCARD;
/* The schemas' generations, from 0: each adds nullable fields. Records of all are read, the last is written.
 */
#define AVRO_GENERATION 1

/* Fills *value from a record of a generation; texts are views of body, arrays lie in the arena. Every byte
 * must be used. */
bool avro_map_read(const struct avro_map *map, unsigned generation, struct strview body, struct arena *a,
                   void *value, struct err *err) NODISCARD;

#endif
