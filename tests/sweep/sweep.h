/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sweep.h - a unit test program runs its tests again and again, each time with another call
 * failing: the n-th allocation, or the n-th input or output.
 *
 * The linker leads every allocation and every system call on files and sockets of the code under
 * test through here (--wrap); tests and simulator go around (spare.h). Without HF_SWEEP in the
 * environment all calls pass. README.md says what is looked for, and how to replay a run.
 *
 * Threads: any.
 */
#ifndef HF_TESTS_SWEEP_SWEEP_H
#define HF_TESTS_SWEEP_SWEEP_H

#include <stdbool.h>
#include <stdint.h>

enum hf_sweep_io {
    HF_SWEEP_IO_OTHER,    /* may fail with -EIO */
    HF_SWEEP_IO_TAKES,    /* takes space: may also fail with -ENOSPC */
    HF_SWEEP_IO_READS,    /* may also move less than was asked for */
    HF_SWEEP_IO_TRANSFERS /* takes space, may move less than was asked for */
};

/** One call of a simulated disk. *ret_short: move less. Returns 0, -EIO or -ENOSPC. */
int hf_sweep_io(enum hf_sweep_io io, bool *ret_short);
/** A test waited for something that did not come: more often than without failures is a bug. */
void hf_sweep_waited_in_vain(void);
/** The code under test said that it gives up: what comes to nothing from here on is no bug. */
void hf_sweep_told(void);
/** For how long a test on the real loop waits for what a failure may have made impossible. */
uint64_t hf_sweep_patience_ns(uint64_t timeout_ns);
/** Between these the calls of this thread are scaffolding, whatever code they are made in. */
void hf_sweep_hold(void);
void hf_sweep_release(void);
/** This run leaves memory of killed processes behind: leaks are not looked for. */
void hf_sweep_expect_leaks(void);
/** mkdtemp() of tests. */
char *hf_sweep_mkdtemp(char *path);

#endif
