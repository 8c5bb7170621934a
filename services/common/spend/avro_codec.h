/*
 * avro_codec: our records to and from bytes: single-object encoding, C3 01, CRC-64-AVRO fingerprint (little
 * endian), body. Owns nothing: no state, any thread. Hostile bytes are refused before they cost anything:
 * lengths are within the bytes left, counts within their limits. Every decode failure is FATE_DEAD_LETTER.
 * Strings of a decoded record live in the arena given.
 */
#ifndef SPEND_SPEND_AVRO_CODEC_H
#define SPEND_SPEND_AVRO_CODEC_H

#include "base/buffer.h"
#include "spend/budget_state.h"
#include "spend/dead_letter.h"
#include "spend/instance.h"
#include "spend/ledger_entry.h"
#include "spend/price_book.h"
#include "spend/registry.h"

enum avro_record {
    AVRO_SPEND_CALL,
    AVRO_ATTRIBUTED_CALL,
    AVRO_DEAD_LETTER,
    AVRO_LEDGER_ENTRY,
    AVRO_REGISTRY_RECORD,
    AVRO_PRICE_BOOK,
    AVRO_INSTANCE,
    AVRO_BUDGET_STATE,
    AVRO_RECORD_COUNT
};

/* Compares the codec's tables with the embedded schemas; once, at start. FATE_FATAL when they differ. */
bool avro_codec_open(struct err *err) NODISCARD;
const char *avro_codec_schema(enum avro_record record); /* the .avsc text */
uint64_t avro_codec_fingerprint(enum avro_record record);

/*
 * Appends the framed bytes. ERR_FULL when the buffer's cap or the record's own limit is hit, ERR_INVALID when
 * a required text is null, an enum out of range or an array over its limit: nothing was appended. A text that
 * is no UTF-8, or has a NUL, is written with U+FFFD for each bad byte, because a decoder refuses such texts.
 */
bool avro_encode_spend_call(const struct spend_call *v, struct buffer *out, struct err *err) NODISCARD;
/*
 * The same for a call that is written again while its tags stay as they are. *tags null: set to their bytes
 * within out, good while out is. Else what an earlier encoding set: copied.
 */
bool avro_encode_spend_call_again(const struct spend_call *v, struct strview *tags, struct buffer *out,
                                  struct err *err) NODISCARD;
bool avro_encode_attributed_call(const struct attributed_call *v, struct buffer *out,
                                 struct err *err) NODISCARD;
bool avro_encode_dead_letter(const struct dead_letter *v, struct buffer *out, struct err *err) NODISCARD;
bool avro_encode_ledger_entry(const struct ledger_entry *v, struct buffer *out, struct err *err) NODISCARD;
bool avro_encode_registry_record(const struct registry_record *v, struct buffer *out,
                                 struct err *err) NODISCARD;
bool avro_encode_price_book(const struct price_book *v, struct buffer *out, struct err *err) NODISCARD;
bool avro_encode_instance(const struct instance *v, struct buffer *out, struct err *err) NODISCARD;
bool avro_encode_budget_state(const struct budget_state *v, struct buffer *out, struct err *err) NODISCARD;

bool avro_decode_spend_call(struct strview bytes, struct arena *a, struct spend_call *out,
                            struct err *err) NODISCARD;
bool avro_decode_attributed_call(struct strview bytes, struct arena *a, struct attributed_call *out,
                                 struct err *err) NODISCARD;
bool avro_decode_dead_letter(struct strview bytes, struct arena *a, struct dead_letter *out,
                             struct err *err) NODISCARD;
bool avro_decode_ledger_entry(struct strview bytes, struct arena *a, struct ledger_entry *out,
                              struct err *err) NODISCARD;
bool avro_decode_registry_record(struct strview bytes, struct arena *a, struct registry_record *out,
                                 struct err *err) NODISCARD;
/* The book owns its memory. */
bool avro_decode_price_book(struct strview bytes, struct price_book **out, struct err *err) NODISCARD;
bool avro_decode_instance(struct strview bytes, struct arena *a, struct instance *out,
                          struct err *err) NODISCARD;
bool avro_decode_budget_state(struct strview bytes, struct arena *a, struct budget_state *out,
                              struct err *err) NODISCARD;

#endif
