/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real environment, for a test at a time.
 */
#ifndef HF_TESTS_ENV_REAL_WORLD_H
#define HF_TESTS_ENV_REAL_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/assert.h"
#include "common/base/limits.h"
#include "common/env/env_real.h"
#include "tests/lib/loop.h"

struct fixture {
    struct hf_env *env;
    char dir[64];
};

static inline int setup(void **state)
{
    static struct fixture f;
    const struct hf_env_real_options options = {.cpu = -1};

    (void)snprintf(f.dir, sizeof(f.dir), "/tmp/hf-test-env.XXXXXX");
    assert_non_null(mkdtemp(f.dir));
    assert_int_equal(hf_env_real_new(&options, &f.env), 0);
    *state = &f;
    return 0;
}

static inline int remove_name(void *ctx, const char *name)
{
    const char *dir = ctx;
    char path[512];

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    return remove(path) == 0 ? 0 : -errno;
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(hf_disk_list(hf_env_disk(f->env), f->dir, remove_name, f->dir), 0);
    hf_env_real_free(f->env);
    assert_int_equal(rmdir(f->dir), 0);
    return 0;
}

static inline const char *in_dir(const struct fixture *f, const char *name)
{
    static char path[4][256];
    static unsigned turn;
    char *ret = path[turn++ % 4];

    (void)snprintf(ret, sizeof(path[0]), "%s/%s", f->dir, name);
    return ret;
}

/* Timers that note down that they rang. */
struct note {
    struct hf_timer timer;
    struct notes *notes;
    int id;
};

struct notes {
    struct hf_env *env;
    struct note note[8];
    int seen[16];
    int count;
    int stop_at;
};

static inline void note_it(void *ctx)
{
    struct note *note = ctx;

    note->notes->seen[note->notes->count++] = note->id;
    if (note->notes->count == note->notes->stop_at) {
        hf_env_real_stop(note->notes->env);
    }
}

static inline void notes_init(struct notes *notes, struct hf_env *env)
{
    *notes = (struct notes){.env = env};
    for (int i = 0; i < 8; i++) {
        notes->note[i].notes = notes;
        notes->note[i].id = i;
        hf_timer_init(&notes->note[i].timer, env, note_it, &notes->note[i]);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
