/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_disk.h - a disk in memory that forgets what was not synced, and fails when told to.
 *
 *     ON ──power_cut()──► OFF: every call returns -EIO ──restart()──► ON, older handles useless
 *
 * A file's bytes: sim_data.h. Names (create, rename, unlink) are durable after sync_dir of their
 * directory only; what a cut leaves of the others is seeded: for each directory, or for each
 * name, some prefix of its changes. A sync of a file does not make its name durable. A rename
 * from one directory into another stays whole.
 *
 * Stricter than Linux where that finds mistakes: HF_FILE_DIRECT wants every length, offset and
 * address a multiple of 4096; lists come in seeded order; preadv_nowait often has to wait; after
 * a failed sync_dir that directory never syncs again until restarted.
 *
 * The same seed and the same calls give the same results. Threads: one.
 */
#ifndef HF_TESTS_LIB_SIM_DISK_H
#define HF_TESTS_LIB_SIM_DISK_H

#include "common/env/env.h"
#include "tests/lib/sim_data.h"

struct hf_sim_disk;

struct hf_sim_disk *hf_sim_disk_new(uint64_t seed);
/** Open files are gone with it. NULL is a no-op. */
void hf_sim_disk_free(struct hf_sim_disk *disk);
/** The disk as the code under test sees it; borrowed until free. */
struct hf_disk *hf_sim_disk_base(struct hf_sim_disk *disk);

/* Power and processes */

/** The machine loses power now. After a CRASH fault: it loses it after all. */
void hf_sim_disk_power_cut(struct hf_sim_disk *disk, enum hf_sim_cut mode);
bool hf_sim_disk_is_off(const struct hf_sim_disk *disk);
/** A CRASH fault has struck: off, until drop_handles() or restart(). */
bool hf_sim_disk_has_crashed(const struct hf_sim_disk *disk);
/**
 * Power is back; also forgets armed faults, but not that the disk is DEAD. Handles from before
 * answer -EIO; they may, but need not, be closed.
 */
void hf_sim_disk_restart(struct hf_sim_disk *disk);
/** The process died, the machine did not: locks and handles are gone, unsynced bytes are not. */
void hf_sim_disk_drop_handles(struct hf_sim_disk *disk);
/** Nothing unsynced is lost, but what a failed sync dropped is now seen to be lost. */
void hf_sim_disk_drop_caches(struct hf_sim_disk *disk);

/* Faults */

enum hf_sim_fault {
    HF_SIM_FAULT_WRITE_EIO, /* pwritev, truncate, allocate */
    HF_SIM_FAULT_SYNC_EIO,  /* sync, sync_dir */
    HF_SIM_FAULT_READ_EIO,  /* preadv, preadv_nowait */
    HF_SIM_FAULT_NOSPC,     /* pwritev, allocate, mkdir, open and lock with creation */
    HF_SIM_FAULT_SHORT,     /* preadv, pwritev of more than one byte (direct: one block) */
    HF_SIM_FAULT_LOST,      /* pwritev: it succeeds, and writes nothing */
    HF_SIM_FAULT_ASTRAY,    /* pwritev: it succeeds, and writes elsewhere in the file */
    HF_SIM_FAULT_DEAD,      /* what changes anything, that call and all after it */
    HF_SIM_FAULT_POWER_CUT, /* any; that call itself may or may not have happened */
    HF_SIM_FAULT_CRASH,     /* any; like POWER_CUT, but what is unsynced stays so */
    HF_SIM_FAULT_QUOTA,     /* like NOSPC, but -EDQUOT */
    HF_SIM_FAULT_COUNT,
};

/** Calls so far: the number of the next one. Close and size are not counted. */
uint64_t hf_sim_disk_calls(const struct hf_sim_disk *disk);
/** The first call numbered @n or later that @kind concerns fails, once (DEAD: for good). At most 16
 *  armed. */
void hf_sim_disk_fail_at(struct hf_sim_disk *disk, uint64_t n, enum hf_sim_fault kind);
/** Only calls on paths that contain @part. @struck becomes true when it strikes. Either may be
 * NULL. */
void hf_sim_disk_fail_path(struct hf_sim_disk *disk, uint64_t n, enum hf_sim_fault kind,
                           const char *part, bool *struck);
void hf_sim_disk_clear_faults(struct hf_sim_disk *disk);
/** Faults that have struck: a sweep over n ends when none does. */
unsigned hf_sim_disk_struck(const struct hf_sim_disk *disk);
/** How the POWER_CUT fault cuts; at first HF_SIM_CUT_RANDOM. */
void hf_sim_disk_set_cut(struct hf_sim_disk *disk, enum hf_sim_cut mode);

/** Rot: @mask is XORed into one byte. Errors: -ENOENT, -EINVAL (beyond the end). */
int hf_sim_disk_flip(struct hf_sim_disk *disk, const char *path, uint64_t off, uint8_t mask);

/** -ENOSPC beyond it; files count by 4 KiB pages, allocated or written. At first 1 TiB. */
void hf_sim_disk_set_capacity(struct hf_sim_disk *disk, uint64_t bytes);

#endif
