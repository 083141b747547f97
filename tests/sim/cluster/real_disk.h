/* SPDX-License-Identifier: Apache-2.0 */
/*
 * real_disk.h - the real disk for a simulated process: files close with it.
 *
 * What hf-sim --lmdb gives its nodes, for LMDB makes its own calls to the kernel. Without faults of
 * its own, and what a process wrote stays, synced or not. Threads: one.
 */
#ifndef HF_TESTS_SIM_REAL_DISK_H
#define HF_TESTS_SIM_REAL_DISK_H

#include "common/env/env.h"

struct hf_disk *real_disk_new(void);
/** The process is gone: its files are closed, its locks with them. */
void real_disk_drop(struct hf_disk *disk);

#endif
