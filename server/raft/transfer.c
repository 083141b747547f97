/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots: a checkpoint as a file, in chunks to a peer that is too far behind; chunks from a
 * leader, into a file that becomes the state.
 *
 *     to a peer      save to DIR/snapshot-PEER-SERIAL ──► chunks, each read by a job ──► unlinked
 *     from a leader  DIR/incoming, each chunk written by a job ──► noted in the vote ──► loaded
 *                    ──► log emptied ──► the note taken back
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/err.h"
#include "common/log/log.h"
#include "server/raft/driver_impl.h"

struct raft_upload {
    struct raft_upload *next;
    struct hf_raft_driver *driver;
    struct hf_node_id peer;
    char path[RAFT_PATH_MAX];
    bool saving; /* the machine has it */
    bool open;   /* the core wants it */
    uint32_t reads;
    struct hf_job unlink;
};

/* Start-up */

static int find_left(void *ctx, const char *name)
{
    char *path = ctx;
    const size_t len = strlen(path);

    if (strncmp(name, "snapshot-", strlen("snapshot-")) != 0 && strcmp(name, "incoming") != 0) {
        return 0;
    }
    return snprintf(path + len, RAFT_PATH_MAX - len, "/%s", name) < (int)(RAFT_PATH_MAX - len);
}

void raft_transfer_clean(struct hf_raft_driver *d)
{
    struct hf_disk *disk = hf_env_disk(d->env);
    char path[RAFT_PATH_MAX];

    do {
        (void)snprintf(path, sizeof(path), "%s", d->dir);
    } while (hf_disk_list(disk, d->dir, find_left, path) > 0 && hf_disk_unlink(disk, path) == 0);
}

/* To a peer */

static void unlink_run(struct hf_job *job)
{
    struct raft_upload *up = hf_container_of(job, struct raft_upload, unlink);

    (void)hf_disk_unlink(hf_env_disk(up->driver->env), up->path); /* may never have been made */
}

static void unlink_done(struct hf_job *job)
{
    struct raft_upload *up = hf_container_of(job, struct raft_upload, unlink);

    up->driver->transfer_jobs--;
    free(up);
}

static void upload_end(struct raft_upload *up)
{
    struct raft_upload **at = &up->driver->uploads;

    if (up->open || up->saving || up->reads > 0) {
        return;
    }
    while (*at != up) {
        at = &(*at)->next;
    }
    *at = up->next;
    up->unlink = (struct hf_job){.run = unlink_run, .done = unlink_done};
    up->driver->transfer_jobs++;
    hf_env_submit(up->driver->env, HF_POOL_DISK, &up->unlink);
}

static struct raft_upload *find(struct hf_raft_driver *d, struct hf_node_id peer)
{
    struct raft_upload *up = d->uploads;

    while (up && (up->peer.v != peer.v || !up->open)) {
        up = up->next;
    }
    return up;
}

static void saved(void *arg, int err, const struct hf_raft_snapshot *snapshot)
{
    struct raft_upload *up = arg;
    struct hf_raft_driver *d = up->driver;
    struct hf_raft_event event = {.type = HF_RAFT_EV_SNAPSHOT_OPENED};

    d->transfer_jobs--;
    if (up->open && raft_driver_runs(d)) {
        event.u.snapshot_opened.peer = up->peer;
        event.u.snapshot_opened.err = err;
        if (err) {
            up->open = false; /* the core takes it as closed */
            raft_pin_drop(d, up->peer);
            hf_log(HF_LOG_WARN, "raft", "no snapshot", "peer=%u err=%s what=\"tried again\"",
                   up->peer.v, hf_err_name(err));
        } else {
            raft_pin_set(d, up->peer, snapshot->index);
            event.u.snapshot_opened.index = snapshot->index;
            event.u.snapshot_opened.term = snapshot->term;
            event.u.snapshot_opened.total_bytes = snapshot->total_bytes;
            event.u.snapshot_opened.config = &snapshot->config;
            hf_log(HF_LOG_INFO, "raft", "snapshot sent", "peer=%u index=%llu bytes=%llu",
                   up->peer.v, (unsigned long long)snapshot->index,
                   (unsigned long long)snapshot->total_bytes);
        }
        if (raft_driver_step(d, &event, NULL) != 0) {
            up->open = false;
        }
    }
    up->saving = false;      /* only now: the core may have closed it in this step */
    raft_driver_run_soon(d); /* the log was not trimmed meanwhile */
    upload_end(up);
}

void raft_upload_open(struct hf_raft_driver *d, struct hf_node_id peer)
{
    struct raft_upload *up = calloc(1, sizeof(*up));

    HF_ASSERT_MEMORY(up); /* the core waits for the answer */
    up->driver = d;
    up->peer = peer;
    up->open = up->saving = true;
    (void)snprintf(up->path, sizeof(up->path), "%s/snapshot-%u-%llu", d->dir, peer.v,
                   (unsigned long long)++d->upload_serial);
    up->next = d->uploads;
    d->uploads = up;
    d->transfer_jobs++;
    /* Which checkpoint it will be is not known yet. */
    raft_pin_set(d, peer, hf_raft_base_index(d->raft));
    d->options.machine.snapshot_save(d->options.machine.ctx, up->path, saved, up);
}

void raft_upload_close(struct hf_raft_driver *d, struct hf_node_id peer)
{
    struct raft_upload *up = find(d, peer);

    if (up) {
        up->open = false;
        upload_end(up);
    }
}

void raft_transfer_stop(struct hf_raft_driver *d)
{
    struct raft_upload *next;

    for (struct raft_upload *up = d->uploads; up; up = next) {
        next = up->next;
        up->open = false;
        upload_end(up);
    }
}

/* Whatever an upload waits for is under way. */
void raft_transfer_check(const struct hf_raft_driver *d)
{
    const bool runs = raft_driver_runs(d);
    uint32_t jobs = runs && d->incoming.installing;

    for (const struct raft_upload *up = d->uploads; up; up = up->next) {
        struct hf_raft_peer_status peer;

        HF_ASSERT(up->open || up->saving || up->reads > 0);
        HF_ASSERT(!up->open || !runs || hf_raft_peer(d->raft, up->peer, &peer) == 0);
        for (const struct raft_upload *other = up->next; other; other = other->next) {
            HF_ASSERT(!up->open || !other->open || up->peer.v != other->peer.v);
        }
        jobs += up->saving + up->reads;
    }
    HF_ASSERT(jobs <= d->transfer_jobs);
}

struct chunk_read {
    struct hf_job job;
    struct raft_out *out;
    struct raft_upload *upload;
    struct hf_buf *buf;
    int err;
};

static int read_whole(struct hf_file *file, uint8_t *at, size_t len, uint64_t off)
{
    while (len > 0) {
        const struct iovec iov = {.iov_base = at, .iov_len = len};
        ssize_t got = hf_file_preadv(file, &iov, 1, off);

        if (got <= 0) {
            return got < 0 ? (int)got : -EIO;
        }
        at += got;
        len -= (size_t)got;
        off += (uint64_t)got;
    }
    return 0;
}

static void chunk_read_run(struct hf_job *job)
{
    struct chunk_read *read = hf_container_of(job, struct chunk_read, job);
    const struct hf_raft_msg *m = &read->out->msg;
    struct hf_file *file;

    read->err = hf_disk_open(hf_env_disk(read->upload->driver->env), read->upload->path,
                             HF_FILE_READ_ONLY, &file);
    if (!read->err) {
        read->err =
            read_whole(file, read->buf->data, m->u.snapshot.len_bytes, m->u.snapshot.offset_bytes);
        hf_file_close(file);
    }
}

static void chunk_read_done(struct hf_job *job)
{
    struct chunk_read *read = hf_container_of(job, struct chunk_read, job);
    struct raft_upload *up = read->upload;
    struct hf_raft_driver *d = up->driver;

    d->transfer_jobs--;
    up->reads--;
    if (!read->err && raft_driver_runs(d)) {
        raft_out_chunk(read->out, read->buf);
    } else {
        hf_buf_unref(read->buf);
        raft_out_free(read->out); /* the core sends it again */
    }
    upload_end(up);
    free(read);
}

void raft_upload_read(struct raft_out *out)
{
    struct hf_raft_driver *d = out->driver;
    struct raft_upload *up = find(d, out->to);
    struct hf_buf *buf = up ? hf_buf_get(d->options.pool, RAFT_CHUNK_BYTES) : NULL;
    struct chunk_read *read = buf ? calloc(1, sizeof(*read)) : NULL;

    if (!read) {
        hf_buf_unref(buf);
        raft_out_free(out);
        return;
    }
    *read = (struct chunk_read){
        .job = {.run = chunk_read_run, .done = chunk_read_done},
        .out = out,
        .upload = up,
        .buf = buf,
    };
    up->reads++;
    d->transfer_jobs++;
    hf_env_submit(d->env, HF_POOL_DISK, &read->job);
}

/* From a leader */

static void incoming_path(const struct hf_raft_driver *d, char ret[RAFT_PATH_MAX])
{
    (void)snprintf(ret, RAFT_PATH_MAX, "%s/incoming", d->dir);
}

struct chunk_write {
    struct hf_job job;
    struct hf_raft_driver *driver;
    struct hf_buf *buf;
    struct hf_node_id from;
    uint64_t index, offset, len;
    bool last;
    int err;
};

static int write_whole(struct hf_file *file, uint8_t *at, size_t len, uint64_t off)
{
    while (len > 0) {
        const struct iovec iov = {.iov_base = at, .iov_len = len};
        ssize_t put = hf_file_pwritev(file, &iov, 1, off);

        if (put <= 0) {
            return put < 0 ? (int)put : -EIO;
        }
        at += put;
        len -= (size_t)put;
        off += (uint64_t)put;
    }
    return 0;
}

static void chunk_write_run(struct hf_job *job)
{
    struct chunk_write *write = hf_container_of(job, struct chunk_write, job);
    char path[RAFT_PATH_MAX];
    struct hf_file *file;

    incoming_path(write->driver, path);
    if (write->offset == 0) { /* a new file: one that failed to sync is not trusted again */
        (void)hf_disk_unlink(hf_env_disk(write->driver->env), path);
    }
    write->err = hf_disk_open(hf_env_disk(write->driver->env), path, HF_FILE_CREATE, &file);
    if (write->err) {
        return;
    }
    if (write->len > 0) {
        write->err = write_whole(file, write->buf->data, write->len, write->offset);
    }
    if (!write->err && write->last) { /* here, not on the loop when it becomes the state */
        write->err = hf_file_sync(file);
    }
    hf_file_close(file);
}

static void chunk_write_done(struct hf_job *job)
{
    struct chunk_write *write = hf_container_of(job, struct chunk_write, job);
    struct hf_raft_driver *d = write->driver;
    struct hf_raft_event event = {.type = HF_RAFT_EV_SNAPSHOT_WRITTEN};

    d->transfer_jobs--;
    event.u.snapshot_written.from = write->from;
    event.u.snapshot_written.index = write->index;
    event.u.snapshot_written.end_bytes = write->offset + write->len;
    event.u.snapshot_written.err = write->err;
    hf_buf_unref(write->buf);
    free(write);
    (void)raft_driver_step(d, &event, NULL);
}

void raft_incoming_write(struct hf_raft_driver *d, const struct hf_raft_action *action,
                         struct hf_buf *chunk)
{
    struct chunk_write *write = calloc(1, sizeof(*write));

    HF_ASSERT_MEMORY(write); /* the core waits for the answer */
    *write = (struct chunk_write){
        .job = {.run = chunk_write_run, .done = chunk_write_done},
        .driver = d,
        .buf = chunk ? hf_buf_ref(chunk) : NULL,
        .from = action->u.snapshot.peer,
        .index = action->u.snapshot.index,
        .offset = action->u.snapshot.offset_bytes,
        .len = action->u.snapshot.len_bytes,
        .last = action->u.snapshot.offset_bytes + action->u.snapshot.len_bytes ==
                action->u.snapshot.total_bytes,
    };
    d->transfer_jobs++;
    hf_env_submit(d->env, HF_POOL_DISK, &write->job);
}

/* The steps of an installation; a crash between any two of them is found at the next start. */

static void installed(struct hf_raft_driver *d, int err)
{
    struct hf_raft_event event = {.type = HF_RAFT_EV_SNAPSHOT_INSTALLED};

    event.u.snapshot_installed.index = d->incoming.action.u.snapshot.index;
    event.u.snapshot_installed.err = err;
    if (!err) { /* else the state on the disk may be either: until the next checkpoint or start */
        d->hard.install_index = 0;
        raft_driver_persist(d, NULL);
    }
    d->incoming.installing = false;
    d->transfer_jobs--;
    hf_log(err ? HF_LOG_ERROR : HF_LOG_INFO, "raft", "snapshot installed", "index=%llu err=%s",
           (unsigned long long)event.u.snapshot_installed.index, err ? hf_err_name(err) : "none");
    (void)raft_driver_step(d, &event, NULL);
}

/* The driver closes or failed: the note stays, the next start goes on from it. */
static void install_left(struct hf_raft_driver *d)
{
    d->transfer_jobs--;
}

struct reset {
    struct raft_write write;
    struct hf_raft_driver *driver;
    struct hf_timer again;
};

static void reset_start(void *ctx)
{
    struct reset *reset = ctx;
    struct hf_raft_driver *d = reset->driver;

    if (!raft_driver_runs(d)) {
        hf_timer_fini(&reset->again);
        free(reset);
        install_left(d);
        return;
    }
    d->writes++;
    raft_disk_reset(d->disk, d->incoming.action.u.snapshot.index, &reset->write);
}

static void reset_done(struct raft_write *write, int err)
{
    struct reset *reset = write->ctx;
    struct hf_raft_driver *d = reset->driver;

    d->writes--;
    if (err && raft_disk_broken(d->disk)) {
        raft_driver_fail(d, err, "the log could not be emptied behind a snapshot");
    }
    if (err) { /* the state moved already: there is no way but on */
        hf_timer_arm(&reset->again, d->options.heartbeat_ns);
        return;
    }
    hf_timer_fini(&reset->again);
    free(reset);
    installed(d, 0);
}

static void loaded(void *arg, int err)
{
    struct hf_raft_driver *d = arg;
    const uint64_t index = d->incoming.action.u.snapshot.index;
    struct reset *reset;

    if (err == -ENOTRECOVERABLE) {
        raft_driver_fail(d, err, "the state was lost while a snapshot took its place");
    } else if (err) {
        installed(d, err);
        return;
    }
    if (!raft_driver_runs(d)) {
        install_left(d);
        return;
    }
    reset = calloc(1, sizeof(*reset));
    HF_ASSERT_MEMORY(reset);
    reset->write = (struct raft_write){.done = reset_done, .ctx = reset};
    reset->driver = d;
    hf_timer_init(&reset->again, d->env, reset_start, reset);
    d->applied = index;
    raft_requests_cut(d, d->items.first, -HF_ENOTLEADER);
    raft_items_reset(&d->items, index + 1);
    reset_start(reset);
}

static void noted(struct hf_raft_driver *d, int err)
{
    const struct hf_raft_action *a = &d->incoming.action;
    char path[RAFT_PATH_MAX];

    if (err) {
        installed(d, err);
        return;
    }
    if (!raft_driver_runs(d)) {
        install_left(d);
        return;
    }
    incoming_path(d, path);
    d->options.machine.snapshot_load(d->options.machine.ctx, path, a->u.snapshot.index,
                                     a->u.snapshot.term, &a->u.snapshot.config, loaded, d);
}

void raft_incoming_install(struct hf_raft_driver *d, const struct hf_raft_action *action)
{
    HF_ASSERT(!d->incoming.installing);
    d->incoming.action = *action;
    d->incoming.installing = true;
    d->transfer_jobs++;
    d->hard.install_index = action->u.snapshot.index;
    raft_digests_clear(d); /* nothing is applied until it is in place */
    raft_driver_persist(d, noted);
}
