/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load_flags.c - names that one program each makes and removes, and everybody looks at.
 *
 * Their programs wait for nobody, so that while a client is not answered a change of each is in
 * flight: sent again to whoever leads then, each happens once and gets its own answer (I6). Who
 * looks only reads, and so goes on at a leader that others have left: nothing that was
 * acknowledged before may be missing there (I2).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/base/assert.h"
#include "common/base/err.h"
#include "tests/sim/cluster/load.h"

#define CHANGE_NS (2 * SIM_S) /* between two changes of one, at most */
#define LOOK_NS   (400 * SIM_MS)

struct flag {
    struct hf_ino ino;     /* as the last change that ended left it; 0: the name is not there */
    uint64_t begun, ended; /* changes; equal: none is under way, or may have been */
};

struct flags {
    struct flag v[SIM_CLIENTS_MAX][LOAD_FLAGS];
};

struct flags *flags_new(void)
{
    struct flags *flags = calloc(1, sizeof(*flags));

    HF_ASSERT(flags != NULL);
    return flags;
}

static void name_of(char ret[16], uint32_t client, uint32_t number)
{
    (void)snprintf(ret, 16, "f%" PRIu32 ".%" PRIu32, client, number);
}

/* @ret 0: there is none. Another error ends the program. */
static int look(struct actor *a, struct hf_ino top, const char *name, struct hf_ino *ret)
{
    int err = DO(a, hf_fs_lookup(a->fs, top, name, &a->req));

    if (err && err != -ENOENT) {
        if (!load_is_lost(a, err)) {
            sim_fail(a->s, "I2", "client %u: look at %s: %s", a->client->number, name,
                     hf_err_name(err));
        }
        return err;
    }
    *ret = err ? (struct hf_ino){0} : a->attr.ino;
    return 0;
}

/* What the life before has left. */
static int find(struct actor *a, struct hf_ino top, const char *name, struct flag *flag)
{
    struct hf_ino ino;
    int err = look(a, top, name, &ino);

    if (!err && flag->begun == flag->ended && ino.v != flag->ino.v) {
        sim_wrong(a->s, "I1", "flag %s is inode %" PRIu64 ", and was left as %" PRIu64, name, ino.v,
                  flag->ino.v);
    }
    if (!err) {
        flag->ino = ino;
        flag->ended = flag->begun;
    }
    return err;
}

/* It is there or not, and nobody else changes it: there is one right answer. */
static int change(struct actor *a, struct hf_ino top, const char *name, struct flag *flag)
{
    struct hf_ino ino = {0};
    char old[20];
    int err;

    (void)snprintf(old, sizeof(old), "%s.old", name);
    flag->begun++;
    if (flag->ino.v == 0) {
        err = DO(a, hf_fs_mknod(a->fs, top, name, S_IFREG | 0644, 0, NULL, &a->req));
        ino = a->attr.ino;
    } else if (hf_sim_rng_below(&a->s->rng, 2)) {
        err = DO(a, hf_fs_unlink(a->fs, top, name, &a->req));
    } else {
        err = DO(a, hf_fs_rename(a->fs, top, name, top, old, 0, &a->req));
    }
    if (!err) {
        flag->ino = ino;
        flag->ended = flag->begun;
        a->s->counts.flags++;
    } else if (!load_is_lost(a, err)) {
        sim_wrong(a->s, "I6", "client %u: flag %s, which %s there, cannot be %s: %s",
                  a->client->number, name, flag->ino.v ? "is" : "is not",
                  flag->ino.v ? "removed" : "made", hf_err_name(err));
    }
    return err;
}

void flags_program(struct actor *a, void *arg)
{
    uint32_t number = *(const uint32_t *)arg;
    struct flag *flag = &a->s->load->flags->v[a->client->number][number];
    struct hf_ino top;
    char name[16];

    name_of(name, a->client->number, number);
    load_wait_for_end(a);
    if (load_dir(a, (struct hf_ino){HF_INO_ROOT}, "flags", &top) || find(a, top, name, flag)) {
        return;
    }
    while (load_goes_on(a)) {
        actor_sleep(a, hf_sim_rng_below(&a->s->rng, CHANGE_NS));
        if (load_goes_on(a) && change(a, top, name, flag)) {
            return;
        }
    }
}

void flags_look_program(struct actor *a, void *arg)
{
    struct sim *s = a->s;
    struct hf_ino top;

    (void)arg;
    if (load_dir(a, (struct hf_ino){HF_INO_ROOT}, "flags", &top)) {
        return;
    }
    while (load_goes_on(a)) {
        uint32_t client = (uint32_t)hf_sim_rng_below(&s->rng, s->client_count);
        uint32_t number = (uint32_t)hf_sim_rng_below(&s->rng, LOAD_FLAGS);
        const struct flag *flag = &s->load->flags->v[client][number];
        struct flag before = *flag;
        struct hf_ino ino;
        char name[16];

        name_of(name, client, number);
        if (look(a, top, name, &ino)) {
            return;
        }
        if (before.begun == before.ended && flag->begun == before.begun && ino.v != before.ino.v) {
            sim_wrong(s, "I2", "client %u sees flag %s as inode %" PRIu64 ", and it is %" PRIu64,
                      a->client->number, name, ino.v, before.ino.v);
            return;
        }
        s->counts.looks++;
        actor_sleep(a, hf_sim_rng_below(&s->rng, LOOK_NS));
    }
}
