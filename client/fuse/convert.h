/* SPDX-License-Identifier: Apache-2.0 */
/* convert.h - attributes and times between the metadata's form and the kernel's. Pure. */
#ifndef HF_FUSE_CONVERT_H
#define HF_FUSE_CONVERT_H

#include <sys/stat.h>
#include <time.h>

#include "client/fs/fs.h"

/** Times are two's complement: before 1970 too, for 292 years either way. */
struct timespec hf_convert_time(uint64_t ns);
/** Clamped to what the metadata can hold. */
uint64_t hf_convert_ns(const struct timespec *t);
struct stat hf_convert_stat(const struct hf_attr *a);

#endif
