/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin.h - what the files of the admin service share; for server/node only.
 */
#ifndef HF_NODE_ADMIN_H
#define HF_NODE_ADMIN_H

#include <jansson.h>

#include "server/node/node_impl.h"

/** Answer with @o, which is taken; or with @err. */
void admin_answer(struct hf_rpc_request *req, int err, json_t *o);
void admin_warn(json_t *list, const char *what, const char *fix);

/* admin_meta.c */

/** Errors: -ENOSYS  no such command; -HF_ENOTLEADER. */
int admin_meta(struct hf_node *node, const struct hf_msg_admin *m, json_t **ret);
/** A command that has begun well is answered when it ends: true, and @req is taken. */
bool admin_meta_later(struct hf_node *node, struct hf_rpc_request *req,
                      const struct hf_msg_admin *m);
bool admin_meta_member(const struct hf_raft_driver_status *log, struct hf_node_id id);
const char *admin_meta_role(struct hf_node *node);
/** Of the leader: metadata nodes that are not well. */
void admin_meta_warnings(struct hf_node *node, json_t *list);

#endif
