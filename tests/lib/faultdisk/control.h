/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.h - commands to a fault disk, over a Unix socket.
 *
 * A connection is one command: words, each ended by a zero byte, until the sender shuts its side
 * down; the answer is one byte, the exit code ('0', '1', '2'), then text for stdout or stderr.
 * Threads: one of its own serves one connection after the other.
 */
#ifndef HF_TESTS_LIB_FAULTDISK_CONTROL_H
#define HF_TESTS_LIB_FAULTDISK_CONTROL_H

#include "tests/lib/faultdisk/disk.h"

struct hf_control {
    struct hf_faultdisk *disk;
    const char *path; /* borrowed */
    int listen_fd;
    pthread_t thread;
};

/** Errors: -errno; -ENAMETOOLONG: Unix sockets want less than 108 bytes. */
int hf_control_start(struct hf_control *control, struct hf_faultdisk *disk, const char *path);
void hf_control_stop(struct hf_control *control);

/** The other side: send the words, print the answer. Returns the exit code. */
int hf_control_send(const char *path, int count, char *const words[]);

#endif
