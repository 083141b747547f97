/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate.c - requests on their way to libfuse: with root_squash those of root wait here until what
 * they need to be allowed is known.
 *
 *     arrive ──► plan ──► hold a copy ──► each step: ask for attributes and ACL, check ──► pass
 *                  └──────────────────────────────────────┴─────────────────────────────► refuse
 *
 * A request is held before libfuse has seen it, so what libfuse knows of it and what its interrupt
 * means begins when it is passed on. An INTERRUPT that comes earlier is sent again by the kernel.
 *
 * A LOOKUP that is refused has one effect: the kernel forgets the name, for everybody. Whoever is
 * in a directory that root may not reach finds it again with the next look by its path.
 */
#define FUSE_USE_VERSION 314

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fuse_lowlevel.h>
#include <linux/fuse.h>

#include "client/fuse/fuse_impl.h"
#include "common/base/err.h"

struct gate_call {
    struct hf_fs_req req;
    struct hf_fuse *fuse;
    struct hf_squash_plan plan;
    uint32_t at; /* in plan.steps */
    enum { ASKED_NAME, ASKED_ACL, ASKED_ATTR } asked;
    struct hf_ino rights_of;           /* whose ACL or attributes were asked for */
    struct hf_attr first, dir;         /* of the first step; of the last with rights. ino 0: none */
    size_t len;                        /* of data */
    _Alignas(uint64_t) uint8_t data[]; /* the request */
};

static void pass(struct hf_fuse *fuse, void *data, size_t len)
{
    struct fuse_buf buf = {.mem = data, .size = hf_raw_request(&fuse->raw, data, len)};

    fuse_session_process_buf(fuse->se, &buf);
}

static void refuse(struct hf_fuse *fuse, const void *data, int err)
{
    struct fuse_out_header out = {.len = sizeof(out), .error = -hf_err_errno(err)};
    struct fuse_in_header in;

    memcpy(&in, data, sizeof(in));
    out.unique = in.unique;
    (void)!write(fuse_session_fd(fuse->se), &out, sizeof(out)); /* ENOENT: it was interrupted */
}

static void call_end(struct gate_call *call, int err)
{
    struct hf_fuse *fuse = call->fuse;

    if (!err && fuse->state != HF_MOUNT_SERVING) {
        err = -ENODEV;
    }
    if (err) {
        refuse(fuse, call->data, err);
    } else {
        hf_squash_rewrite(&fuse->squash, call->data, call->len,
                          call->first.ino.v ? &call->first : NULL);
        pass(fuse, call->data, call->len);
    }
    fuse->call_count--;
    free(call);
}

static int ask_rights(struct gate_call *call, struct hf_ino ino)
{
    call->asked = ASKED_ACL;
    call->rights_of = ino;
    return hf_fs_getxattr(call->fuse->fs, ino, HF_POSIX_ACL_ACCESS, &call->req);
}

/* Has the step nothing to ask? */
static bool needless(const struct gate_call *call, const struct hf_squash_step *step)
{
    return step->kind == HF_SQUASH_REMOVE &&
           hf_rights_removes_any(&call->fuse->squash.anon, &call->dir);
}

static void next_step(struct gate_call *call)
{
    const struct hf_squash_step *step = &call->plan.steps[call->at];
    int err;

    while (call->at < call->plan.count && needless(call, step)) {
        step = &call->plan.steps[++call->at];
    }
    if (call->at == call->plan.count) {
        call_end(call, call->plan.err);
        return;
    }
    if (step->kind == HF_SQUASH_RIGHTS) {
        err = ask_rights(call, step->ino);
    } else {
        call->asked = ASKED_NAME;
        err = hf_fs_lookup(call->fuse->fs, step->ino, step->name, &call->req);
    }
    if (err != HF_FS_PENDING) {
        call_end(call, err);
    }
}

/* The outcome of the step, or HF_FS_PENDING: more is asked. */
static int judge_name(struct gate_call *call, const struct hf_squash_step *step)
{
    const struct hf_attr *attr = &call->req.attr;

    if (step->kind == HF_SQUASH_MOVE) {
        return S_ISDIR(attr->mode) ? ask_rights(call, attr->ino) : 0;
    }
    return attr->uid == call->fuse->squash.anon.uid ? 0 : -EPERM;
}

static int judge_rights(struct gate_call *call, const struct hf_squash_step *step, bool has_acl)
{
    uint32_t want = step->kind == HF_SQUASH_MOVE ? HF_RIGHT_WRITE : step->want;
    const struct hf_attr *attr = &call->req.attr;
    struct hf_posix_acl acl;

    acl.count = 0;
    if (has_acl && hf_posix_acl_parse(call->req.data, call->req.data_len, &acl)) {
        return -EIO;
    }
    call->first = call->at == 0 ? *attr : call->first;
    call->dir = *attr;
    return hf_rights_check(&call->fuse->squash.anon, attr, &acl, want, step->gid);
}

static int judge(struct gate_call *call, int err)
{
    const struct hf_squash_step *step = &call->plan.steps[call->at];

    if (call->asked == ASKED_NAME && !err) {
        return judge_name(call, step);
    }
    if (call->asked == ASKED_ACL && !call->req.attr.ino.v && (err == -ENODATA || err == -ENOENT)) {
        call->asked = ASKED_ATTR; /* an older leader; or an inode that this mount alone remembers */
        return hf_fs_getattr(call->fuse->fs, call->rights_of, &call->req);
    }
    if (err == -ENOENT) {
        return 0; /* the request itself will say so */
    }
    return err && err != -ENODATA ? err
                                  : judge_rights(call, step, call->asked == ASKED_ACL && !err);
}

static void told(struct hf_fs_req *req, int err)
{
    struct gate_call *call = req->ctx;

    err = judge(call, err);
    if (err == HF_FS_PENDING) {
        return;
    }
    if (err) {
        call_end(call, err);
    } else {
        call->at++;
        next_step(call);
    }
}

static int hold(struct hf_fuse *fuse, const void *data, size_t len)
{
    struct gate_call *call = calloc(1, sizeof(*call) + len);
    int err;

    if (!call) {
        return -ENOMEM;
    }
    memcpy(call->data, data, len);
    call->len = len;
    err = hf_squash_plan(&fuse->squash, call->data, len, &call->plan);
    if (err) {
        free(call);
        return err;
    }
    call->fuse = fuse;
    call->req.done = told;
    call->req.ctx = call;
    fuse->call_count++;
    next_step(call);
    return 0;
}

void hf_gate_request(struct hf_fuse *fuse, void *data, size_t len)
{
    struct hf_squash_plan plan;
    int err;

    if (fuse->read_only && hf_squash_is_change(data, len)) {
        refuse(fuse, data, -EROFS); /* it was mounted read-only, and remounted */
        return;
    }
    if (!fuse->squash.on || !hf_squash_is_root(data, len)) {
        pass(fuse, data, len);
        return;
    }
    fuse->squash.setxattr_ext = fuse->raw.setxattr_ext;
    err = hf_squash_plan(&fuse->squash, data, len, &plan);
    if (!err && plan.count == 0) {
        hf_squash_rewrite(&fuse->squash, data, len, NULL);
        pass(fuse, data, len);
        return;
    }
    err = err ? err : hold(fuse, data, len);
    if (err) {
        refuse(fuse, data, err);
    }
}
