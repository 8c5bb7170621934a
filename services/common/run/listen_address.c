/*
 * listen_address: the last colon parts host and port.
 */
#include "run/listen_address.h"

#include "base/strview.h"
#include <netdb.h>
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

bool listen_address_find(const char *text, struct sockaddr_storage *out, socklen_t *len, struct err *err)
{
    char host[LISTEN_HOST_BYTES];
    uint16_t port;
    struct addrinfo *found = NULL;
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    if (!listen_address_split(text, host, &port, err))
        return false;
    int code = getaddrinfo(host, strrchr(text, ':') + 1, &hints, &found);
    if (code != 0)
        return err_set(err, ERR_IO, FATE_FATAL, "cannot listen on %s: %s", text, gai_strerror(code));
    memcpy(out, found->ai_addr, found->ai_addrlen);
    *len = found->ai_addrlen;
    freeaddrinfo(found);
    return true;
}
