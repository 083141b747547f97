/* SPDX-License-Identifier: Apache-2.0 */
/*
 * actor.h - a program on a client: a fiber that makes file system calls and waits for each.
 *
 *     err = DO(a, hf_fs_lookup(a->fs, parent, name, &a->req));   then a->attr and so on
 *
 * Results are copied out of the request before it ends, and the fiber goes on in a task of its own:
 * as if the kernel lay between. It dies with its client.
 */
#ifndef HF_TESTS_SIM_ACTOR_H
#define HF_TESTS_SIM_ACTOR_H

#include "tests/sim/cluster/fiber.h"
#include "tests/sim/cluster/sim.h"

struct actor {
    struct actor *next;
    struct sim *s;
    struct sim_client *client;
    struct hf_fs *fs;
    struct fiber *fiber;
    void (*fn)(struct actor *a, void *arg);
    void *arg;
    struct hf_task go_on;
    struct hf_timer timer;
    bool quits; /* told an error that ends it, in a session that lives */
    /* of the last call */
    struct hf_fs_req req;
    bool pending; /* it has not answered */
    int err;
    struct hf_attr attr;
    struct hf_fs_file *file;
    uint64_t count;
    bool eof;
    struct hf_fs_lock lock;
    struct hf_meta_reply stat; /* its numbers */
    uint8_t *data;             /* read, readlink, xattr, readdir */
    size_t data_len, data_cap;
};

/** fn runs soon, on the client's loop. */
struct actor *actor_new(struct sim_client *c, void (*fn)(struct actor *a, void *arg), void *arg);
/** Its client is dead, or the program over. */
void actor_free(struct actor *a);

/** What a call returned, or will. */
int actor_wait(struct actor *a, int ret);
void actor_sleep(struct actor *a, uint64_t ns);
void actor_wake(struct actor *a);

/** One call; its outcome. */
#define DO(a, call) (actor_begin(a), actor_wait(a, call))
void actor_begin(struct actor *a);

#endif
