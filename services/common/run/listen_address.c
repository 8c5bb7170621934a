/*
 * listen_address: the last colon parts host and port.
 */
#include "run/listen_address.h"

#include "base/strview.h"
#include <string.h>

bool listen_address_split(const char *text, char host[LISTEN_HOST_BYTES], uint16_t *port, struct err *err)
{
    const char *colon = strrchr(text, ':');
    int64_t number = -1;
    struct strview name = {text, colon == NULL ? 0 : (size_t)(colon - text)};
    if (name.len > 2 && name.ptr[0] == '[' && name.ptr[name.len - 1] == ']')
        name = (struct strview){name.ptr + 1, name.len - 2};
    if (name.len == 0 || name.len >= LISTEN_HOST_BYTES || !sv_to_i64(sv_of(colon + 1), &number) ||
        number < 0 || number > UINT16_MAX)
        return err_set(err, ERR_INVALID, FATE_FATAL, "\"%.60s\" is no address to listen on: give host:port",
                       text);
    memcpy(host, name.ptr, name.len);
    host[name.len] = '\0';
    *port = (uint16_t)number;
    return true;
}
