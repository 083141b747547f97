/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lin.h - is a history of operations on a few registers linearizable?
 *
 * Registers hold 0 (nothing) or a value. Each process does one operation after the other; an
 * operation took effect at one moment between its call and its return, or, when it is not known
 * whether it did, perhaps then and perhaps never. Wing and Gong's search, with what was tried
 * remembered; a process's operations are in order, so where each of them stands is the whole state.
 *
 * Pure. Threads: any.
 */
#ifndef HF_TESTS_SIM_LIN_H
#define HF_TESTS_SIM_LIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LIN_PROCESSES_MAX 4u
#define LIN_REGISTERS_MAX 3u

enum lin_kind {
    LIN_READ,     /* value: what was read */
    LIN_WRITE,    /* [reg] = value */
    LIN_CREATE,   /* [reg] = value if it was 0; else "exists" */
    LIN_DELETE,   /* [reg] = 0 if it was not; else "missing" */
    LIN_MOVE,     /* [to] = [reg], [reg] = 0 if [reg] was not 0; else "missing" */
    LIN_EXCHANGE, /* if neither was 0; else "missing" */
};

enum lin_end { LIN_OK, LIN_EXISTS, LIN_MISSING, LIN_UNKNOWN };

struct lin_op {
    enum lin_kind kind;
    enum lin_end end;
    uint32_t reg, to;
    uint64_t value;
    uint64_t call_ns, return_ns; /* of LIN_UNKNOWN: nothing happens after it */
};

struct lin_history {
    struct lin_op *ops[LIN_PROCESSES_MAX]; /* owned */
    size_t counts[LIN_PROCESSES_MAX], caps[LIN_PROCESSES_MAX];
};

enum lin_verdict { LIN_LINEARIZABLE, LIN_VIOLATED, LIN_TOO_MUCH };

/** Borrowed until the next one of this process. */
struct lin_op *lin_add(struct lin_history *h, uint32_t process);
/**
 * @ret_stuck  on a violation: how many operations of each process the longest attempt explained
 */
enum lin_verdict lin_check(const struct lin_history *h, size_t ret_stuck[LIN_PROCESSES_MAX]);
void lin_fini(struct lin_history *h);
/** One line. Returns @ret. */
const char *lin_op_str(const struct lin_op *op, char ret[128]);

#endif
