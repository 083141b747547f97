/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.h - the one configuration file of a cluster, shared by nodes, mounts and tools.
 *
 *     cluster = "7f2c...uuid"          node "1" { address = "127.0.0.11:7400" data = "/srv/hf" ...
 * } copies = 3                       client { dirty_max = "128MiB" }
 *
 * Unknown keys, values out of bounds and parts that contradict each other are errors that name the
 * file, the line where the parser knows it, and what would be right. Every default is bounded;
 * hf_config_print() shows all values in force.
 *
 * A node's own file may say `this_node = 2` and include("cluster.conf").
 */
#ifndef HF_CONFIG_CONFIG_H
#define HF_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/ids.h"
#include "common/base/limits.h"
#include "common/config/exports.h"
#include "common/log/log.h"

#define HF_CONFIG_META_MAX 5u /* nodes that hold the metadata */
#define HF_CONFIG_ANON_ID  65534
#define HF_CONFIG_ID_MAX   4294967294 /* the next one means "leave it alone" */

struct hf_config_node {
    struct hf_node_id id;
    char address[HF_ADDR_BYTES_MAX]; /* "HOST:PORT", numeric */
    char data[4096];                 /* absolute directory; "" where only clients read the file */
    char domain[64];                 /* failure domain; default "node-N" */
    bool metadata;                   /* holds the metadata: 1, 3 or 5 nodes. Where no node says
                                        so: the first three that do not refuse, else the first */
    uint32_t weight;
    uint64_t capacity_bytes; /* 0: the whole disk */
    uint64_t segment_bytes;
    uint64_t reserve_bytes;
};

struct hf_config {
    char path[4096]; /* absolute, of the file itself */
    struct hf_uuid cluster;
    uint32_t copies, min_copies, groups;
    struct hf_node_id this_node; /* 0: not said */
    uint64_t node_timeout_ns, session_ttl_ns;
    enum hf_log_level log_level;
    struct hf_config_node nodes[HF_NODES_MAX]; /* ascending id */
    uint32_t node_count;
    struct {
        uint64_t dirty_max_bytes, dirty_target_bytes, cache_bytes, readahead_bytes;
        uint64_t dirty_max_age_ns, op_timeout_ns, open_timeout_ns;
        uint32_t flush_streams;
        bool root_squash;
        uint32_t anon_uid, anon_gid; /* whom root acts as then; not 0 */
    } client;
    struct hf_export exports[HF_EXPORTS_MAX]; /* in the file's order */
    uint32_t export_count;
};

/**
 * @ret_error  on failure, "FILE:LINE: what is wrong; what would be right" (malloc'd)
 * Errors: -ENOENT, -EACCES, -EINVAL, -ENOMEM
 */
int hf_config_load(const char *path, struct hf_config *ret, char **ret_error);
/** All values in force, in the file's own syntax. */
void hf_config_print(const struct hf_config *config, FILE *out);
const struct hf_config_node *hf_config_node(const struct hf_config *config, struct hf_node_id id);
/** The nodes that hold the metadata, ascending; borrowed from @config. Returns how many. */
uint32_t hf_config_meta_nodes(const struct hf_config *config,
                              const struct hf_config_node *ret[HF_NODES_MAX]);

/** "4096", "64KiB", "128MiB", "1GiB", "2TiB" (also k, M, G, T). Errors: -EINVAL, -ERANGE. */
int hf_parse_size(const char *text, uint64_t *ret_bytes);
/** "250ms", "5s", "2m", "1h"; a plain number: seconds. Errors: -EINVAL, -ERANGE. */
int hf_parse_duration(const char *text, uint64_t *ret_ns);
/** Shortest of the forms hf_parse_size() takes. Returns @ret. */
const char *hf_format_size(uint64_t bytes, char ret[32]);

#endif
