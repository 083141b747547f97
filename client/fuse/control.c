/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.c - the mount's own socket: HF_M_ADMIN commands in, JSON out (mount.h lists them).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "client/fuse/fuse_impl.h"
#include "common/base/err.h"
#include "common/rpc/rpc.h"
#include "common/wire/method.h"
#include "common/wire/store_msg.h"

#define FILES_MAX 1000u

struct hf_control {
    struct hf_fuse *fuse;
    struct hf_rpc_server *server;
    char path[128];
};

struct waiting { /* a flush --wait */
    struct hf_fs_req req;
    struct hf_rpc_request *rpc;
};

static void text_free(void *ctx)
{
    free(ctx);
}

/* @json is consumed; NULL: no memory. */
static void answer(struct hf_rpc_request *rpc, int err, json_t *json)
{
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    struct iovec iov = {.iov_base = text, .iov_len = text ? strlen(text) : 0};
    struct hf_rpc_bulk bulk = {.iov = &iov, .iov_count = 1, .release = text_free, .ctx = text};

    json_decref(json);
    if (!text || iov.iov_len > HF_FRAME_BULK_MAX) {
        free(text);
        hf_rpc_reply(rpc, err ? err : -ENOMEM, NULL, 0, NULL);
        return;
    }
    hf_rpc_reply(rpc, err, NULL, 0, &bulk);
}

static json_int_t ms(uint64_t ns)
{
    return (json_int_t)(ns / HF_NS_PER_MS);
}

static json_int_t num(uint64_t v)
{
    return (json_int_t)v;
}

static json_t *info(struct hf_fuse *fuse)
{
    char uuid[HF_UUID_STR_MAX];

    return json_pack(
        "{s:s, s:i, s:s, s:I, s:s, s:b, s:b, s:b, s:I, s:I}", "mountpoint", fuse->mountpoint, "pid",
        (int)getpid(), "cluster", hf_uuid_str(&fuse->options->cluster, uuid), "session",
        num(hf_session_id(fuse->session).v), "leader", hf_session_leader(fuse->session), "live",
        hf_session_live(fuse->session), "root_squash", fuse->squash.on, "read_only",
        fuse->read_only, "unanswered", num(fuse->call_count), "requests", num(fuse->requests));
}

static json_t *dirty(struct hf_fuse *fuse, uint64_t ino)
{
    struct hf_fs_dirty_file *files = calloc(FILES_MAX, sizeof(*files));
    struct hf_fs_stats s;
    json_t *list = json_array();
    uint32_t n;

    if (!files || !list) {
        free(files);
        json_decref(list);
        return NULL;
    }
    hf_fs_stats(fuse->fs, &s);
    n = hf_fs_dirty_files(fuse->fs, files, FILES_MAX);
    for (uint32_t i = 0; i < n; i++) {
        if (ino == 0 || files[i].ino.v == ino) {
            (void)json_array_append_new(
                list, json_pack("{s:I, s:I, s:I}", "ino", num(files[i].ino.v), "bytes",
                                num(files[i].bytes), "age_ms", ms(files[i].age_ns)));
        }
    }
    free(files);
    return json_pack("{s:I, s:I, s:o}", "dirty_bytes", num(s.dirty_bytes + s.flush_bytes),
                     "oldest_ms", ms(s.oldest_age_ns), "files", list);
}

static json_t *stats(struct hf_fuse *fuse)
{
    struct hf_fs_stats s;
    struct hf_io_stats io;
    json_t *dirty_json, *ops, *io_json, *limits;

    hf_fs_stats(fuse->fs, &s);
    hf_io_stats(fuse->io, &io);
    dirty_json = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "dirty_bytes",
                           num(s.dirty_bytes), "flush_bytes", num(s.flush_bytes), "memory_bytes",
                           num(s.memory_bytes), "oldest_ms", ms(s.oldest_age_ns), "files",
                           num(s.dirty_files), "flushes", num(s.flushes), "writers_waiting",
                           num(s.writers_waiting), "lost_bytes", num(s.lost_bytes));
    ops = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "reads",
                    num(s.reads), "read_bytes", num(s.read_bytes), "writes", num(s.writes),
                    "write_bytes", num(s.write_bytes), "commits", num(s.commits), "inline_commits",
                    num(s.inline_commits), "flushed_bytes", num(s.flushed_bytes), "flush_errors",
                    num(s.flush_errors), "extent_hits", num(s.extent_hits), "extent_misses",
                    num(s.extent_misses), "open_files", num(s.open_files));
    io_json = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "puts", num(io.puts),
                        "put_bytes", num(io.put_bytes), "put_retries", num(io.put_retries), "gets",
                        num(io.gets), "get_bytes", num(io.get_bytes), "get_fallbacks",
                        num(io.get_fallbacks), "mismatches", num(io.mismatches), "cache_bytes",
                        num(io.cache_bytes), "cache_hits", num(io.cache_hits), "cache_misses",
                        num(io.cache_misses));
    limits = json_pack("{s:I, s:I, s:I}", "dirty_max", num(s.dirty_max_bytes), "dirty_target",
                       num(s.dirty_target_bytes), "dirty_max_age_ms", ms(s.dirty_max_age_ns));
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "mount", info(fuse), "dirty", dirty_json, "fs",
                     ops, "io", io_json, "limits", limits);
}

static bool parse(const char *text, uint64_t *ret)
{
    char *end;
    unsigned long long v;

    errno = 0;
    v = strtoull(text, &end, 10);
    if (errno || end == text || *end || text[0] == '-') {
        return false;
    }
    *ret = v;
    return true;
}

static void flush_done(struct hf_fs_req *req, int err)
{
    struct waiting *waiting = req->ctx;

    answer(waiting->rpc, err, json_pack("{s:b}", "flushed", err == 0));
    free(waiting);
}

static void flush(struct hf_fuse *fuse, struct hf_rpc_request *rpc, uint64_t ino, bool wait)
{
    struct waiting *waiting = calloc(1, sizeof(*waiting));
    int err;

    if (!waiting) {
        hf_rpc_reply(rpc, -ENOMEM, NULL, 0, NULL);
        return;
    }
    waiting->rpc = rpc;
    waiting->req.done = flush_done;
    waiting->req.ctx = waiting;
    err = hf_fs_sync(fuse->fs, (struct hf_ino){ino}, wait, &waiting->req);
    if (err != HF_FS_PENDING) {
        flush_done(&waiting->req, err);
    }
}

static int set(struct hf_fuse *fuse, const char *key, const char *text)
{
    uint64_t v;

    if (!parse(text, &v) || v == 0) {
        return -EINVAL;
    }
    if (strcmp(key, "dirty_max") == 0) {
        return hf_fs_set_limits(fuse->fs, v, 0, 0);
    }
    if (strcmp(key, "dirty_target") == 0) {
        return hf_fs_set_limits(fuse->fs, 0, v, 0);
    }
    if (strcmp(key, "dirty_max_age") == 0 && v < UINT64_MAX / HF_NS_PER_MS) {
        return hf_fs_set_limits(fuse->fs, 0, 0, v * HF_NS_PER_MS);
    }
    return -EINVAL;
}

static void command(struct hf_fuse *fuse, struct hf_rpc_request *rpc, const struct hf_msg_admin *m)
{
    uint64_t ino = 0;
    int err;

    if (strcmp(m->command, "info") == 0) {
        answer(rpc, 0, info(fuse));
    } else if (strcmp(m->command, "stats") == 0) {
        answer(rpc, 0, stats(fuse));
    } else if (strcmp(m->command, "dirty") == 0 && (m->arg_count == 0 || parse(m->args[0], &ino))) {
        answer(rpc, 0, dirty(fuse, ino));
    } else if (strcmp(m->command, "flush") == 0 && (m->arg_count == 0 || parse(m->args[0], &ino))) {
        flush(fuse, rpc, ino, m->arg_count < 2 || strcmp(m->args[1], "nowait") != 0);
    } else if (strcmp(m->command, "set") == 0 && m->arg_count == 2) {
        err = set(fuse, m->args[0], m->args[1]);
        answer(rpc, err, json_pack("{s:b}", "set", err == 0));
    } else if (strcmp(m->command, "umount") == 0) {
        hf_mount_detach(fuse);
        answer(rpc, 0, json_pack("{s:b, s:i}", "detached", 1, "pid", (int)getpid()));
    } else {
        hf_rpc_reply(rpc, -EINVAL, NULL, 0, NULL);
    }
}

static void request(void *ctx, struct hf_rpc_request *rpc)
{
    struct hf_control *control = ctx;
    struct hf_msg_admin m;
    void *mem;
    int err;

    if (rpc->method != HF_M_ADMIN) {
        hf_rpc_reply(rpc, -EOPNOTSUPP, NULL, 0, NULL);
        return;
    }
    err = hf_msg_admin_decode(rpc->msg, rpc->msg_len, &m, &mem);
    if (err) {
        hf_rpc_reply(rpc, err, NULL, 0, NULL);
        return;
    }
    command(control->fuse, rpc, &m);
    hf_msg_release(mem);
}

int hf_control_new(struct hf_fuse *fuse, struct hf_control **ret)
{
    struct hf_control *control = calloc(1, sizeof(*control));
    struct hf_rpc_service service = {.request = request, .ctx = control};
    struct hf_rpc_server_options options = {
        .self = {.cluster = fuse->options->cluster, .name = "mount"}, .pool = fuse->pool};
    int err;

    if (!control) {
        return -ENOMEM;
    }
    control->fuse = fuse;
    (void)snprintf(control->path, sizeof(control->path), "unix:%s/mount-%u:%u.sock",
                   HF_MOUNT_RUN_DIR, fuse->major, fuse->minor);
    options.addr = control->path;
    err = hf_disk_mkdir(hf_env_disk(fuse->env), HF_MOUNT_RUN_DIR);
    if (!err && chmod(HF_MOUNT_RUN_DIR, 0700)) {
        err = -errno;
    }
    if (!err) { /* of a mount that had this number and was killed */
        (void)hf_disk_unlink(hf_env_disk(fuse->env), control->path + strlen("unix:"));
        err = hf_rpc_server_new(fuse->env, &options, &service, &control->server);
    }
    if (err) {
        free(control);
        return err;
    }
    *ret = control;
    return 0;
}

void hf_control_free(struct hf_control *control)
{
    if (control) {
        (void)hf_disk_unlink(hf_env_disk(control->fuse->env), control->path + strlen("unix:"));
        hf_rpc_server_free(control->server);
        free(control);
    }
}
