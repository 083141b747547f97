/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_data.h - a simulated file's bytes: what readers see, and what a power cut leaves of it.
 *
 *     current  = durable + pending (in order)      ... unless a sync failed: see below
 *     sync:      pending is applied to durable
 *     cut:       of each 512-byte sector some prefix of its pending writes is applied, of the
 *                pending size changes some prefix; current becomes durable
 *     failed     the same choice is made for durable, pending is forgotten, current stays as it
 *     sync:      was: the kernel has marked the pages clean, and no later sync writes them
 *
 * A sector never shows a later write without the earlier ones to it: it is written whole, from
 * the page cache. A write beyond a lost size change has nowhere to go and is lost with it.
 * Memory is taken by 4 KiB pages; running out of it aborts.
 */
#ifndef HF_TESTS_LIB_SIM_DATA_H
#define HF_TESTS_LIB_SIM_DATA_H

#include <stddef.h>

#include "tests/lib/sim_rng.h"

#define HF_SIM_PAGE_BYTES     4096u
#define HF_SIM_SECTOR_BYTES   512u
#define HF_SIM_FILE_BYTES_MAX (UINT64_C(4) << 30)

enum hf_sim_cut {
    HF_SIM_CUT_RANDOM,
    HF_SIM_CUT_LOSE_ALL, /* what was not synced */
    HF_SIM_CUT_KEEP_ALL,
};

struct hf_sim_data;

struct hf_sim_data *hf_sim_data_new(void);
void hf_sim_data_free(struct hf_sim_data *data);

uint64_t hf_sim_data_size(const struct hf_sim_data *data);
/** Space in use by the current contents. */
uint64_t hf_sim_data_used_bytes(const struct hf_sim_data *data);
/** Of a write of @len_bytes at @off, how many bytes fit when @free_bytes more may be used. */
size_t hf_sim_data_room(const struct hf_sim_data *data, uint64_t off, size_t len_bytes,
                        uint64_t free_bytes);

/** Bytes read: short only at the end. */
size_t hf_sim_data_read(const struct hf_sim_data *data, void *ret, size_t len_bytes, uint64_t off);
void hf_sim_data_write(struct hf_sim_data *data, const void *bytes, size_t len_bytes, uint64_t off);
void hf_sim_data_truncate(struct hf_sim_data *data, uint64_t len_bytes);
void hf_sim_data_allocate(struct hf_sim_data *data, uint64_t len_bytes);

void hf_sim_data_sync(struct hf_sim_data *data);
void hf_sim_data_sync_failed(struct hf_sim_data *data, struct hf_sim_rng *rng);
void hf_sim_data_cut(struct hf_sim_data *data, struct hf_sim_rng *rng, enum hf_sim_cut mode);
/** The page cache is read again from disk: what a failed sync lost is now seen to be lost. */
void hf_sim_data_drop_cache(struct hf_sim_data *data);
/** Rot: in cache and on disk. False: beyond the end. */
bool hf_sim_data_flip(struct hf_sim_data *data, uint64_t off, uint8_t mask);

#endif
