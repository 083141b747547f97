/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/faultdisk/faults.h"

#include <string.h>

static const char *const op_names[HF_FAULT_OP_COUNT] = {
    [HF_FAULT_READ] = "read",
    [HF_FAULT_WRITE] = "write",
    [HF_FAULT_SYNC] = "sync",
    [HF_FAULT_NAME] = "name",
};

const char *hf_fault_op_name(enum hf_fault_op op)
{
    return op_names[op];
}

bool hf_fault_op_parse(const char *name, enum hf_fault_op *ret)
{
    for (unsigned op = 0; op < HF_FAULT_OP_COUNT; op++) {
        if (strcmp(name, op_names[op]) == 0) {
            *ret = (enum hf_fault_op)op;
            return true;
        }
    }
    return false;
}

bool hf_faults_arm(struct hf_faults *faults, const struct hf_fault *fault)
{
    if (faults->armed_count == HF_FAULTS_MAX) {
        return false;
    }
    faults->armed[faults->armed_count++] = *fault;
    return true;
}

void hf_faults_clear(struct hf_faults *faults)
{
    faults->armed_count = 0;
    memset(faults->delay_ms, 0, sizeof(faults->delay_ms));
    faults->lies = false;
}

bool hf_faults_wants_path(const struct hf_faults *faults, enum hf_fault_op op)
{
    for (unsigned i = 0; i < faults->armed_count; i++) {
        if (faults->armed[i].op == op && faults->armed[i].path[0]) {
            return true;
        }
    }
    return false;
}

int hf_faults_strike(struct hf_faults *faults, enum hf_fault_op op, const char *path)
{
    int err = 0;

    faults->calls[op]++;
    for (unsigned i = 0; i < faults->armed_count && !err; i++) {
        struct hf_fault *fault = &faults->armed[i];

        if (fault->op != op || !strstr(path, fault->path) || fault->count == 0) {
            continue;
        }
        if (fault->after > 0) {
            fault->after--;
        } else {
            fault->count--;
            err = fault->err;
        }
    }
    faults->struck[op] += err != 0;
    return err;
}
