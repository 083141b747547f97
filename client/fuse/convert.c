/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fuse/convert.h"

struct timespec hf_convert_time(uint64_t ns)
{
    int64_t sec = (int64_t)ns / (int64_t)HF_NS_PER_SEC;
    int64_t rest = (int64_t)ns % (int64_t)HF_NS_PER_SEC;

    if (rest < 0) {
        sec--;
        rest += (int64_t)HF_NS_PER_SEC;
    }
    return (struct timespec){.tv_sec = sec, .tv_nsec = rest};
}

uint64_t hf_convert_ns(const struct timespec *t)
{
    int64_t ns;

    if (__builtin_mul_overflow((int64_t)t->tv_sec, (int64_t)HF_NS_PER_SEC, &ns) ||
        __builtin_add_overflow(ns, (int64_t)t->tv_nsec, &ns)) {
        ns = t->tv_sec < 0 ? INT64_MIN : INT64_MAX;
    }
    return (uint64_t)ns;
}

/* Device numbers as the kernel's 32-bit encoding has them, which st_rdev of libfuse is. */
struct stat hf_convert_stat(const struct hf_attr *a)
{
    return (struct stat){
        .st_ino = a->ino.v,
        .st_mode = a->mode,
        .st_nlink = a->nlink,
        .st_uid = a->uid,
        .st_gid = a->gid,
        .st_rdev = a->rdev,
        .st_size = (off_t)a->size,
        .st_blksize = HF_BLOCK_BYTES,
        .st_blocks = (blkcnt_t)((a->bytes + 511) / 512),
        .st_atim = hf_convert_time(a->atime_ns),
        .st_mtim = hf_convert_time(a->mtime_ns),
        .st_ctim = hf_convert_time(a->ctime_ns),
    };
}
