/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session.h - sessions: who mounts, what was granted to it, and its stream of operations.
 *
 * Exactly once: the state machine applies only operation last + 1 of a session's stream and keeps
 * the results of the last HF_STREAM_WINDOW, so that a resend gets its own answer. Where a stream
 * stands is what its newest result says: there is no other row.
 *
 * Inode numbers are granted in whole bitmaps of 512; a number is used once. Session ids are never
 * used again.
 */
#ifndef HF_META_SESSION_H
#define HF_META_SESSION_H

#include "server/meta/txn.h"

/** From the rows, when the state machine opens. */
int hf_session_load_all(struct hf_meta *meta);
/** NULL: there is no such session. Borrowed until sessions open or close. */
struct hf_stream_state *hf_session_stream(const struct hf_meta *meta, struct hf_session_id id);

/** Take an inode number out of what was granted. Errors: -EINVAL  not granted, or used. */
int hf_session_use_ino(struct hf_meta *meta, struct hf_session_id session, struct hf_ino ino);

/** The stored answer of operation @stream. Errors: -HF_EFENCED  not kept any more. */
int hf_session_result(struct hf_meta *meta, const struct hf_stream_state *state, uint64_t stream,
                      struct hf_meta_reply *ret);
/** Operation last + 1 was applied: keep its answer, drop those up to @acked and beyond the
 *  window. Outside a transaction. */
int hf_session_store_result(struct hf_meta *meta, struct hf_stream_state *state, uint64_t acked,
                            const struct hf_meta_reply *reply);

int hf_meta_op_session_open(struct hf_meta *meta, const struct hf_meta_op *op,
                            struct hf_meta_reply *reply);
/** CLOSE and EVICT. */
int hf_meta_op_session_end(struct hf_meta *meta, const struct hf_meta_op *op,
                           struct hf_meta_reply *reply);
int hf_meta_op_ino_range(struct hf_meta *meta, const struct hf_meta_op *op,
                         struct hf_meta_reply *reply);

#endif
