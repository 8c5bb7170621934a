/*
 * listen_address: what a service listens on, as text: "host:port", a host of IPv6 in [].
 */
#ifndef SPEND_RUN_LISTEN_ADDRESS_H
#define SPEND_RUN_LISTEN_ADDRESS_H

#include "base/err.h"
#include <stdint.h>
#include <sys/socket.h>

#define LISTEN_HOST_BYTES 256

/* The host without brackets; port 0 is a free one. false: err says what to give. */
bool listen_address_split(const char *text, char host[LISTEN_HOST_BYTES], uint16_t *port,
                          struct err *err) NODISCARD;
/* The first address of its host. Waits for the resolver, unless the host is a number. */
bool listen_address_find(const char *text, struct sockaddr_storage *out, socklen_t *len,
                         struct err *err) NODISCARD;

#endif
