/* SPDX-License-Identifier: Apache-2.0 */
/*
 * space.h - how many bytes of new file data the stores can take, and who was promised how many.
 *
 * A grant covers what a session holds dirty, and whatever it puts until it is granted anew. The sum
 * of the grants never exceeds what is usable; each RENEW recomputes its session's. What entries
 * named since a store last told its figures is no longer usable there. Nobody gets the whole
 * rest unless it is alone, so that a newcomer always gets something while there is something.
 * What files have reserved (alloc.h) is granted to nobody: who writes there needs no grant.
 *
 * Pure over what the leader knows. Threads: loop thread only.
 */
#ifndef HF_META_SPACE_H
#define HF_META_SPACE_H

#include <stdbool.h>
#include <stdint.h>

struct hf_leader;
struct hf_lsession;
struct hf_meta_op;
struct hf_meta_reply;

#define HF_SPACE_RECORD_BYTES (UINT64_C(8) << 10) /* of a store, around one object */
#define HF_SPACE_FIRST_BYTES                                                                       \
    (UINT64_C(64) << 20) /* with the opening, and before stores were heard */
#define HF_SPACE_INODES (UINT64_C(1) << 20)

/** Bytes of new file data: as many as the fullest live store can take its share of. With fewer of
 * them than make the least number of copies: of all stores, as they last said. */
uint64_t hf_space_usable(const struct hf_leader *leader);
/** Has this leader heard of the stores, and of all sessions what they were granted? Else what may
 * be reserved is not known; it is for a moment only. */
bool hf_space_known(const struct hf_leader *leader);
/** Bytes that files may have reserved, all together: what is usable and granted to nobody. */
uint64_t hf_space_reservable(const struct hf_leader *leader);
/** What @session may hold from now on, of the @want_bytes asked for. */
uint64_t hf_space_grant(struct hf_leader *leader, struct hf_lsession *session, uint64_t want_bytes);
/** The objects of an applied entry take space on their holders. */
void hf_space_named(struct hf_leader *leader, const struct hf_meta_op *op);
/** Fills total_bytes and free_bytes. */
void hf_space_statfs(const struct hf_leader *leader, struct hf_meta_reply *reply);

#endif
