/* SPDX-License-Identifier: Apache-2.0 */
/*
 * addr.h - addresses as text: "192.0.2.1:7400", "[2001:db8::1]:7400", "unix:/run/holdfast.sock".
 *
 * Hosts are numeric: resolving names would block the loop.
 */
#ifndef HF_ENV_ADDR_H
#define HF_ENV_ADDR_H

#include <sys/socket.h>
#include <sys/un.h>
#include <netinet/in.h>

#define HF_ADDR_UNIX_PREFIX "unix:"

struct hf_addr {
    union {
        struct sockaddr sa;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    };
    socklen_t len_bytes;
};

/* Holds the text of any address. */
#define HF_ADDR_TEXT_BYTES                                                                         \
    (sizeof(HF_ADDR_UNIX_PREFIX) + sizeof(((struct sockaddr_un *)0)->sun_path))

/** Errors: -EINVAL  not an address. */
int hf_addr_parse(const char *text, struct hf_addr *ret);
void hf_addr_format(const struct hf_addr *addr, char ret[static HF_ADDR_TEXT_BYTES]);

#endif
