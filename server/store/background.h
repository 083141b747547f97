/* SPDX-License-Identifier: Apache-2.0 */
/*
 * background.h - what the store does by itself: choosing segments to compact, checkpoints of the
 * index, recycling, a look at the disk's free space about once a second while something happens.
 */
#ifndef HF_STORE_BACKGROUND_H
#define HF_STORE_BACKGROUND_H

#include "server/store/store_impl.h"

/** Start whatever is due. */
void hf_store_background_run(struct hf_store *store);

/* compact.c */
/** Out of memory: not started. */
void hf_store_compaction_start(struct hf_store *store, uint64_t number);

#endif
