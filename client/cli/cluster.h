/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cluster.h - how commands reach a cluster, a mount of this machine, and which file is meant.
 *
 * Commands are sequential: each call here runs the loop until its answer has come.
 */
#ifndef HF_CLI_CLUSTER_H
#define HF_CLI_CLUSTER_H

#include <jansson.h>

#include "client/cli/cli.h"
#include "client/io/io.h"
#include "client/meta/session.h"
#include "common/config/config.h"

struct cli_cluster {
    struct hf_env *env;
    struct hf_config *config;
    struct hf_bufpool *pool;
    struct hf_session *session; /* read-only; NULL until cli_cluster_connect() */
    struct hf_io *io;
};

struct cli_file { /* a path in a mount */
    uint64_t ino;
    uint64_t dev;
    bool is_dir, is_top;
    uint64_t size_bytes;
    char source[4096]; /* the mount's configuration file */
    char top[4096];    /* the mount point */
    char socket[HF_ADDR_BYTES_MAX];
};

/** Find what @path is; complains and returns a CLI status when it lies in no Holdfast mount. */
int cli_file_find(const char *path, struct cli_file *ret);

/** The mount whose mount point @path is, without asking the mount itself. False: there is none. */
bool cli_mount_find(const char *path, struct cli_file *ret);

/**
 * Load the configuration: --config, else the mount's, else $HOLDFAST_CONFIG, else the default
 * place. Complains and returns a CLI status.
 */
int cli_config_load(const struct cli_args *args, const struct cli_file *file,
                    struct hf_config **ret);

/** Open the environment. @config is taken, on failure too. Returns a CLI status. */
int cli_cluster_open(struct cli_cluster *cluster, struct hf_config *config);
/** And a session for looking. Complains with the addresses tried. */
int cli_cluster_connect(struct cli_cluster *cluster);
void cli_cluster_close(struct cli_cluster *cluster);

/** A peer that must be of this cluster; hf_rpc_peer_free() before cli_cluster_close(). */
int cli_peer_new(struct cli_cluster *cluster, const char *addr, struct hf_rpc_peer **ret);
/** One ADMIN call to @addr ("HOST:PORT" or "unix:PATH"). Returns 0 or a negative error. */
int cli_admin(struct cli_cluster *cluster, const char *addr, const char *command,
              const char *const *words, uint32_t word_count, uint64_t timeout_ns, json_t **ret);
/** The same; with -HF_ENOTLEADER, @ret_leader is the address of who leads, as far as that node
 * knows, or "". */
int cli_admin_hint(struct cli_cluster *cluster, const char *addr, const char *command,
                   const char *const *words, uint32_t word_count, uint64_t timeout_ns, json_t **ret,
                   char ret_leader[HF_ADDR_BYTES_MAX]);
/** One call on a peer; the reply is copied out. @ret_bulk may be NULL. */
int cli_call(struct cli_cluster *cluster, struct hf_rpc_peer *peer, uint16_t method,
             const void *msg, size_t msg_len, uint64_t timeout_ns, uint8_t ret_msg[HF_RPC_MSG_MAX],
             size_t *ret_len, struct hf_buf **ret_bulk);
/** One look at the metadata; *ret_bulk (malloc'd) is the caller's. */
int cli_read(struct cli_cluster *cluster, const struct hf_meta_read *rd,
             struct hf_meta_reply *ret_reply, void **ret_bulk);

/** Print JSON, indented. */
void cli_print_json(const json_t *json);

#endif
