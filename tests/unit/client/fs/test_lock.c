/* SPDX-License-Identifier: Apache-2.0 */
/* test_lock.c - what is written under a lock, and read under one. */
#include "tests/unit/client/fs/fs_world.h"

#include "common/base/bytes.h"

static const struct {
    uint32_t type; /* that follows the exclusive lock */
    bool flock;
} ends[] = {{F_UNLCK, false}, {F_RDLCK, false}, {F_UNLCK, true}, {F_RDLCK, true}};

static int lock_now(struct world *w, struct hf_ino ino, const struct hf_fs_lock *lock)
{
    struct once o;

    return WAIT(w, &o, hf_fs_setlk(w->fs, ino, lock, false, &o.req));
}

static void write_some(struct actor *a, uint64_t off, uint32_t len)
{
    static const uint8_t data[300000];
    struct once o;

    assert_int_equal(hf_fs_write(a->file, off, data, len, NULL, 0, &once(&o)->req), 0);
}

static void end(struct world *w)
{
    sync_and_close(w);
    fs_close(w);
    world_fini(w);
}

/* As the metadata are now, without asking: no time passes. */
static struct hf_meta_reply ask(struct world *w, const struct hf_meta_read *rd)
{
    struct hf_meta_reply reply = {0};

    hf_sweep_hold();
    hf_meta_read(w->c->meta, rd, &reply, w->c->look, FC_LOOK_BYTES);
    hf_sweep_release();
    assert_int_equal(reply.err, 0);
    return reply;
}

static uint64_t committed_size(struct world *w, struct hf_ino ino)
{
    return ask(w, &(struct hf_meta_read){.op = HF_RD_GETATTR, .ino = ino}).attr.size;
}

struct until {
    struct world *w;
    struct hf_meta_read rd; /* GETLK */
};

/* Until somebody else may have a shared lock. */
static struct until until_shared(struct world *w, struct hf_ino ino, bool flock)
{
    return (struct until){w,
                          {.op = HF_RD_GETLK,
                           .ino = ino,
                           .lock_owner = 9,
                           .lock_type = F_RDLCK,
                           .flags = flock ? HF_LOCK_FLOCK : 0}};
}

static bool is_granted(void *ctx)
{
    struct until *until = ctx;

    return ask(until->w, &until->rd).lock_type == F_UNLCK;
}

/* At the moment when another mount would get the lock. */
static void what_was_written_is_committed_before_the_lock_goes(void **state)
{
    static const uint32_t sizes[] = {100, 5000, 300000};
    struct world w;
    uint64_t size = 0;

    (void)state;
    world_init(&w, 50);
    for (size_t i = 0; i < HF_ARRAY_LEN(ends) * HF_ARRAY_LEN(sizes); i++) {
        struct actor *a = &w.actors[i % FILES];
        struct hf_fs_lock lock = {.owner = 1, .type = F_WRLCK, .flock = ends[i % 4].flock};
        struct until until = until_shared(&w, a->ino, lock.flock);
        struct once o;

        size += 1000000;
        assert_int_equal(lock_now(&w, a->ino, &lock), 0);
        assert_false(is_granted(&until));
        write_some(a, size - sizes[i / 4], sizes[i / 4]);
        lock.type = ends[i % 4].type;
        assert_int_equal(hf_fs_setlk(w.fs, a->ino, &lock, i % 2, &once(&o)->req), HF_FS_PENDING);
        assert_true(hf_sim_run_until(w.c->sim, is_granted, &until, 10 * HF_NS_PER_SEC));
        assert_int_equal(committed_size(&w, a->ino), size);
        assert_int_equal(wait_for(&w, &o, HF_FS_PENDING), 0);
        lock.type = F_UNLCK;
        assert_int_equal(lock_now(&w, a->ino, &lock), 0);
    }
    end(&w);
}

/* With a lock that goes with it: of flock(2), or of its own. */
static struct hf_fs_file *open_locked(struct world *w, struct hf_ino ino, struct hf_fs_lock *lock)
{
    struct once o;

    assert_int_equal(WAIT(w, &o, hf_fs_open(w->fs, ino, O_RDWR, &o.req)), 0);
    lock->through = lock->flock ? NULL : o.req.file;
    assert_int_equal(lock_now(w, ino, lock), 0);
    return o.req.file;
}

static void release(struct world *w, struct hf_ino ino, struct hf_fs_file *file, bool flock)
{
    if (flock) {
        hf_fs_unflock(w->fs, ino, 1);
    }
    hf_fs_release(file);
}

/* It was mapped, and the FLUSH of its descriptor came before the stores. */
static void what_was_written_is_committed_before_the_open_files_lock_goes(void **state)
{
    static const uint32_t sizes[] = {100, 5000, 300000};
    struct world w;
    uint64_t size = 0;

    (void)state;
    world_init(&w, 56);
    for (size_t i = 0; i < 4 * HF_ARRAY_LEN(sizes); i++) {
        struct actor *a = &w.actors[i % FILES];
        struct hf_fs_lock lock = {.owner = 1, .type = F_WRLCK, .flock = i % 2};
        struct until until = until_shared(&w, a->ino, lock.flock);
        struct hf_fs_file *file;
        struct once o;

        size += 1000000;
        file = open_locked(&w, a->ino, &lock);
        assert_int_equal(WAIT(&w, &o, hf_fs_flush(file, 7, &o.req)), 0);
        write_some(a, size - sizes[i / 4], sizes[i / 4]);
        if (i % 4 >= 2) { /* it is on its way already */
            assert_int_equal(hf_fs_sync(w.fs, a->ino, false, &once(&o)->req), 0);
        }
        release(&w, a->ino, file, lock.flock);
        assert_false(is_granted(&until));
        assert_true(hf_sim_run_until(w.c->sim, is_granted, &until, 10 * HF_NS_PER_SEC));
        assert_int_equal(committed_size(&w, a->ino), size);
    }
    end(&w);
}

/* The kernel names open files by where they lie in its memory: the next one may lie there. */
static void a_lock_of_the_same_number_waits_for_the_one_before(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];

    (void)state;
    world_init(&w, 57);
    for (int i = 0; i < 2; i++) {
        struct hf_fs_lock lock = {.owner = 1, .type = F_WRLCK, .flock = i};
        struct until until = until_shared(&w, a->ino, lock.flock);
        struct hf_fs_file *file;
        struct once o, o2;

        file = open_locked(&w, a->ino, &lock);
        write_some(a, 0, 300000);
        release(&w, a->ino, file, lock.flock);
        lock.through = NULL;
        assert_int_equal(hf_fs_setlk(w.fs, a->ino, &lock, false, &once(&o)->req), HF_FS_PENDING);
        assert_int_equal(hf_fs_setlk(w.fs, a->ino, &lock, true, &once(&o2)->req), HF_FS_PENDING);
        assert_int_equal(wait_for(&w, &o, HF_FS_PENDING), 0);
        assert_int_equal(wait_for(&w, &o2, HF_FS_PENDING), 0);
        hf_sim_run_ns(w.c->sim, HF_NS_PER_SEC);
        assert_false(is_granted(&until));
        lock.type = F_UNLCK;
        assert_int_equal(lock_now(&w, a->ino, &lock), 0);
        assert_true(is_granted(&until));
    }
    end(&w);
}

/* Nobody waits for that: the lock goes all the same, and the next fsync says so. */
static void what_cannot_be_committed_keeps_no_open_files_lock(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];

    (void)state;
    world_init(&w, 58);
    for (int i = 0; i < 2; i++) {
        struct hf_fs_lock lock = {.owner = 1, .type = F_WRLCK, .flock = i};
        struct hf_fs_lock other = {.owner = 2, .type = F_RDLCK, .flock = i};
        struct hf_fs_file *file;
        struct once o;

        file = open_locked(&w, a->ino, &lock);
        write_some(a, 0, 200000);
        w.c->put_fail_one_in = 1;
        w.c->put_err = -ETIMEDOUT;
        release(&w, a->ino, file, lock.flock);
        assert_int_equal(WAIT(&w, &o, hf_fs_setlk(w.fs, a->ino, &other, true, &o.req)), 0);
        w.c->put_fail_one_in = 0;
        assert_int_equal(WAIT(&w, &o, hf_fs_fsync(a->file, &o.req)), -ETIMEDOUT);
        assert_int_equal(WAIT(&w, &o, hf_fs_fsync(a->file, &o.req)), 0);
        other.type = F_UNLCK;
        assert_int_equal(lock_now(&w, a->ino, &other), 0);
    }
    end(&w);
}

/* The lock goes, and fsync says what became of the data. */
static void what_cannot_be_committed_keeps_no_lock(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct once o;

    (void)state;
    world_init(&w, 51);
    for (size_t i = 0; i < HF_ARRAY_LEN(ends); i++) {
        struct hf_fs_lock lock = {.owner = 1, .type = F_WRLCK, .flock = ends[i].flock};
        struct hf_fs_lock other = {.owner = 2, .type = F_RDLCK, .flock = ends[i].flock};

        assert_int_equal(lock_now(&w, a->ino, &lock), 0);
        write_some(a, 0, 200000);
        w.c->put_fail_one_in = 1;
        w.c->put_err = -ETIMEDOUT;
        lock.type = ends[i].type;
        assert_int_equal(lock_now(&w, a->ino, &lock), 0);
        assert_int_equal(lock_now(&w, a->ino, &other), 0);
        w.c->put_fail_one_in = 0;
        assert_int_equal(WAIT(&w, &o, hf_fs_fsync(a->file, &o.req)), -ETIMEDOUT);
        assert_int_equal(WAIT(&w, &o, hf_fs_fsync(a->file, &o.req)), 0);
        lock.type = other.type = F_UNLCK;
        assert_int_equal(lock_now(&w, a->ino, &lock), 0);
        assert_int_equal(lock_now(&w, a->ino, &other), 0);
    }
    end(&w);
}

/* Others could read all the time. */
static void a_shared_lock_ends_without_a_commit(void **state)
{
    struct hf_fs_lock lock = {.owner = 1, .type = F_RDLCK};
    struct world w;
    struct actor *a = &w.actors[0];

    (void)state;
    world_init(&w, 52);
    assert_int_equal(lock_now(&w, a->ino, &lock), 0);
    write_some(a, 0, 5000);
    assert_int_equal(lock_now(&w, a->ino, &lock), 0);
    lock.type = F_UNLCK;
    assert_int_equal(lock_now(&w, a->ino, &lock), 0);
    assert_int_equal(committed_size(&w, a->ino), 0);
    end(&w);
}

/* Its close gives up the locks of a process, or of its description. */
static void a_close_of_a_reader_that_has_the_lock_commits(void **state)
{
    struct world w;
    struct once o;

    (void)state;
    world_init(&w, 53);
    for (int i = 0; i < 3; i++) {
        struct actor *a = &w.actors[i];
        struct hf_fs_lock lock = {.owner = i ? 8 : 7, .type = F_WRLCK, .flock = i == 1};
        struct hf_fs_file *reader;

        assert_int_equal(WAIT(&w, &o, hf_fs_open(w.fs, a->ino, O_RDONLY, &o.req)), 0);
        reader = o.req.file;
        write_some(a, 0, 5000);
        assert_int_equal(WAIT(&w, &o, hf_fs_flush(reader, 7, &o.req)), 0);
        assert_int_equal(committed_size(&w, a->ino), 0); /* there was none */
        lock.through = i == 2 ? reader : NULL;
        assert_int_equal(lock_now(&w, a->ino, &lock), 0);
        assert_int_equal(WAIT(&w, &o, hf_fs_flush(reader, 7, &o.req)), 0);
        assert_int_equal(committed_size(&w, a->ino), 5000);
        if (i == 1) {
            hf_fs_unflock(w.fs, a->ino, 8);
        }
        hf_fs_release(reader);
    }
    end(&w);
}

/* The session gives them up at its end, when everything is written. */
static void the_end_of_a_mount_keeps_locks_until_all_is_written(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct hf_fs_lock lock = {.owner = 1, .type = F_WRLCK};
    struct until until = {&w, {.op = HF_RD_GETLK, .lock_owner = 9, .lock_type = F_RDLCK}};

    (void)state;
    world_init(&w, 55);
    lock.through = a->file;
    until.rd.ino = a->ino;
    assert_int_equal(lock_now(&w, a->ino, &lock), 0);
    write_some(a, 0, 300000);
    hf_fs_release_all(w.fs);
    hf_sim_run_ns(w.c->sim, HF_NS_PER_SEC);
    assert_int_equal(committed_size(&w, a->ino), 300000);
    assert_false(is_granted(&until));
    fs_close(&w);
    world_fini(&w);
}

/* What another mount does meanwhile; each time another one. */
static void cut_elsewhere(struct world *w, struct hf_ino ino, uint64_t size)
{
    struct hf_meta_op op = {
        .op = HF_OP_SESSION_OPEN, .text = "other", .ttl_ns = 30 * HF_NS_PER_SEC};
    struct hf_meta_reply reply;

    hf_put_le64(op.uuid.b, size);
    fc_apply(w->c, &op, &reply);
    assert_int_equal(reply.err, 0);
    op = (struct hf_meta_op){.op = HF_OP_SETATTR,
                             .session = reply.session,
                             .stream = 1,
                             .ino = ino,
                             .mask = HF_SET_SIZE,
                             .size = size};
    fc_apply(w->c, &op, &reply);
    assert_int_equal(reply.err, 0);
}

/* What the kernel has of the file is older than what the lock lets its owner read. */
static void a_lock_tells_whether_pages_are_old(void **state)
{
    static const uint32_t types[] = {F_WRLCK, F_RDLCK};
    struct world w;
    struct actor *a = &w.actors[0];

    (void)state;
    world_init(&w, 54);
    for (int i = 0; i < 4; i++) {
        struct hf_fs_lock lock = {.owner = 1, .flock = i / 2}, unlock = lock;
        struct once o;

        lock.type = types[i % 2];
        unlock.type = F_UNLCK;
        cut_elsewhere(&w, a->ino, 1000 + (uint64_t)i);
        assert_int_equal(WAIT(&w, &o, hf_fs_setlk(w.fs, a->ino, &lock, true, &o.req)), 0);
        assert_false(o.req.keep_cache);
        assert_int_equal(WAIT(&w, &o, hf_fs_setlk(w.fs, a->ino, &lock, true, &o.req)), 0);
        assert_true(o.req.keep_cache); /* those of before went */
        write_some(a, 0, 5000);
        assert_int_equal(WAIT(&w, &o, hf_fs_setlk(w.fs, a->ino, &unlock, true, &o.req)), 0);
        assert_true(o.req.keep_cache);
        assert_int_equal(WAIT(&w, &o, hf_fs_fsync(a->file, &o.req)), 0);
        assert_int_equal(WAIT(&w, &o, hf_fs_setlk(w.fs, a->ino, &lock, true, &o.req)), 0);
        assert_true(o.req.keep_cache); /* only this mount wrote */
        write_some(a, 0, 5000);
        cut_elsewhere(&w, a->ino, 2000 + (uint64_t)i); /* without a lock: seen by the next */
        assert_int_equal(WAIT(&w, &o, hf_fs_setlk(w.fs, a->ino, &unlock, true, &o.req)), 0);
        assert_int_equal(WAIT(&w, &o, hf_fs_fsync(a->file, &o.req)), 0);
        assert_int_equal(WAIT(&w, &o, hf_fs_setlk(w.fs, a->ino, &lock, true, &o.req)), 0);
        assert_false(o.req.keep_cache);
        assert_int_equal(WAIT(&w, &o, hf_fs_setlk(w.fs, a->ino, &unlock, true, &o.req)), 0);
    }
    end(&w);
}

static void a_waiting_lock_is_granted_later_or_interrupted(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct hf_fs_lock mine = {.owner = 1, .type = F_WRLCK}, other = {.owner = 2, .type = F_WRLCK};
    struct once o, p;

    (void)state;
    world_init(&w, 16);
    assert_int_equal(WAIT(&w, &o, hf_fs_setlk(w.fs, a->ino, &mine, false, &o.req)), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_setlk(w.fs, a->ino, &other, false, &o.req)), -EAGAIN);
    assert_int_equal(hf_fs_setlk(w.fs, a->ino, &other, true, &once(&p)->req), HF_FS_PENDING);
    hf_sim_run_ns(w.c->sim, HF_NS_PER_SEC);
    assert_false(p.done);
    hf_fs_interrupt(&p.req);
    hf_sim_run_ns(w.c->sim, HF_NS_PER_SEC);
    assert_true(p.done && p.err == -EINTR);
    assert_int_equal(w.c->waits_ended, 1); /* the leader was told */
    assert_int_equal(hf_fs_setlk(w.fs, a->ino, &other, true, &once(&p)->req), HF_FS_PENDING);
    hf_sim_run_ns(w.c->sim, HF_NS_PER_SEC);
    assert_int_equal(WAIT(&w, &o, hf_fs_flush(a->file, 1, &o.req)), 0); /* drops it */
    hf_sim_run_ns(w.c->sim, HF_NS_PER_SEC);
    assert_true(p.done && p.err == 0);
    end(&w);
}

/* flock(2): who changes a lock gives the old one up first. */
static void two_that_share_both_come_to_lock_alone(void **state)
{
    struct world w;
    struct hf_fs_lock one = {.owner = 1, .type = F_RDLCK, .flock = true}, two = one;
    struct hf_ino ino;
    struct once o, p;

    (void)state;
    world_init(&w, 26);
    ino = w.actors[0].ino;
    two.owner = 2;
    assert_int_equal(lock_now(&w, ino, &one), 0);
    assert_int_equal(lock_now(&w, ino, &two), 0);
    one.type = two.type = F_WRLCK;
    assert_int_equal(hf_fs_setlk(w.fs, ino, &one, true, &once(&p)->req), HF_FS_PENDING);
    hf_sim_run_ns(w.c->sim, HF_NS_PER_SEC);
    assert_false(p.done);
    assert_int_equal(WAIT(&w, &o, hf_fs_setlk(w.fs, ino, &two, true, &o.req)), 0);
    two.type = F_UNLCK;
    assert_int_equal(lock_now(&w, ino, &two), 0);
    assert_int_equal(wait_for(&w, &p, HF_FS_PENDING), 0);
    one.type = two.type = F_RDLCK;
    assert_int_equal(lock_now(&w, ino, &one), 0); /* shared in place */
    assert_int_equal(lock_now(&w, ino, &two), 0);
    two.type = F_WRLCK;
    assert_int_equal(lock_now(&w, ino, &two), -EAGAIN);
    one.type = F_WRLCK;
    assert_int_equal(lock_now(&w, ino, &one), 0); /* the other has lost what it had */
    end(&w);
}

static void a_close_ends_when_its_locks_are_given_back(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct hf_fs_lock mine = {.owner = 1, .type = F_WRLCK}, other = {.owner = 2, .type = F_WRLCK};
    struct until until;
    struct once o;

    (void)state;
    world_init(&w, 27);
    until = until_shared(&w, a->ino, false);
    assert_int_equal(lock_now(&w, a->ino, &mine), 0);
    write_some(a, 0, 3000);
    assert_int_equal(WAIT(&w, &o, hf_fs_flush(a->file, 1, &o.req)), 0);
    assert_true(is_granted(&until));
    assert_int_equal(lock_now(&w, a->ino, &other), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_flush(a->file, 1, &o.req)), 0);
    assert_false(is_granted(&until)); /* that was another's */
    assert_int_equal(WAIT(&w, &o, hf_fs_flush(a->file, 2, &o.req)), 0);
    assert_true(is_granted(&until));
    end(&w);
}

/* One thread waits, another closes some other descriptor of the file; or the lock is refused. */
static void what_is_granted_after_a_close_is_given_back_by_the_next(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct hf_fs_lock first = {.owner = 1, .type = F_WRLCK}, mine = {.owner = 2, .type = F_WRLCK};
    struct hf_fs_file *second;
    struct until until;
    struct once o, p;

    (void)state;
    world_init(&w, 59);
    until = until_shared(&w, a->ino, false);
    for (int refused = 0; refused < 2; refused++) {
        first.type = F_WRLCK;
        assert_int_equal(lock_now(&w, a->ino, &first), 0);
        assert_int_equal(WAIT(&w, &o, hf_fs_open(w.fs, a->ino, O_RDONLY, &o.req)), 0);
        second = o.req.file;
        mine.through = a->file;
        assert_int_equal(hf_fs_setlk(w.fs, a->ino, &mine, true, &once(&p)->req), HF_FS_PENDING);
        hf_sim_run_ns(w.c->sim, HF_NS_PER_SEC);
        assert_int_equal(WAIT(&w, &o, hf_fs_flush(second, 2, &o.req)), 0);
        hf_fs_release(second);
        assert_false(p.done);
        if (refused) {
            hf_fs_interrupt(&p.req);
            assert_int_equal(wait_for(&w, &p, HF_FS_PENDING), -EINTR);
        }
        first.type = F_UNLCK;
        assert_int_equal(lock_now(&w, a->ino, &first), 0);
        if (!refused) {
            assert_int_equal(wait_for(&w, &p, HF_FS_PENDING), 0);
        }
        assert_int_equal(is_granted(&until), refused);
        assert_int_equal(WAIT(&w, &o, hf_fs_flush(a->file, 2, &o.req)), 0);
        assert_true(is_granted(&until));
    }
    end(&w);
}

static void a_lock_taken_through_a_file_ends_with_it(void **state)
{
    struct world w;
    struct actor *a = &w.actors[0];
    struct hf_fs_lock mine = {.owner = 1, .type = F_WRLCK}, other = {.owner = 2, .type = F_WRLCK};
    struct hf_fs_file *second;
    struct once o;

    (void)state;
    world_init(&w, 21);
    assert_int_equal(WAIT(&w, &o, hf_fs_open(w.fs, a->ino, O_RDWR, &o.req)), 0);
    second = o.req.file;
    mine.through = second; /* an open file description's lock: no flush names its owner */
    assert_int_equal(WAIT(&w, &o, hf_fs_setlk(w.fs, a->ino, &mine, false, &o.req)), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_flush(second, 7, &o.req)), 0);
    assert_int_equal(WAIT(&w, &o, hf_fs_setlk(w.fs, a->ino, &other, false, &o.req)), -EAGAIN);
    hf_fs_release(second);
    other.through = a->file;
    assert_int_equal(WAIT(&w, &o, hf_fs_setlk(w.fs, a->ino, &other, false, &o.req)), 0);
    end(&w);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_committed_before_the_lock_goes),
        cmocka_unit_test(what_was_written_is_committed_before_the_open_files_lock_goes),
        cmocka_unit_test(a_lock_of_the_same_number_waits_for_the_one_before),
        cmocka_unit_test(what_cannot_be_committed_keeps_no_open_files_lock),
        cmocka_unit_test(what_cannot_be_committed_keeps_no_lock),
        cmocka_unit_test(a_shared_lock_ends_without_a_commit),
        cmocka_unit_test(a_close_of_a_reader_that_has_the_lock_commits),
        cmocka_unit_test(the_end_of_a_mount_keeps_locks_until_all_is_written),
        cmocka_unit_test(a_lock_tells_whether_pages_are_old),
        cmocka_unit_test(a_lock_taken_through_a_file_ends_with_it),
        cmocka_unit_test(a_waiting_lock_is_granted_later_or_interrupted),
        cmocka_unit_test(two_that_share_both_come_to_lock_alone),
        cmocka_unit_test(a_close_ends_when_its_locks_are_given_back),
        cmocka_unit_test(what_is_granted_after_a_close_is_given_back_by_the_next),
    };

    hf_log_set_sink(quiet, NULL);
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
