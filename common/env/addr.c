/* SPDX-License-Identifier: Apache-2.0 */
#include "common/env/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static int parse_port(const char *text, in_port_t *ret)
{
    uint32_t port = 0;

    if (!*text || strlen(text) > 5) {
        return -EINVAL;
    }
    for (; *text; text++) {
        if (*text < '0' || *text > '9') {
            return -EINVAL;
        }
        port = port * 10 + (uint32_t)(*text - '0');
    }
    if (port > UINT16_MAX) {
        return -EINVAL;
    }
    *ret = htons((uint16_t)port);
    return 0;
}

static int parse_unix(const char *path, struct hf_addr *ret)
{
    size_t len = strlen(path);

    if (len == 0 || len >= sizeof(ret->un.sun_path)) {
        return -EINVAL;
    }
    *ret = (struct hf_addr){.len_bytes = sizeof(ret->un)};
    ret->un.sun_family = AF_UNIX;
    memcpy(ret->un.sun_path, path, len + 1);
    return 0;
}

int hf_addr_parse(const char *text, struct hf_addr *ret)
{
    const size_t prefix = sizeof(HF_ADDR_UNIX_PREFIX) - 1;
    struct hf_addr addr = {0};
    char host[INET6_ADDRSTRLEN];
    const char *start = text;
    const char *colon = strrchr(text, ':');
    size_t len;
    int err;

    if (strncmp(text, HF_ADDR_UNIX_PREFIX, prefix) == 0) {
        return parse_unix(text + prefix, ret);
    }
    if (!colon) {
        return -EINVAL;
    }
    len = (size_t)(colon - text);
    if (text[0] == '[') {
        if (len < 2 || text[len - 1] != ']') {
            return -EINVAL;
        }
        start++;
        len -= 2;
    }
    if (len >= sizeof(host)) {
        return -EINVAL;
    }
    memcpy(host, start, len);
    host[len] = '\0';
    if (start != text) {
        addr.in6.sin6_family = AF_INET6;
        addr.len_bytes = sizeof(addr.in6);
        err = inet_pton(AF_INET6, host, &addr.in6.sin6_addr) == 1
                  ? parse_port(colon + 1, &addr.in6.sin6_port)
                  : -EINVAL;
    } else {
        addr.in4.sin_family = AF_INET;
        addr.len_bytes = sizeof(addr.in4);
        err = inet_pton(AF_INET, host, &addr.in4.sin_addr) == 1
                  ? parse_port(colon + 1, &addr.in4.sin_port)
                  : -EINVAL;
    }
    if (!err) {
        *ret = addr;
    }
    return err;
}

void hf_addr_format(const struct hf_addr *addr, char ret[static HF_ADDR_TEXT_BYTES])
{
    char host[INET6_ADDRSTRLEN] = "?";
    size_t path_max;

    switch (addr->sa.sa_family) {
    case AF_INET:
        (void)inet_ntop(AF_INET, &addr->in4.sin_addr, host, sizeof(host));
        (void)snprintf(ret, HF_ADDR_TEXT_BYTES, "%s:%u", host, ntohs(addr->in4.sin_port));
        break;
    case AF_INET6:
        (void)inet_ntop(AF_INET6, &addr->in6.sin6_addr, host, sizeof(host));
        (void)snprintf(ret, HF_ADDR_TEXT_BYTES, "[%s]:%u", host, ntohs(addr->in6.sin6_port));
        break;
    case AF_UNIX:
        path_max = addr->len_bytes > offsetof(struct sockaddr_un, sun_path)
                       ? addr->len_bytes - offsetof(struct sockaddr_un, sun_path)
                       : 0;
        (void)snprintf(ret, HF_ADDR_TEXT_BYTES, HF_ADDR_UNIX_PREFIX "%.*s", (int)path_max,
                       addr->un.sun_path);
        break;
    default:
        (void)snprintf(ret, HF_ADDR_TEXT_BYTES, "?");
        break;
    }
}
