/*
 * usage: a byte for the operation, and the replies of one call, split by lines of "%%". No number below zero,
 * parts that add up to their totals or are said not to, texts that a record may hold, and for a reply that
 * jansson can read too, the numbers that it finds at the table's paths.
 */
#include "fuzz.h"

#include "base/money.h"
#include "ingest/usage_reader.h"

#include <jansson.h>

#define ARENA_ROOM ((size_t)1 << 20)

static bool is_in(enum usage_class c)
{
    return c == USAGE_INPUT || c == USAGE_CACHE_READ || c == USAGE_CACHE_WRITE_5M ||
           c == USAGE_CACHE_WRITE_1H || c == USAGE_AUDIO_IN || c == USAGE_IMAGE_IN;
}

static bool is_out(enum usage_class c)
{
    return c == USAGE_OUTPUT || c == USAGE_REASONING || c == USAGE_AUDIO_OUT || c == USAGE_IMAGE_OUT;
}

static int128 sum_of(const struct usage *u, bool (*fits)(enum usage_class))
{
    int128 sum = 0;
    for (int c = 0; c < USAGE_COUNT; c++)
        if (u->units[c].has && fits((enum usage_class)c))
            sum += u->units[c].v;
    return sum;
}

static struct opt_i64 total_of(const struct usage_reader *r, enum usage_role role)
{
    struct opt_i64 out = {.has = false};
    for (size_t i = 0; i < r->table.count; i++)
        if (r->table.row[i].role == role && r->value[i].has)
            out = r->value[i];
    return out;
}

static void sums_check(const struct usage_reader *r)
{
    struct usage u;
    bool mismatch = false;
    struct opt_i64 in = total_of(r, USAGE_ROLE_IN_TOTAL);
    struct opt_i64 out = total_of(r, USAGE_ROLE_OUT_TOTAL);
    usage_resolve(&r->table, r->value, &u, &mismatch);
    for (int c = 0; c < USAGE_COUNT; c++)
        assert(!u.units[c].has || u.units[c].v >= 0);
    if (mismatch)
        return;
    int128 reasoning = u.units[USAGE_REASONING].has ? u.units[USAGE_REASONING].v : 0;
    int128 spent = sum_of(&u, is_out);
    assert(!in.has || sum_of(&u, is_in) == in.v);
    assert(!out.has || spent == out.v || spent == out.v + reasoning);
    struct opt_i64 all = total_of(r, USAGE_ROLE_TOTAL);
    /* a total that names no input is checked by nothing */
    assert(!all.has || !in.has || sum_of(&u, is_in) + spent == all.v ||
           (int128)in.v + (out.has ? out.v : 0) == all.v);
}

static void texts_check(const struct usage_reader *r)
{
    assert(r->model.len <= LIMIT_TEXT_BYTES && sv_is_utf8(r->model) && !sv_has_control(r->model));
    assert(sv_is_utf8(r->service_tier) && !sv_has_control(r->service_tier));
    if (r->provider_usage != NULL)
        assert(r->provider_usage_len <= LIMIT_PROVIDER_USAGE_BYTES && r->provider_usage[0] == '{' &&
               sv_is_utf8((struct strview){r->provider_usage, r->provider_usage_len}));
}

/* The value at a path of names and dots. */
static const json_t *at_path(const json_t *root, const char *path)
{
    char name[128];
    while (path != NULL) {
        const char *dot = strchr(path, '.');
        size_t len = dot == NULL ? strlen(path) : (size_t)(dot - path);
        memcpy(name, path, len);
        name[len] = '\0';
        root = json_object_get(root, name);
        path = dot == NULL ? NULL : dot + 1;
    }
    return root;
}

/* One reply by jansson, where it stands in the one place: whole numbers at the table's paths. */
static void numbers_check(const struct usage_reader *r, struct strview text)
{
    if (memchr(text.ptr, '\\', text.len) != NULL) /* names are compared as they are written */
        return;
    if (memchr(text.ptr, '\0', text.len) != NULL) /* jansson runs over one behind a number */
        return;
    json_t *root = json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES, NULL);
    json_t *usage = json_object_get(root, "usage");
    bool plain = json_is_object(usage) && json_object_get(root, "response") == NULL &&
                 json_object_get(root, "message") == NULL && json_object_get(root, "meta") == NULL;
    for (size_t i = 0; plain && i < r->table.count; i++) {
        const char *path = r->table.row[i].path.ptr;
        const json_t *want =
            path[0] == '/' || r->table.row[i].class == USAGE_SECONDS_MILLI ? NULL : at_path(usage, path);
        if (json_is_integer(want) && json_integer_value(want) >= 0)
            assert(r->value[i].has && r->value[i].v == json_integer_value(want));
        else if (path[0] != '/' && r->table.row[i].class != USAGE_SECONDS_MILLI)
            assert(!r->value[i].has || json_is_real(want));
    }
    const char *model = json_string_value(json_object_get(root, "model"));
    if (plain && model != NULL && strlen(model) <= 100 && !sv_has_control(sv_of(model)) && model[0] != '\0')
        assert(sv_eq(r->model, sv_of(model)));
    json_decref(root);
}

/* What a cut reply said before its cut is no usage object of its own. */
static void cut_check(enum spend_operation operation, struct strview provider, struct strview text,
                      size_t len)
{
    struct usage_reader r;
    struct arena a;
    arena_init(&a, ARENA_ROOM);
    usage_reader_init(&r, operation, provider);
    struct usage_seen seen = usage_reader_feed(&r, (struct strview){text.ptr, len}, &a);
    struct opt_i64 first = r.value[0];
    assert(!seen.parsed || !seen.usage || r.provider_usage != NULL || len > LIMIT_PROVIDER_USAGE_BYTES ||
           !sv_is_utf8((struct strview){text.ptr, len}));
    sums_check(&r);
    seen = usage_reader_feed(&r, (struct strview){text.ptr, len}, &a);
    assert(r.value[0].has == first.has && r.value[0].v == first.v); /* cumulative: never added */
    usage_reader_free(&r);
    arena_free(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct strview in = {(const char *)data, size};
    unsigned flags = fuzz_byte(&in);
    enum spend_operation operation = (enum spend_operation)(flags % OPERATION_COUNT);
    struct strview provider = flags / OPERATION_COUNT % 2 == 1 ? SV_LIT("xai") : SV_NULL;
    struct usage_reader r;
    struct arena a;
    arena_init(&a, ARENA_ROOM);
    usage_reader_init(&r, operation, provider);
    for (size_t parts = 0; in.len > 0; parts++) {
        struct strview text = fuzz_part(&in);
        char *copy = fuzz_copy(text);
        text.ptr = copy;
        struct usage_seen seen = usage_reader_feed(&r, text, &a);
        arena_reset(&a);
        assert(seen.parsed || !seen.last);
        texts_check(&r);
        sums_check(&r);
        if (parts == 0) {
            numbers_check(&r, text);
            cut_check(operation, provider, text, text.len);
            cut_check(operation, provider, text, text.len / 2);
        }
        free(copy);
    }
    usage_reader_free(&r);
    arena_free(&a);
    return 0;
}
