/*
 * price_key: which entry of a price book is a model's. Pure; docs/prices.md says the order.
 */
#ifndef SPEND_SPEND_PRICE_KEY_H
#define SPEND_SPEND_PRICE_KEY_H

#include "base/arena.h"
#include "spend/price_book.h"

/* The name that prices and rules are under: LiteLLM has sub-names for routes to a provider. */
struct strview price_key_provider(struct strview provider);

/*
 * "provider/model", "model", model after its first '/': the first that exists, also when it holds no price,
 * since another's price behind it would be a guess. together_ai's are found by the size in the model's name.
 * provider may be null. NULL: no entry.
 */
const struct price_entry *price_key_find(const struct price_book *book, enum spend_operation operation,
                                         struct strview provider, struct strview model);

/*
 * "hd/1024-x-1792" of what a request asks for: without (null, empty) a quality standard, without a size
 * 1024-x-1024, as LiteLLM has it. Null: a word that no key holds, or the arena is full.
 */
struct strview price_key_variant(struct strview quality, struct strview size, struct arena *a);

/*
 * The entry of a call's images by their variant ("hd/1024-x-1792"), in LiteLLM's order: quality and size
 * before the model, size alone, the same without the provider in the model's name. NULL: none is priced by
 * it, or the provider is neither OpenAI nor Azure and has its own entry.
 */
const struct price_entry *price_key_find_image(const struct price_book *book, const struct spend_call *call,
                                               struct strview model);

/* Other entries price the same model by size: "512-x-512/dall-e-2" beside "dall-e-2". */
bool price_key_has_sizes(const struct price_book *book, struct strview key);

/* Pixels of one image, from a key like "hd/1024-x-1792/dall-e-3"; 0: it names no size. */
int64_t price_key_pixels(struct strview key);

#endif
