#include "api_cursor.h"

#include "base/sha256.h"
#include <string.h>

#define SEPARATOR '\x1f'

struct strview api_cursor_make(struct arena *a, const char *list, struct strview key)
{
    struct strview name = sv_of(list);
    size_t size = name.len + 1 + key.len;
    if (key.len > API_CURSOR_KEY_BYTES)
        return SV_NULL;
    uint8_t *plain = arena_alloc(a, size);
    char *text = arena_alloc(a, 2 * size + 1);
    if (plain == NULL || text == NULL)
        return SV_NULL;
    memcpy(plain, name.ptr, name.len);
    plain[name.len] = SEPARATOR;
    if (key.len > 0)
        memcpy(plain + name.len + 1, key.ptr, key.len);
    sha256_to_hex(plain, size, text);
    return (struct strview){text, 2 * size};
}

bool api_cursor_read(struct arena *a, const char *list, struct strview cursor, struct strview *key)
{
    size_t name = strlen(list);
    size_t size = cursor.len / 2;
    if (cursor.len % 2 != 0 || size <= name || size > name + 1 + API_CURSOR_KEY_BYTES)
        return false;
    uint8_t *plain = arena_alloc(a, size);
    if (plain == NULL || !sha256_from_hex(cursor, plain, size))
        return false;
    if (memcmp(plain, list, name) != 0 || plain[name] != SEPARATOR)
        return false;
    *key = sv_of_bytes(plain + name + 1, size - name - 1);
    return true;
}
