/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exports.h - what clients may do, by the address they come from: `export` of the configuration.
 *
 *     export { client = "10.1.0.0/16" }
 *     export { client = "10.0.0.0/8" read_only = true root_squash = true }
 *
 * The first that fits counts; whom none fits may do everything.
 */
#ifndef HF_CONFIG_EXPORTS_H
#define HF_CONFIG_EXPORTS_H

#include <stdbool.h>
#include <stdint.h>

#define HF_EXPORTS_MAX 16u

struct hf_export {
    char client[64]; /* as it was given */
    bool any, v6;
    uint8_t net[16]; /* 4 of them without v6 */
    uint32_t bits;   /* of net that count */
    bool read_only, root_squash;
    uint32_t anon_uid, anon_gid;
};

/** client, any, v6, net, bits from "192.0.2.7", "10.0.0.0/8", "2001:db8::/32" or "*".
 *  Errors: -EINVAL; ret is left alone then. */
int hf_export_parse(const char *client, struct hf_export *ret);
/**
 * @addr  of a connection: "HOST:PORT". IPv4 within IPv6 (::ffff:192.0.2.7) is IPv4
 * Returns the export that counts, borrowed, or NULL.
 */
const struct hf_export *hf_export_find(const struct hf_export *exports, uint32_t count,
                                       const char *addr);

#endif
