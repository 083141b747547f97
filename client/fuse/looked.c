/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fuse/looked.h"

void hf_looked_put(struct hf_looked *looked, uint32_t thread, const struct hf_attr *attr,
                   uint64_t seq, uint64_t now_ns)
{
    uint32_t i = thread % HF_LOOKED_SLOTS;

    looked->slots[i].thread = thread;
    looked->slots[i].seq = seq;
    looked->slots[i].at_ns = now_ns;
    looked->slots[i].attr = *attr;
}

void hf_looked_changed(struct hf_looked *looked, struct hf_ino ino)
{
    looked->changed[ino.v % HF_LOOKED_MARKS] = ++looked->seq;
}

void hf_looked_drop(struct hf_looked *looked, uint32_t thread)
{
    uint32_t i = thread % HF_LOOKED_SLOTS;

    if (looked->slots[i].thread == thread) {
        looked->slots[i].thread = 0;
    }
}

bool hf_looked_take(struct hf_looked *looked, uint32_t thread, struct hf_ino ino, uint64_t now_ns,
                    struct hf_attr *ret)
{
    uint32_t i = thread % HF_LOOKED_SLOTS;

    if (thread == 0 || looked->slots[i].thread != thread) {
        return false;
    }
    looked->slots[i].thread = 0;
    if (looked->slots[i].attr.ino.v != ino.v || now_ns - looked->slots[i].at_ns > HF_LOOKED_NS ||
        looked->changed[ino.v % HF_LOOKED_MARKS] > looked->slots[i].seq) {
        return false;
    }
    *ret = looked->slots[i].attr;
    return true;
}

/* Runs of WRITEs */

static struct hf_looked_run *run_of(struct hf_looked *looked, uint32_t thread)
{
    for (uint32_t i = 0; thread != 0 && i < HF_LOOKED_RUNS; i++) {
        if (looked->run_threads[i] == thread) {
            return &looked->runs[i];
        }
    }
    return NULL;
}

static void run_end(struct hf_looked *looked, const struct hf_looked_run *run)
{
    looked->run_threads[run - looked->runs] = 0;
}

/* A free place, or the oldest without a WRITE under way. NULL: there is none. */
static struct hf_looked_run *run_place(struct hf_looked *looked)
{
    struct hf_looked_run *oldest = NULL;

    for (uint32_t i = 0; i < HF_LOOKED_RUNS; i++) {
        struct hf_looked_run *run = &looked->runs[i];

        if (looked->run_threads[i] == 0) {
            return run;
        }
        if (run->running == 0 && (!oldest || run->seq < oldest->seq)) {
            oldest = run;
        }
    }
    return oldest;
}

void hf_looked_write(struct hf_looked *looked, uint32_t thread, struct hf_ino ino)
{
    struct hf_looked_run *run = run_of(looked, thread);

    if (run && run->ino.v != ino.v) {
        return; /* a thread that does two at a time: whose cut comes next cannot be told */
    }
    if (!run && thread != 0) {
        run = run_place(looked);
        if (run) {
            *run = (struct hf_looked_run){.ino = ino, .seq = ++looked->run_seq};
            looked->run_threads[run - looked->runs] = thread;
        }
    }
    if (run) {
        run->running++;
    }
}

uint64_t hf_looked_wrote(struct hf_looked *looked, uint32_t thread, struct hf_ino ino, uint64_t end,
                         bool failed)
{
    struct hf_looked_run *run = run_of(looked, thread);

    if (!run || run->ino.v != ino.v || run->running == 0) {
        return failed ? 0 : end;
    }
    run->running--;
    if (failed) {
        run->failed_end = end > run->failed_end ? end : run->failed_end;
        return 0;
    }
    run->end = end > run->end ? end : run->end;
    if (run->running > 0 || run->failed_end) {
        return 0;
    }
    end = run->end;
    run_end(looked, run);
    return end;
}

bool hf_looked_trims(struct hf_looked *looked, uint32_t thread, struct hf_ino ino, uint64_t size)
{
    struct hf_looked_run *run = run_of(looked, thread);

    if (!run || run->ino.v != ino.v || run->running > 0 || size >= run->failed_end) {
        return false;
    }
    run_end(looked, run);
    return true;
}

uint64_t hf_looked_run_over(struct hf_looked *looked, uint32_t thread, struct hf_ino *ret_ino)
{
    struct hf_looked_run *run = run_of(looked, thread);

    if (!run || run->running > 0) {
        return 0;
    }
    run_end(looked, run);
    *ret_ino = run->ino;
    return run->end;
}
