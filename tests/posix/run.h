/* SPDX-License-Identifier: Apache-2.0 */
/* run.h - what main.c tells posix.c of the group that runs. */
#ifndef HF_TESTS_POSIX_RUN_H
#define HF_TESTS_POSIX_RUN_H

#include <stdint.h>

#define PX_NOT_READY 99 /* exit status of a group of which a NEED failed, which is counted */

struct px_counts { /* shared by all processes */
    uint64_t held, failed, impossible;
};

struct px_run {
    struct px_counts *counts;
    const char *group; /* "rename/replaces" */
    const char *other; /* its directory through the second mount, or NULL */
};
extern struct px_run px_run;

#endif
