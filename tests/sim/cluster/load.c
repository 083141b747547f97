/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/cluster/load.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/assert.h"
#include "common/base/err.h"
#include "client/fs/fs_impl.h"

#define READ_BYTES   (512u << 10)
#define LAST_LOOK_NS (60 * SIM_S)
#define LOCKERS      2u
#define FULL_LAST_NS (20 * SIM_S) /* an answer of a full disk is on its way so long, at most */

void sim_load_new(struct sim *s)
{
    s->load = calloc(1, sizeof(*s->load));
    HF_ASSERT(s->load != NULL);
    for (uint32_t i = 0; i < s->client_count; i++) {
        s->load->trees[i] = tree_new();
    }
    s->load->shared = shared_new();
    s->load->stream = stream_new();
    s->load->locks = locks_new();
    s->load->flags = flags_new();
}

void sim_load_client(struct sim_client *c)
{
    static uint32_t numbers[LOAD_FLAGS] = {0, 1, 2, 3, 4, 5};

    if (c->s->work_over) {
        return;
    }
    (void)actor_new(c, tree_program, NULL);
    (void)actor_new(c, tree_look_program, NULL);
    (void)actor_new(c, shared_append_program, NULL);
    (void)actor_new(c, shared_names_program, NULL);
    (void)actor_new(c, shared_files_program, NULL);
    (void)actor_new(c, stream_program, NULL);
    for (uint32_t i = 0; i < LOCKERS; i++) {
        (void)actor_new(c, locks_program, NULL);
    }
    (void)actor_new(c, flags_look_program, NULL);
    for (uint32_t i = 0; i < LOAD_FLAGS; i++) {
        (void)actor_new(c, flags_program, &numbers[i]);
    }
}

bool load_goes_on(const struct actor *a)
{
    return !a->s->work_over && !a->s->failed && !a->client->leaving;
}

/* A session that lives may tell of a time that is up, and, where more is destroyed than can be
 * survived, of bytes that are gone. */
bool load_is_lost(struct actor *a, int err)
{
    if (!err || a->client->state != CLIENT_SERVING || !hf_session_live(a->client->session)) {
        return err != 0;
    }
    if (err != -ETIMEDOUT && err != -ECANCELED && !(a->s->options.beyond && err == -EIO)) {
        return false;
    }
    a->s->counts.quit += !a->quits;
    a->quits = true;
    return true;
}

bool load_met_full(const struct sim *s, uint64_t since_ns)
{
    return s->full_ns && (s->full_ns == UINT64_MAX || s->full_ns + FULL_LAST_NS >= since_ns);
}

bool load_is_full(const struct actor *a, int err, uint64_t since_ns)
{
    /* With no store left that takes writes there is no room, either. */
    return err == -ENOSPC && (a->s->options.beyond || load_met_full(a->s, since_ns));
}

int load_begun(struct actor *a, const char *what, int err)
{
    if (err && !a->s->options.beyond && !load_is_lost(a, err) && !load_is_full(a, err, 0)) {
        sim_fail(a->s, "I2", "client %u: %s: %s", a->client->number, what, hf_err_name(err));
    }
    return err;
}

void load_check_clean(struct actor *a, struct hf_ino ino)
{
    const struct hf_inode *inode = hf_fs_inode_find(a->fs, ino);

    if (inode && (inode->dirty.dirty_bytes || !TAILQ_EMPTY(&inode->parts))) {
        sim_fail(a->s, "I1",
                 "client %u: inode %" PRIu64
                 " is synced, and has %zu bytes dirty, and %s under way",
                 a->client->number, ino.v, (size_t)inode->dirty.dirty_bytes,
                 TAILQ_EMPTY(&inode->parts) ? "nothing" : "a flush");
    }
}

void load_wait_for_end(struct actor *a)
{
    while (a->client->last.v && sim_session_known(a->s, a->client->last)) {
        actor_sleep(a, 200 * SIM_MS);
    }
}

int load_dir(struct actor *a, struct hf_ino dir, const char *name, struct hf_ino *ret)
{
    int err = DO(a, hf_fs_lookup(a->fs, dir, name, &a->req));

    if (err == -ENOENT) {
        err = DO(a, hf_fs_mknod(a->fs, dir, name, S_IFDIR | 0755, 0, NULL, &a->req));
        if (err == -EEXIST) {
            err = DO(a, hf_fs_lookup(a->fs, dir, name, &a->req));
        }
    }
    *ret = a->attr.ino;
    return load_begun(a, name, err);
}

int load_read_from(struct actor *a, struct hf_fs_file *file, uint64_t off, uint8_t **ret,
                   uint64_t *ret_len)
{
    uint8_t *bytes = NULL;
    uint64_t len = 0;

    for (;;) {
        int err = DO(a, hf_fs_read(file, off + len, READ_BYTES, &a->req));

        if (err) {
            free(bytes);
            return err;
        }
        if (a->data_len == 0) {
            break;
        }
        bytes = realloc(bytes, len + a->data_len);
        HF_ASSERT(bytes != NULL);
        memcpy(bytes + len, a->data, a->data_len);
        len += a->data_len;
        if (a->data_len < READ_BYTES) {
            break;
        }
    }
    a->s->counts.reads++;
    *ret = bytes;
    *ret_len = len;
    return 0;
}

int load_read_all(struct actor *a, struct hf_fs_file *file, uint8_t **ret, uint64_t *ret_len)
{
    return load_read_from(a, file, 0, ret, ret_len);
}

static bool is_set(void *ctx)
{
    return *(bool *)ctx;
}

static bool let_run(struct sim *s, struct sim_client *c, void (*fn)(struct actor *a, void *arg))
{
    bool over = false;

    (void)actor_new(c, fn, &over);
    return hf_sim_run_until(s->world, is_set, &over, LAST_LOOK_NS) || s->failed;
}

void sim_load_end(struct sim *s)
{
    struct sim_client *c = &s->clients[0];

    if (s->options.beyond) {
        for (uint32_t i = 0; i < s->client_count && c->state != CLIENT_SERVING; i++) {
            c = &s->clients[i];
        }
        if (c->state == CLIENT_SERVING) { /* what does not answer has stopped: that is allowed */
            (void)let_run(s, c, tree_final_program);
            (void)let_run(s, c, shared_final_program);
        }
    } else if (!let_run(s, c, tree_final_program) || !let_run(s, c, shared_final_program)) {
        sim_fail(s, "alive", "the last look takes more than %u s",
                 (unsigned)(LAST_LOOK_NS / SIM_S));
    }
    if (!s->failed) {
        shared_check(s);
    }
}
