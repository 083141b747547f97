/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/cluster/actor.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"

static void go_on(struct hf_task *task)
{
    fiber_resume(hf_container_of(task, struct actor, go_on)->fiber);
}

static void rings(void *ctx)
{
    fiber_resume(((struct actor *)ctx)->fiber);
}

static void run(void *arg)
{
    struct actor *a = arg;

    a->fn(a, a->arg);
}

struct actor *actor_new(struct sim_client *c, void (*fn)(struct actor *a, void *arg), void *arg)
{
    struct actor *a = calloc(1, sizeof(*a));

    HF_ASSERT(a != NULL);
    a->s = c->s;
    a->client = c;
    a->fs = c->fs;
    a->fn = fn;
    a->arg = arg;
    a->fiber = fiber_new(run, a);
    a->go_on.fn = go_on;
    a->next = c->actors;
    c->actors = a;
    hf_timer_init(&a->timer, c->env, rings, a);
    hf_env_post(c->env, &a->go_on);
    return a;
}

void actor_free(struct actor *a)
{
    hf_timer_fini(&a->timer);
    fiber_free(a->fiber);
    free(a->data);
    free(a);
}

static uint8_t *room(struct actor *a, size_t len)
{
    if (len > a->data_cap) {
        a->data_cap = len;
        free(a->data);
        a->data = malloc(len);
        HF_ASSERT(a->data != NULL);
    }
    a->data_len = len;
    return a->data;
}

static void take_results(struct actor *a, int err)
{
    const struct hf_fs_req *req = &a->req;
    size_t len = req->data_len, at = 0;

    a->err = err;
    a->attr = req->attr;
    a->file = req->file;
    a->count = req->count;
    a->eof = req->eof;
    a->lock = req->lock;
    a->stat = req->stat;
    a->data_len = 0;
    if (err) {
        return;
    }
    for (int i = 0; i < req->iov_count; i++) {
        len += req->iov[i].iov_len;
    }
    (void)room(a, len);
    for (int i = 0; i < req->iov_count; i++) {
        memcpy(a->data + at, req->iov[i].iov_base, req->iov[i].iov_len);
        at += req->iov[i].iov_len;
    }
    if (req->data_len) {
        memcpy(a->data + at, req->data, req->data_len);
    }
}

static void done(struct hf_fs_req *req, int err)
{
    struct actor *a = req->ctx;

    a->pending = false;
    take_results(a, err);
    hf_env_post(a->client->env, &a->go_on);
}

void actor_begin(struct actor *a)
{
    memset(&a->req, 0, sizeof(a->req));
    a->req.done = done;
    a->req.ctx = a;
}

int actor_wait(struct actor *a, int ret)
{
    a->s->counts.ops++;
    a->client->ops++;
    if (ret == HF_FS_PENDING) {
        a->pending = true;
        fiber_yield();
    } else {
        take_results(a, ret);
    }
    a->s->counts.failed_ops += a->err != 0;
    return a->err;
}

void actor_sleep(struct actor *a, uint64_t ns)
{
    hf_timer_arm(&a->timer, ns);
    fiber_yield();
}

void actor_wake(struct actor *a)
{
    hf_env_post(a->client->env, &a->go_on);
}
