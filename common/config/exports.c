/* SPDX-License-Identifier: Apache-2.0 */
#include "common/config/exports.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool parse_host(const char *text, uint8_t ret[16], bool *ret_v6)
{
    *ret_v6 = inet_pton(AF_INET, text, ret) != 1;
    return !*ret_v6 || inet_pton(AF_INET6, text, ret) == 1;
}

static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff}; /* IPv4 in IPv6 */

int hf_export_parse(const char *client, struct hf_export *ret)
{
    struct hf_export e = *ret;
    char text[sizeof(e.client)], *slash, *end = NULL;
    unsigned long bits;

    if (strlen(client) >= sizeof(text)) {
        return -EINVAL;
    }
    memset(e.net, 0, sizeof(e.net));
    memcpy(e.client, client, strlen(client) + 1);
    memcpy(text, client, strlen(client) + 1);
    e.any = strcmp(text, "*") == 0;
    slash = strchr(text, '/');
    if (slash) {
        *slash++ = '\0';
    }
    if (!e.any &&
        (!parse_host(text, e.net, &e.v6) || (e.v6 && memcmp(e.net, mapped, sizeof(mapped)) == 0))) {
        return -EINVAL; /* such peers count as of IPv4: it would fit nobody */
    }
    e.bits = e.v6 ? 128 : 32;
    if (slash) {
        bits = strtoul(slash, &end, 10);
        if (*slash < '0' || *slash > '9' || *end || bits > e.bits) {
            return -EINVAL;
        }
        e.bits = (uint32_t)bits;
    }
    *ret = e;
    return 0;
}

/* "HOST:PORT" or "[HOST]:PORT". */
static bool parse_addr(const char *addr, uint8_t ret[16], bool *ret_v6)
{
    const char *end = strrchr(addr, ':');
    char host[64];
    size_t len;

    if (addr[0] == '[') {
        addr++;
        end = strchr(addr, ']');
    }
    len = end ? (size_t)(end - addr) : sizeof(host);
    if (len >= sizeof(host)) {
        return false;
    }
    memcpy(host, addr, len);
    host[len] = '\0';
    if (!parse_host(host, ret, ret_v6)) {
        return false;
    }
    if (*ret_v6 && memcmp(ret, mapped, sizeof(mapped)) == 0) {
        memmove(ret, ret + sizeof(mapped), 4);
        *ret_v6 = false;
    }
    return true;
}

static bool same_net(const uint8_t *a, const uint8_t *b, uint32_t bits)
{
    const uint8_t mask = (uint8_t)(0xff00u >> bits % 8);

    return memcmp(a, b, bits / 8) == 0 &&
           (bits % 8 == 0 || ((a[bits / 8] ^ b[bits / 8]) & mask) == 0);
}

const struct hf_export *hf_export_find(const struct hf_export *exports, uint32_t count,
                                       const char *addr)
{
    uint8_t host[16];
    bool v6 = false, known = count > 0 && parse_addr(addr, host, &v6);

    for (uint32_t i = 0; i < count; i++) {
        const struct hf_export *e = &exports[i];

        if (e->any || (known && e->v6 == v6 && same_net(e->net, host, e->bits))) {
            return e;
        }
    }
    return NULL;
}
