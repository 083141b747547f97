/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/server/meta/fixture.h"

#include "server/meta/lock.h"

static struct fx fx;
static struct fx_session s, t;
static uint64_t file;

static int setup(void **state)
{
    (void)state;
    fx_init(&fx);
    fx_format(&fx);
    fx_session_open(&fx, &s, 9);
    fx_session_open(&fx, &t, 10);
    file = fx_mkfile(&fx, &s, HF_INO_ROOT, "f");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fx_fini(&fx);
    return 0;
}

static int lock(struct fx_session *session, uint64_t owner, int type, uint64_t off, uint64_t len,
                uint32_t flags)
{
    struct hf_meta_op op = {
        .op = HF_OP_LOCK,
        .ino = {file},
        .lock_owner = owner,
        .lock_type = (uint32_t)type,
        .offset = off,
        .length = len,
        .lock_pid = (uint32_t)(100 + owner),
        .flags = flags,
    };

    return fx_do(&fx, session, &op);
}

/* Type of what is in the way, F_UNLCK: nothing. */
static uint32_t test(struct fx_session *session, uint64_t owner, int type, uint64_t off,
                     uint64_t len)
{
    const struct hf_meta_read rd = {
        .op = HF_RD_GETLK,
        .session = session->id,
        .ino = {file},
        .lock_owner = owner,
        .lock_type = (uint32_t)type,
        .offset = off,
        .length = len,
    };

    assert_int_equal(fx_read(&fx, &rd), 0);
    return fx.reply.lock_type;
}

static void locks_conflict_across_sessions_and_owners(void **state)
{
    (void)state;
    assert_int_equal(lock(&s, 1, F_WRLCK, 10, 10, 0), 0);
    assert_int_equal(lock(&t, 1, F_RDLCK, 0, 0, 0), -EAGAIN);
    assert_int_equal(fx.reply.lock_type, F_WRLCK);
    assert_int_equal(fx.reply.lock_pid, 101);
    assert_int_equal(fx.reply.lock_start, 10);
    assert_int_equal(fx.reply.lock_end, 19);
    assert_int_equal(lock(&s, 2, F_RDLCK, 19, 1, 0), -EAGAIN);
    assert_int_equal(lock(&s, 2, F_RDLCK, 20, 0, 0), 0);
    assert_int_equal(lock(&t, 1, F_RDLCK, 25, 5, 0), 0);
    assert_int_equal(lock(&t, 1, F_WRLCK, 25, 5, 0), -EAGAIN);
    assert_int_equal(lock(&t, 1, 99, 25, 5, 0), -EINVAL);
}

static void unlocking_the_middle_splits(void **state)
{
    (void)state;
    assert_int_equal(lock(&s, 1, F_WRLCK, 0, 100, 0), 0);
    assert_int_equal(lock(&s, 1, F_UNLCK, 40, 20, 0), 0);
    assert_int_equal(test(&t, 1, F_WRLCK, 40, 20), F_UNLCK);
    assert_int_equal(test(&t, 1, F_WRLCK, 39, 1), F_WRLCK);
    assert_int_equal(fx.reply.lock_end, 39);
    assert_int_equal(test(&t, 1, F_WRLCK, 60, 1), F_WRLCK);
    assert_int_equal(fx.reply.lock_start, 60);
    assert_int_equal(lock(&s, 1, F_WRLCK, 40, 20, 0), 0); /* one again */
    assert_int_equal(test(&t, 1, F_WRLCK, 50, 1), F_WRLCK);
    assert_int_equal(fx.reply.lock_start, 0);
    assert_int_equal(fx.reply.lock_end, 99);
    assert_int_equal(lock(&s, 1, F_RDLCK, 40, 20, 0), 0); /* turned in part */
    assert_int_equal(test(&t, 1, F_RDLCK, 40, 20), F_UNLCK);
    assert_int_equal(test(&t, 1, F_RDLCK, 0, 41), F_WRLCK);
}

static void flock_is_a_space_of_its_own(void **state)
{
    struct hf_meta_op release = {
        .op = HF_OP_LOCK_RELEASE, .ino = {file}, .lock_owner = 1, .flags = HF_LOCK_FLOCK};

    (void)state;
    assert_int_equal(lock(&s, 1, F_WRLCK, 0, 0, HF_LOCK_FLOCK), 0);
    assert_int_equal(lock(&t, 1, F_WRLCK, 0, 0, 0), 0);
    assert_int_equal(lock(&t, 2, F_RDLCK, 5, 1, HF_LOCK_FLOCK), -EAGAIN);
    assert_int_equal(lock(&s, 1, F_RDLCK, 0, 0, HF_LOCK_FLOCK), 0);
    assert_int_equal(lock(&t, 2, F_RDLCK, 0, 0, HF_LOCK_FLOCK), 0);
    assert_int_equal(fx_do(&fx, &s, &release), 0);
    assert_int_equal(lock(&t, 2, F_WRLCK, 0, 0, HF_LOCK_FLOCK), 0);
}

static void locks_end_with_their_session_or_file(void **state)
{
    struct hf_meta_op end = {.op = HF_OP_SESSION_EVICT, .session = s.id};

    (void)state;
    assert_int_equal(lock(&s, 1, F_WRLCK, 0, 0, 0), 0);
    assert_int_equal(lock(&s, 1, F_WRLCK, 0, 0, HF_LOCK_FLOCK), 0);
    assert_int_equal(fx_apply(&fx, &end), 0);
    assert_int_equal(lock(&t, 1, F_WRLCK, 0, 0, 0), 0);
    assert_int_equal(lock(&t, 1, F_WRLCK, 0, 0, HF_LOCK_FLOCK), 0);
    fx_fsck(&fx);
    assert_int_equal(fx_remove(&fx, &t, HF_OP_UNLINK, HF_INO_ROOT, "f", 0), 0);
    assert_int_equal(lock(&t, 1, F_WRLCK, 0, 0, 0), -ENOENT);
    assert_int_equal(lock(&t, 1, F_UNLCK, 0, 0, 0), -ENOENT);
}

static void ranges_may_reach_the_end(void **state)
{
    (void)state;
    assert_int_equal(lock(&s, 1, F_WRLCK, UINT64_MAX, 1, 0), 0);
    assert_int_equal(lock(&s, 1, F_WRLCK, UINT64_MAX - 5, UINT64_MAX, 0), 0);
    assert_int_equal(test(&t, 1, F_RDLCK, UINT64_MAX - 3, 0), F_WRLCK);
    assert_int_equal(fx.reply.lock_end, UINT64_MAX);
    assert_int_equal(lock(&s, 1, F_UNLCK, 0, 0, 0), 0);
    assert_int_equal(test(&t, 1, F_RDLCK, 0, 0), F_UNLCK);
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    return z ^ (z >> 27);
}

#define SPAN   40u
#define OWNERS 3u

/* Each byte of a file has one lock type per owner. */
static void a_file_has_so_many_locks_of_each_kind(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < HF_LOCKS_PER_INODE_MAX; i++) {
        assert_int_equal(lock(&s, i % 3, F_RDLCK, 2 * i, 1, 0), 0);
    }
    assert_int_equal(lock(&t, 1, F_RDLCK, 0, 1, 0), -ENOLCK);
    assert_int_equal(test(&t, 1, F_RDLCK, 0, 1), F_UNLCK);
    assert_int_equal(lock(&s, 4, F_UNLCK, 0, 0, 0), 0);
    assert_int_equal(lock(&t, 1, F_RDLCK, 0, 0, HF_LOCK_FLOCK), 0); /* another kind */
    assert_int_equal(lock(&s, 0, F_RDLCK, 0, 2, 0), 0);             /* longer, not more */
    assert_int_equal(lock(&s, 0, F_UNLCK, 0, 2, 0), 0);
    assert_int_equal(lock(&t, 1, F_RDLCK, 0, 1, 0), 0);
    assert_int_equal(lock(&t, 2, F_RDLCK, 0, 1, 0), -ENOLCK);
    fx_fsck(&fx);
}

static void a_lock_vector_equals_an_array_of_types(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 100; seed++) {
        uint32_t model[OWNERS][SPAN];
        struct hf_lockvec vec = {0};
        uint64_t random = seed;

        for (uint32_t i = 0; i < OWNERS * SPAN; i++) {
            model[i / SPAN][i % SPAN] = F_UNLCK;
        }
        for (int step = 0; step < 200; step++) {
            static const uint32_t types[] = {F_RDLCK, F_WRLCK, F_UNLCK};
            uint32_t owner = (uint32_t)(next_random(&random) % OWNERS);
            struct hf_lock wanted = {.session = {1 + owner % 2}, .owner = owner};
            bool blocked = false;

            wanted.start = next_random(&random) % SPAN;
            wanted.end = wanted.start + next_random(&random) % (SPAN - wanted.start);
            wanted.type = types[next_random(&random) % 3];
            for (uint64_t i = wanted.start; i <= wanted.end && wanted.type != F_UNLCK; i++) {
                for (uint32_t o = 0; o < OWNERS; o++) {
                    blocked |= o != owner && model[o][i] != F_UNLCK &&
                               (model[o][i] == F_WRLCK || wanted.type == F_WRLCK);
                }
            }
            if (wanted.type != F_UNLCK) {
                assert_int_equal(hf_lockvec_conflict(&vec, &wanted) != NULL, blocked);
            }
            if (blocked) {
                continue;
            }
            assert_int_equal(hf_lockvec_set(&vec, &wanted), 0);
            for (uint64_t i = wanted.start; i <= wanted.end; i++) {
                model[owner][i] = wanted.type;
            }
            for (uint32_t o = 0; o < OWNERS; o++) {
                uint32_t runs = 0, found = 0;

                for (uint32_t i = 0; i < SPAN; i++) {
                    runs += model[o][i] != F_UNLCK && (i == 0 || model[o][i] != model[o][i - 1]);
                }
                for (uint32_t i = 0; i < vec.count; i++) {
                    found += vec.v[i].owner == o;
                    for (uint64_t j = vec.v[i].start; j <= vec.v[i].end && vec.v[i].owner == o;
                         j++) {
                        assert_int_equal(model[o][j], vec.v[i].type);
                    }
                }
                assert_int_equal(found, runs);
            }
        }
        hf_lockvec_fini(&vec);
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(locks_conflict_across_sessions_and_owners),
        T(unlocking_the_middle_splits),
        T(flock_is_a_space_of_its_own),
        T(locks_end_with_their_session_or_file),
        T(ranges_may_reach_the_end),
        T(a_file_has_so_many_locks_of_each_kind),
        cmocka_unit_test(a_lock_vector_equals_an_array_of_types),
    };
#undef T

    return cmocka_run_group_tests(tests, NULL, NULL);
}
