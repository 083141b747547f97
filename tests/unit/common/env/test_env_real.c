/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real environment but for its network: test_env_real_net.c.
 */
#include <semaphore.h>

#include "tests/unit/common/env/env_real_world.h"

/* Timers */

static void timers_run_in_order_of_their_deadlines(void **state)
{
    struct fixture *f = *state;
    struct notes notes;
    const uint64_t start_ns = hf_env_mono_ns(f->env);

    notes_init(&notes, f->env);
    notes.stop_at = 4;
    hf_timer_arm(&notes.note[3].timer, 8 * HF_NS_PER_MS);
    hf_timer_arm(&notes.note[0].timer, 0);
    hf_timer_arm(&notes.note[2].timer, 4 * HF_NS_PER_MS);
    hf_timer_arm(&notes.note[1].timer, 1 * HF_NS_PER_MS);
    hf_timer_arm(&notes.note[4].timer, 2 * HF_NS_PER_MS);
    hf_timer_arm(&notes.note[5].timer, UINT64_MAX);
    hf_timer_disarm(&notes.note[4].timer);
    assert_int_equal(hf_env_real_run(f->env), 0);
    assert_int_equal(notes.count, 4);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(notes.seen[i], i);
        assert_false(notes.note[i].timer.armed);
    }
    assert_true(hf_env_mono_ns(f->env) - start_ns >= 8 * HF_NS_PER_MS);
    assert_true(notes.note[5].timer.armed);
    for (int i = 0; i < 8; i++) {
        hf_timer_fini(&notes.note[i].timer);
    }
    hf_timer_fini(&(struct hf_timer){0});
}

static void rearming_a_timer_moves_it(void **state)
{
    struct fixture *f = *state;
    struct notes notes;

    notes_init(&notes, f->env);
    notes.stop_at = 2;
    hf_timer_arm(&notes.note[1].timer, 1 * HF_NS_PER_MS);
    hf_timer_arm(&notes.note[0].timer, 3600 * HF_NS_PER_SEC);
    hf_timer_arm(&notes.note[1].timer, 2 * HF_NS_PER_MS);
    hf_timer_arm(&notes.note[0].timer, 0);
    assert_int_equal(hf_env_real_run(f->env), 0);
    assert_int_equal(notes.seen[0], 0);
    assert_int_equal(notes.seen[1], 1);
    assert_int_equal(notes.count, 2);
    hf_timer_fini(&notes.note[0].timer);
    hf_timer_fini(&notes.note[1].timer);
}

struct self_ender {
    struct hf_timer timer;
    struct hf_env *env;
    int runs;
};

static void end_itself(void *ctx)
{
    struct self_ender *ender = ctx;
    struct hf_env *env = ender->env;

    if (++ender->runs < 3) {
        hf_timer_arm(&ender->timer, 0);
        return;
    }
    hf_timer_fini(&ender->timer);
    free(ender);
    hf_env_real_stop(env);
}

static void a_timer_may_rearm_and_free_itself(void **state)
{
    struct fixture *f = *state;
    struct self_ender *ender = calloc(1, sizeof(*ender));

    assert_non_null(ender);
    ender->env = f->env;
    hf_timer_init(&ender->timer, f->env, end_itself, ender);
    hf_timer_arm(&ender->timer, 0);
    assert_int_equal(hf_env_real_run(f->env), 0);
}

/* Tasks */

struct posted {
    struct hf_task task;
    struct hf_env *env;
    int id;
    int *seen;
    int *count;
    int stop_at;
};

static void posted_run(struct hf_task *task)
{
    struct posted *posted = hf_container_of(task, struct posted, task);

    hf_assert_loop(posted->env);
    posted->seen[(*posted->count)++] = posted->id;
    if (*posted->count == posted->stop_at) {
        hf_env_real_stop(posted->env);
    }
}

enum { POST_COUNT = 5 };

static void *post_all(void *arg)
{
    struct posted *posted = arg;

    for (int i = 0; i < POST_COUNT; i++) {
        (void)usleep(200); /* lets the loop fall asleep, or not: both must work */
        hf_env_post(posted[i].env, &posted[i].task);
    }
    return NULL;
}

static void posts_of_a_thread_run_on_the_loop_in_order(void **state)
{
    struct fixture *f = *state;

    for (int round = 0; round < 50; round++) {
        struct posted posted[POST_COUNT];
        int seen[POST_COUNT];
        int count = 0;
        pthread_t thread;

        for (int i = 0; i < POST_COUNT; i++) {
            posted[i] = (struct posted){.task.fn = posted_run,
                                        .env = f->env,
                                        .id = i,
                                        .seen = seen,
                                        .count = &count,
                                        .stop_at = POST_COUNT};
        }
        assert_int_equal(pthread_create(&thread, NULL, post_all, posted), 0);
        assert_int_equal(hf_env_real_run(f->env), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(count, POST_COUNT);
        for (int i = 0; i < POST_COUNT; i++) {
            assert_int_equal(seen[i], i);
        }
    }
}

static void a_task_posted_twice_runs_once(void **state)
{
    struct fixture *f = *state;
    int seen[4];
    int count = 0;
    struct posted posted = {
        .task.fn = posted_run, .env = f->env, .seen = seen, .count = &count, .stop_at = 1};

    hf_env_post(f->env, &posted.task);
    hf_env_post(f->env, &posted.task);
    assert_int_equal(hf_env_real_run(f->env), 0);
    assert_int_equal(count, 1);
    posted.stop_at = 2;
    hf_env_post(f->env, &posted.task);
    assert_int_equal(hf_env_real_run(f->env), 0);
    assert_int_equal(count, 2);
}

static void tasks_queued_when_stopping_still_run(void **state)
{
    struct fixture *f = *state;
    struct posted posted[3];
    int seen[4];
    int count = 0;

    for (int i = 0; i < 3; i++) {
        posted[i] = (struct posted){.task.fn = posted_run,
                                    .env = f->env,
                                    .id = i,
                                    .seen = seen,
                                    .count = &count,
                                    .stop_at = 1};
        hf_env_post(f->env, &posted[i].task);
    }
    assert_int_equal(hf_env_real_run(f->env), 0);
    assert_int_equal(count, 3);
}

/* Jobs */

struct work {
    struct hf_job job;
    struct hf_env *env;
    int id;
    int *run_order; /* worker thread */
    int *run_count;
    int *done_count; /* loop thread */
    int stop_at;
};

static void work_run(struct hf_job *job)
{
    struct work *work = hf_container_of(job, struct work, job);

    hf_assert_worker(work->env);
    work->run_order[(*work->run_count)++] = work->id;
}

static void work_done(struct hf_job *job)
{
    struct work *work = hf_container_of(job, struct work, job);

    hf_assert_loop(work->env);
    assert_int_equal(*work->done_count, work->id);
    if (++*work->done_count == work->stop_at) {
        hf_env_real_stop(work->env);
    }
}

static void submit_work(struct hf_env *env, struct work *works, int count, int *run_order,
                        int *run_count, int *done_count)
{
    for (int i = 0; i < count; i++) {
        works[i] = (struct work){.job = {.run = work_run, .done = work_done},
                                 .env = env,
                                 .id = i,
                                 .run_order = run_order,
                                 .run_count = run_count,
                                 .done_count = done_count,
                                 .stop_at = count};
        hf_env_submit(env, HF_POOL_WRITE, &works[i].job);
    }
}

struct submit_task {
    struct hf_task task;
    struct hf_env *env;
    struct work *works;
    int *run_order, *run_count, *done_count;
};

static void submit_from_loop(struct hf_task *task)
{
    struct submit_task *s = hf_container_of(task, struct submit_task, task);

    submit_work(s->env, s->works, 100, s->run_order, s->run_count, s->done_count);
    assert_int_equal(*s->done_count, 0);
}

static void jobs_of_one_thread_run_in_order_and_are_done_on_the_loop(void **state)
{
    struct fixture *f = *state;
    struct work works[100];
    int run_order[100];
    int run_count = 0;
    int done_count = 0;
    struct submit_task s = {.task.fn = submit_from_loop,
                            .env = f->env,
                            .works = works,
                            .run_order = run_order,
                            .run_count = &run_count,
                            .done_count = &done_count};

    hf_env_post(f->env, &s.task);
    assert_int_equal(hf_env_real_run(f->env), 0);
    assert_int_equal(done_count, 100);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(run_order[i], i);
    }
}

struct pool_work {
    struct hf_job job;
    atomic_int *run_count;
    int *done_count;
    struct hf_env *env;
    int stop_at;
};

static void pool_run(struct hf_job *job)
{
    struct pool_work *work = hf_container_of(job, struct pool_work, job);

    (void)atomic_fetch_add(work->run_count, 1);
}

static void pool_done(struct hf_job *job)
{
    struct pool_work *work = hf_container_of(job, struct pool_work, job);

    if (++*work->done_count == work->stop_at) {
        hf_env_real_stop(work->env);
    }
}

static void every_job_of_a_pool_of_threads_is_done_once(void **state)
{
    enum { COUNT = 5000 };
    struct fixture *f = *state;
    struct pool_work *works = calloc(COUNT, sizeof(*works));
    atomic_int run_count = 0;
    int done_count = 0;

    assert_non_null(works);
    for (int i = 0; i < COUNT; i++) {
        works[i] = (struct pool_work){.job = {.run = pool_run, .done = pool_done},
                                      .run_count = &run_count,
                                      .done_count = &done_count,
                                      .env = f->env,
                                      .stop_at = COUNT};
        hf_env_submit(f->env, HF_POOL_DISK, &works[i].job);
    }
    assert_int_equal(hf_env_real_run(f->env), 0);
    assert_int_equal(done_count, COUNT);
    assert_int_equal(atomic_load(&run_count), COUNT);
    free(works);
}

/* A merge takes until a cold read is done. */
struct merge_or_read {
    struct hf_job job;
    struct hf_env *env;
    sem_t *read_done;
    int *left;
    bool is_read, waited;
};

static void merge_or_read_run(struct hf_job *job)
{
    struct merge_or_read *w = hf_container_of(job, struct merge_or_read, job);
    struct timespec until;

    if (w->is_read) {
        (void)sem_post(w->read_done);
        (void)sem_post(w->read_done);
        return;
    }
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 10;
    w->waited = sem_timedwait(w->read_done, &until) == 0;
}

static void merge_or_read_done(struct hf_job *job)
{
    struct merge_or_read *w = hf_container_of(job, struct merge_or_read, job);

    if (--*w->left == 0) {
        hf_env_real_stop(w->env);
    }
}

static void reads_do_not_wait_for_merges_of_both_tables(void **state)
{
    struct fixture *f = *state;
    struct merge_or_read works[3];
    int left = 3;
    sem_t sem;

    assert_int_equal(sem_init(&sem, 0, 0), 0);
    for (int i = 0; i < 3; i++) {
        works[i] =
            (struct merge_or_read){.job = {.run = merge_or_read_run, .done = merge_or_read_done},
                                   .env = f->env,
                                   .read_done = &sem,
                                   .left = &left,
                                   .is_read = i == 2};
        hf_env_submit(f->env, i == 2 ? HF_POOL_DISK : HF_POOL_TABLE, &works[i].job);
    }
    assert_int_equal(hf_env_real_run(f->env), 0);
    assert_true(works[0].waited && works[1].waited);
    (void)sem_destroy(&sem);
}

static void freeing_the_env_finishes_queued_jobs(void **state)
{
    struct hf_env_real_options options = {.disk_threads = 1};
    struct work works[20];
    int run_order[20];
    int run_count = 0;
    int done_count = 0;
    struct hf_env *env;
    cpu_set_t cpus;

    (void)state;
    assert_int_equal(pthread_getaffinity_np(pthread_self(), sizeof(cpus), &cpus), 0);
    while (!CPU_ISSET((size_t)options.cpu, &cpus)) {
        options.cpu++;
    }
    assert_int_equal(hf_env_real_new(&options, &env), 0);
    submit_work(env, works, 20, run_order, &run_count, &done_count);
    for (int i = 0; i < 20; i++) {
        works[i].stop_at = -1;
    }
    hf_env_real_free(env);
    assert_int_equal(run_count, 20);
    assert_int_equal(done_count, 20);
    hf_env_real_free(NULL);
    assert_int_equal(pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus), 0);
}

static void a_cpu_that_is_not_there_is_refused(void **state)
{
    const struct hf_env_real_options options = {.cpu = 1 << 20};
    struct hf_env *env = NULL;

    (void)state;
    assert_int_equal(hf_env_real_new(&options, &env), -EINVAL);
    assert_null(env);
}

/* Signals and descriptors */

static void signal_seen(void *ctx, int signum)
{
    assert_int_equal(signum, SIGUSR1);
    hf_env_real_stop(ctx);
}

static void a_signal_reaches_its_callback_on_the_loop(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(hf_env_real_on_signal(f->env, SIGUSR1, signal_seen, f->env), 0);
    assert_int_equal(raise(SIGUSR1), 0);
    assert_int_equal(hf_env_real_run(f->env), 0);
}

struct fd_seen {
    struct hf_env *env;
    struct hf_fd_watch *watch;
    int fd;
    int count;
};

static void fd_seen(void *ctx)
{
    struct fd_seen *seen = ctx;
    char c;

    assert_int_equal(read(seen->fd, &c, 1), 1);
    seen->count++;
    if (c == 'x') {
        hf_fd_watch_free(seen->watch);
        hf_env_real_stop(seen->env);
    }
}

static void a_watched_descriptor_calls_only_while_enabled(void **state)
{
    struct fixture *f = *state;
    struct fd_seen seen = {.env = f->env};
    struct notes notes;
    int fds[2];

    assert_int_equal(pipe(fds), 0);
    seen.fd = fds[0];
    assert_int_equal(hf_env_real_watch_fd(f->env, fds[0], fd_seen, &seen, &seen.watch), 0);
    hf_fd_watch_set(seen.watch, false);
    assert_int_equal(write(fds[1], "abx", 3), 3);
    notes_init(&notes, f->env);
    notes.stop_at = 1;
    hf_timer_arm(&notes.note[0].timer, 1);
    assert_int_equal(hf_env_real_run(f->env), 0);
    assert_int_equal(seen.count, 0);
    hf_fd_watch_set(seen.watch, true);
    assert_int_equal(hf_env_real_run(f->env), 0);
    assert_int_equal(seen.count, 3);
    hf_fd_watch_free(NULL);
    hf_timer_fini(&notes.note[0].timer);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

/* Disk */

static void as_many_files_may_be_open_as_the_hard_limit_says(void **state)
{
    struct rlimit before, now;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    now = before;
    now.rlim_cur = 64;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
    assert_int_equal(hf_env_real_raise_files(), before.rlim_max);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &now), 0);
    assert_int_equal(now.rlim_cur, before.rlim_max);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

static void a_replaced_file_is_read_back_whole(void **state)
{
    struct fixture *f = *state;
    struct hf_disk *disk = hf_env_disk(f->env);
    char *text;
    size_t len;

    assert_int_equal(hf_disk_replace(disk, in_dir(f, "conf"), "first, longer", 13), 0);
    assert_int_equal(hf_disk_replace(disk, in_dir(f, "conf"), "second", 6), 0);
    assert_int_equal(hf_disk_slurp(disk, in_dir(f, "conf"), 6, &text, &len), 0);
    assert_int_equal(len, 6);
    assert_string_equal(text, "second");
    free(text);
    assert_int_equal(hf_disk_slurp(disk, in_dir(f, "conf"), 5, &text, &len), -EFBIG);
    assert_int_equal(hf_disk_slurp(disk, in_dir(f, "none"), 5, &text, &len), -ENOENT);
    assert_int_equal(hf_disk_replace(disk, in_dir(f, "conf"), NULL, 0), 0);
    assert_int_equal(hf_disk_slurp(disk, in_dir(f, "conf"), 5, &text, NULL), 0);
    assert_string_equal(text, "");
    free(text);
    assert_int_equal(access(in_dir(f, "conf.new"), F_OK), -1);
}

static void files_read_write_truncate_and_grow(void **state)
{
    struct fixture *f = *state;
    struct hf_disk *disk = hf_env_disk(f->env);
    struct hf_file *file, *again;
    char a[4] = "abcd", b[4] = "efgh", c[16] = {0};
    struct iovec iov[2] = {{.iov_base = a, .iov_len = 4}, {.iov_base = b, .iov_len = 4}};
    struct iovec one = {.iov_base = c, .iov_len = sizeof(c)};
    uint64_t size;
    size_t got;
    ssize_t n;

    assert_int_equal(hf_disk_open(disk, in_dir(f, "data"), 0, &file), -ENOENT);
    assert_int_equal(hf_disk_open(disk, in_dir(f, "data"), HF_FILE_CREATE, &file), 0);
    assert_int_equal(hf_disk_open(disk, in_dir(f, "data"), HF_FILE_CREATE | HF_FILE_EXCL, &again),
                     -EEXIST);
    assert_int_equal(hf_file_pwritev(file, iov, 2, 2), 8);
    assert_int_equal(hf_file_sync(file), 0);
    assert_int_equal(hf_file_preadv(file, &one, 1, 0), 10);
    assert_memory_equal(c, "\0\0abcdefgh", 10);
    n = hf_file_preadv_nowait(file, &one, 1, 4);
    assert_true(n == 6 || n == -EAGAIN);
    assert_int_equal(hf_file_preadv_nowait(file, &one, 1, UINT64_MAX), -EINVAL);
    assert_int_equal(hf_file_read_full(file, c, 11, 0, &got), -EIO);
    assert_int_equal(got, 10);
    assert_int_equal(hf_file_allocate(file, 100), 0);
    assert_int_equal(hf_file_size(file, &size), 0);
    assert_int_equal(size, 100);
    assert_int_equal(hf_file_allocate(file, 50), 0);
    assert_int_equal(hf_file_truncate(file, 3), 0);
    assert_int_equal(hf_file_size(file, &size), 0);
    assert_int_equal(size, 3);
    hf_file_close(file);
    hf_file_close(NULL);
    assert_int_equal(hf_disk_open(disk, in_dir(f, "data"), HF_FILE_READ_ONLY, &file), 0);
    assert_int_equal(hf_file_pwritev(file, iov, 2, 0), -EBADF);
    hf_file_close(file);
    assert_int_equal(hf_disk_rename(disk, in_dir(f, "data"), in_dir(f, "moved")), 0);
    assert_int_equal(hf_disk_sync_dir(disk, f->dir), 0);
    assert_int_equal(hf_disk_unlink(disk, in_dir(f, "data")), -ENOENT);
    assert_int_equal(hf_disk_unlink(disk, in_dir(f, "moved")), 0);
}

static void direct_files_take_aligned_transfers(void **state)
{
    struct fixture *f = *state;
    struct hf_file *file;
    void *block = aligned_alloc(HF_BLOCK_BYTES, HF_BLOCK_BYTES);
    struct iovec iov = {.iov_base = block, .iov_len = HF_BLOCK_BYTES};
    int err = hf_disk_open(hf_env_disk(f->env), in_dir(f, "direct"),
                           HF_FILE_CREATE | HF_FILE_DIRECT, &file);

    if (err == -EINVAL) {
        free(block);
        skip(); /* the file system of /tmp has no direct I/O */
    }
    assert_int_equal(err, 0);
    memset(block, 7, HF_BLOCK_BYTES);
    assert_int_equal(hf_file_pwritev(file, &iov, 1, HF_BLOCK_BYTES), HF_BLOCK_BYTES);
    memset(block, 0, HF_BLOCK_BYTES);
    assert_int_equal(hf_file_preadv(file, &iov, 1, HF_BLOCK_BYTES), HF_BLOCK_BYTES);
    assert_int_equal(((char *)block)[17], 7);
    hf_file_close(file);
    free(block);
}

static void mkdir_makes_parents_and_accepts_what_exists(void **state)
{
    struct fixture *f = *state;
    struct hf_disk *disk = hf_env_disk(f->env);
    struct hf_disk_space space;
    struct hf_file *file;
    struct stat st;

    assert_int_equal(hf_disk_mkdir(disk, in_dir(f, "a/b//c/")), 0);
    assert_int_equal(stat(in_dir(f, "a/b/c"), &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_int_equal(hf_disk_mkdir(disk, in_dir(f, "a/b/c")), 0);
    assert_int_equal(hf_disk_mkdir(disk, "/"), 0);
    assert_int_equal(hf_disk_open(disk, in_dir(f, "plain"), HF_FILE_CREATE, &file), 0);
    hf_file_close(file);
    assert_int_equal(hf_disk_mkdir(disk, in_dir(f, "plain")), -ENOTDIR);
    assert_int_equal(hf_disk_mkdir(disk, in_dir(f, "plain/x")), -ENOTDIR);
    assert_int_equal(hf_disk_space(disk, f->dir, &space), 0);
    assert_true(space.total_bytes > 0 && space.free_bytes <= space.total_bytes);
    assert_int_equal(hf_disk_space(disk, in_dir(f, "none"), &space), -ENOENT);
    assert_int_equal(rmdir(in_dir(f, "a/b/c")), 0);
    assert_int_equal(rmdir(in_dir(f, "a/b")), 0);
}

static int count_to_two(void *ctx, const char *name)
{
    int *count = ctx;

    assert_true(strcmp(name, ".") != 0 && strcmp(name, "..") != 0);
    return ++*count == 2 ? -ECANCELED : 0;
}

static void listing_ends_when_its_callback_says_so(void **state)
{
    struct fixture *f = *state;
    struct hf_disk *disk = hf_env_disk(f->env);
    int count = 0;

    for (char name[2] = "a"; name[0] < 'd'; name[0]++) {
        assert_int_equal(hf_disk_replace(disk, in_dir(f, name), name, 1), 0);
    }
    assert_int_equal(hf_disk_list(disk, f->dir, count_to_two, &count), -ECANCELED);
    assert_int_equal(count, 2);
    assert_int_equal(hf_disk_list(disk, in_dir(f, "none"), count_to_two, &count), -ENOENT);
}

static void a_lock_is_busy_for_another_process_until_closed(void **state)
{
    struct fixture *f = *state;
    struct hf_disk *disk = hf_env_disk(f->env);
    struct hf_file *lock = NULL;
    int ready[2], finish[2];
    int pid = 0;
    int status;
    char c;
    pid_t child;

    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(finish), 0);
    child = fork();
    if (child == 0) {
        bool ok = hf_disk_lock(disk, in_dir(f, "lock"), &lock, &pid) == 0;

        ok = ok && write(ready[1], "r", 1) == 1 && read(finish[0], &c, 1) == 1;
        _exit(ok ? 0 : 1); /* dies holding it */
    }
    assert_int_equal(close(ready[1]), 0); /* nothing to read if it dies without the lock */
    assert_int_equal(read(ready[0], &c, 1), 1);
    assert_int_equal(hf_disk_lock(disk, in_dir(f, "lock"), &lock, &pid), -EBUSY);
    assert_int_equal(pid, child);
    assert_int_equal(hf_disk_lock(disk, in_dir(f, "lock"), &lock, NULL), -EBUSY);
    assert_int_equal(write(finish[1], "f", 1), 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(hf_disk_lock(disk, in_dir(f, "lock"), &lock, &pid), 0);
    assert_int_equal(hf_disk_lock(disk, in_dir(f, "lock"), &lock, &pid), -EBUSY);
    assert_int_equal(pid, getpid());
    hf_file_close(lock);
    assert_int_equal(hf_disk_lock(disk, in_dir(f, "lock"), &lock, &pid), 0);
    hf_file_close(lock);
    (void)close(ready[0]);
    (void)close(finish[0]);
    (void)close(finish[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(timers_run_in_order_of_their_deadlines),
        TEST(rearming_a_timer_moves_it),
        TEST(a_timer_may_rearm_and_free_itself),
        TEST(posts_of_a_thread_run_on_the_loop_in_order),
        TEST(a_task_posted_twice_runs_once),
        TEST(tasks_queued_when_stopping_still_run),
        TEST(jobs_of_one_thread_run_in_order_and_are_done_on_the_loop),
        TEST(every_job_of_a_pool_of_threads_is_done_once),
        TEST(reads_do_not_wait_for_merges_of_both_tables),
        TEST(freeing_the_env_finishes_queued_jobs),
        TEST(a_cpu_that_is_not_there_is_refused),
        TEST(a_signal_reaches_its_callback_on_the_loop),
        TEST(a_watched_descriptor_calls_only_while_enabled),
        TEST(as_many_files_may_be_open_as_the_hard_limit_says),
        TEST(a_replaced_file_is_read_back_whole),
        TEST(files_read_write_truncate_and_grow),
        TEST(direct_files_take_aligned_transfers),
        TEST(mkdir_makes_parents_and_accepts_what_exists),
        TEST(listing_ends_when_its_callback_says_so),
        TEST(a_lock_is_busy_for_another_process_until_closed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
