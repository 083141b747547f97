/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_state.h - what a store can do, as it says to the leader and to users.
 *
 * Carried in messages: the numbers do not change.
 */
#ifndef HF_BASE_STORE_STATE_H
#define HF_BASE_STORE_STATE_H

enum hf_store_state {
    HF_STORE_OK,
    HF_STORE_FULL,      /* free space below the reserve: puts fail with -ENOSPC, deletes work */
    HF_STORE_READ_ONLY, /* writes failed repeatedly: puts fail with -EIO until the next start */
};

#endif
