/* SPDX-License-Identifier: Apache-2.0 */
/*
 * faults.h - which call of a fault disk fails, and how slow calls are.
 *
 * A new fault: a value of enum hf_fault_op, its name in faults.c, and hf_faults_strike() where the
 * call is served (ops.c).
 */
#ifndef HF_TESTS_LIB_FAULTDISK_FAULTS_H
#define HF_TESTS_LIB_FAULTDISK_FAULTS_H

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#define HF_FAULTS_MAX 16u
#define HF_FAULT_OFF  ESHUTDOWN /* the power goes: this call and all later ones fail with EIO */

enum hf_fault_op {
    HF_FAULT_READ,  /* read, that the page cache does not answer */
    HF_FAULT_WRITE, /* write, truncate, allocate */
    HF_FAULT_SYNC,  /* of a file or directory; the kernel sends one after a write with O_DSYNC */
    HF_FAULT_NAME,  /* create, mkdir, link, rename, unlink, rmdir */
    HF_FAULT_OP_COUNT,
};

struct hf_fault {
    enum hf_fault_op op;
    char path[PATH_MAX]; /* the calls whose path contains it; "": all */
    uint64_t after;      /* that many pass first */
    uint64_t count;      /* then so many fail */
    int err;             /* -errno, or -HF_FAULT_OFF */
};

struct hf_faults {
    struct hf_fault armed[HF_FAULTS_MAX];
    unsigned armed_count;
    uint64_t delay_ms[HF_FAULT_OP_COUNT];
    bool lies; /* a sync says that it succeeded, and does nothing */
    uint64_t calls[HF_FAULT_OP_COUNT];
    uint64_t struck[HF_FAULT_OP_COUNT];
};

const char *hf_fault_op_name(enum hf_fault_op op);
/** False: no such name. */
bool hf_fault_op_parse(const char *name, enum hf_fault_op *ret);

/** False: too many are armed. */
bool hf_faults_arm(struct hf_faults *faults, const struct hf_fault *fault);
/** Faults, delays and lies; what was counted stays. */
void hf_faults_clear(struct hf_faults *faults);
bool hf_faults_wants_path(const struct hf_faults *faults, enum hf_fault_op op);
/** One call: 0, or the error that strikes it. @path: of the file, or of the new or old name. */
int hf_faults_strike(struct hf_faults *faults, enum hf_fault_op op, const char *path);

#endif
