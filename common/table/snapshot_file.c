/* SPDX-License-Identifier: Apache-2.0 */
#include "common/table/snapshot_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/bytes.h"
#include "common/checksum/checksum.h"

/* The tail */

void hf_snapshot_tail_encode(const struct hf_snapshot_tail *tail,
                             uint8_t ret[HF_SNAPSHOT_TAIL_BYTES])
{
    struct hf_writer w = hf_writer_init(ret + 8, HF_SNAPSHOT_TAIL_BYTES - 8);

    hf_write_le32(&w, HF_SNAPSHOT_MAGIC);
    hf_write_le16(&w, HF_SNAPSHOT_VERSION);
    hf_write_le16(&w, (uint16_t)tail->kind);
    hf_write_le64(&w, tail->body_bytes);
    hf_write_le64(&w, tail->body_sum);
    hf_write_le64(&w, tail->rows);
    hf_write_le64(&w, tail->digest);
    HF_ASSERT(!w.bad && w.at == w.end);
    hf_put_le64(ret, hf_hash64(ret + 8, HF_SNAPSHOT_TAIL_BYTES - 8, HF_SNAPSHOT_TAIL_SEED));
}

int hf_snapshot_tail_decode(const uint8_t bytes[HF_SNAPSHOT_TAIL_BYTES], uint64_t file_bytes,
                            struct hf_snapshot_tail *ret)
{
    struct hf_reader r = hf_reader_init(bytes, HF_SNAPSHOT_TAIL_BYTES);
    struct hf_snapshot_tail tail;
    uint64_t checksum = hf_read_le64(&r);
    uint16_t kind;

    if (checksum != hf_hash64(r.at, hf_reader_left(&r), HF_SNAPSHOT_TAIL_SEED) ||
        hf_read_le32(&r) != HF_SNAPSHOT_MAGIC || hf_read_le16(&r) != HF_SNAPSHOT_VERSION) {
        return -EBADMSG;
    }
    kind = hf_read_le16(&r);
    if (kind != HF_SNAPSHOT_LMDB && kind != HF_SNAPSHOT_MODEL) {
        return -EBADMSG;
    }
    tail.kind = (enum hf_snapshot_kind)kind;
    tail.body_bytes = hf_read_le64(&r);
    tail.body_sum = hf_read_le64(&r);
    tail.rows = hf_read_le64(&r);
    tail.digest = hf_read_le64(&r);
    if (file_bytes < HF_SNAPSHOT_TAIL_BYTES ||
        tail.body_bytes != file_bytes - HF_SNAPSHOT_TAIL_BYTES) {
        return -EBADMSG;
    }
    *ret = tail;
    return 0;
}

int hf_snapshot_read_tail(struct hf_file *file, struct hf_snapshot_tail *ret)
{
    uint8_t bytes[HF_SNAPSHOT_TAIL_BYTES];
    uint64_t file_bytes = 0;
    int err = hf_file_size(file, &file_bytes);

    if (!err && file_bytes < sizeof(bytes)) {
        return -EBADMSG;
    }
    if (!err) {
        err = hf_file_read_full(file, bytes, sizeof(bytes), file_bytes - sizeof(bytes), NULL);
    }
    return err ? err : hf_snapshot_tail_decode(bytes, file_bytes, ret);
}

/* The body */

/* Errors: -EIO, -ECANCELED, -ENOMEM. */
static int sum_body(struct hf_file *file, uint64_t body_bytes, const atomic_bool *stop,
                    uint64_t *ret)
{
    uint8_t *piece = malloc(HF_SNAPSHOT_PIECE_BYTES);
    uint64_t sum = HF_SNAPSHOT_BODY_SEED;
    int err = piece ? 0 : -ENOMEM;

    for (uint64_t off = 0; off < body_bytes && !err; off += HF_SNAPSHOT_PIECE_BYTES) {
        uint64_t left = body_bytes - off;
        size_t len = left < HF_SNAPSHOT_PIECE_BYTES ? (size_t)left : HF_SNAPSHOT_PIECE_BYTES;

        err =
            hf_snapshot_stopped(stop) ? -ECANCELED : hf_file_read_full(file, piece, len, off, NULL);
        if (!err) {
            sum = hf_hash64(piece, len, sum);
        }
    }
    free(piece);
    if (!err) {
        *ret = sum;
    }
    return err;
}

int hf_snapshot_check_body(struct hf_file *file, const struct hf_snapshot_tail *tail,
                           const atomic_bool *stop)
{
    uint64_t sum;
    int err = sum_body(file, tail->body_bytes, stop, &sum);

    return err ? err : sum == tail->body_sum ? 0 : -EBADMSG;
}

/* Writing */

static int seal(struct hf_file *file, enum hf_snapshot_kind kind, const atomic_bool *stop,
                struct hf_table_snapshot *snapshot)
{
    struct hf_snapshot_tail tail = {
        .kind = kind, .rows = snapshot->rows, .digest = snapshot->digest};
    uint8_t bytes[HF_SNAPSHOT_TAIL_BYTES];
    struct iovec iov = {.iov_base = bytes, .iov_len = sizeof(bytes)};
    int err = hf_file_size(file, &tail.body_bytes);

    if (!err) {
        err = sum_body(file, tail.body_bytes, stop, &tail.body_sum);
    }
    if (err) {
        return err;
    }
    hf_snapshot_tail_encode(&tail, bytes);
    snapshot->file_bytes = tail.body_bytes + sizeof(bytes);
    err = hf_file_write_full(file, &iov, 1, tail.body_bytes);
    if (!err && hf_snapshot_stopped(stop)) {
        err = -ECANCELED;
    }
    return err ? err : hf_file_sync(file);
}

/* Errors: -ENOMEM, -EIO. */
static int sync_parent(struct hf_disk *disk, const char *path)
{
    const char *slash = strrchr(path, '/');
    char *parent;
    int err;

    HF_ASSERT(slash); /* paths are absolute */
    parent = strndup(path, slash == path ? 1 : (size_t)(slash - path));
    if (!parent) {
        return -ENOMEM;
    }
    err = hf_disk_sync_dir(disk, parent);
    free(parent);
    return err;
}

int hf_snapshot_write(struct hf_env *env, const char *path, const struct hf_snapshot_source *source,
                      const atomic_bool *stop, struct hf_table_snapshot *ret)
{
    struct hf_disk *disk = hf_env_disk(env);
    struct hf_table_snapshot snapshot = {0};
    struct hf_file *file;
    int err = hf_disk_unlink(disk, path);

    if (!err || err == -ENOENT) {
        err = hf_disk_open(disk, path, HF_FILE_CREATE | HF_FILE_EXCL, &file);
    }
    if (err) {
        return err;
    }
    err = source->write_body(source->ctx, file, path, stop, &snapshot);
    if (!err) {
        err = seal(file, source->kind, stop, &snapshot);
    }
    hf_file_close(file);
    if (!err) {
        err = sync_parent(disk, path);
    }
    if (err) {
        (void)hf_disk_unlink(disk, path); /* a part that stays does not pass verify */
        return err;
    }
    *ret = snapshot;
    return 0;
}
