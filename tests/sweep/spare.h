/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spare.h - included before all else in tests and simulator: their calls are not swept.
 *
 * The linker renames every reference to malloc() to __wrap_malloc(), and to __real_malloc() back
 * to malloc(). For calls with a file offset the code under test refers to pread64() and its like,
 * which are the names that are wrapped; without _FILE_OFFSET_BITS tests refer to pread(), which
 * is the same on 64-bit machines.
 */
#ifndef HF_TESTS_SWEEP_SPARE_H
#define HF_TESTS_SWEEP_SPARE_H

#undef _FILE_OFFSET_BITS

#define malloc         __real_malloc
#define calloc         __real_calloc
#define realloc        __real_realloc
#define reallocarray   __real_reallocarray
#define aligned_alloc  __real_aligned_alloc
#define posix_memalign __real_posix_memalign
#define strdup         __real_strdup
#define strndup        __real_strndup
#define asprintf       __real_asprintf
#define vasprintf      __real_vasprintf
#define fsync          __real_fsync
#define fdatasync      __real_fdatasync
#define rename         __real_rename
#define unlink         __real_unlink
#define mkdir          __real_mkdir
#define opendir        __real_opendir
#define socket         __real_socket
#define connect        __real_connect
#define accept4        __real_accept4
#define sendmsg        __real_sendmsg
#define readv          __real_readv

#define mkdtemp hf_sweep_mkdtemp /* the sweep removes it when a test cannot */

#endif
