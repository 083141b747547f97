/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mountinfo.h - what is mounted where, as /proc/self/mountinfo has it: a stat() would ask the file
 * system, which may be this very process, or one that answers nothing any more.
 */
#ifndef HF_FUSE_MOUNTINFO_H
#define HF_FUSE_MOUNTINFO_H

#include <stdint.h>

struct hf_mountinfo {
    unsigned major, minor;
    char top[4096];
    char type[64];
    char source[4096];
};

/** The uppermost mount at @path, an absolute one. Errors: -ENOENT  nothing; those of open(2) */
int hf_mountinfo_at(const char *path, struct hf_mountinfo *ret);
/** A mount of that device. Errors: as above */
int hf_mountinfo_of(unsigned major, unsigned minor, struct hf_mountinfo *ret);

#endif
