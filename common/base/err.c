/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/err.h"

#include <stddef.h>
#include <string.h>

#include "common/base/assert.h"

struct err_row {
    int err;
    int parent;
    uint32_t wire; /* never reused */
    const char *name;
    const char *text; /* NULL: strerror() */
};

#define PLAIN(e, wire)                                                                             \
    {                                                                                              \
        e, e, wire, #e, NULL                                                                       \
    }
#define OURS(e, parent, wire, ...)                                                                 \
    {                                                                                              \
        e, parent, wire, __VA_ARGS__                                                               \
    }

static const struct err_row rows[] = {
    PLAIN(EPERM, 1),
    PLAIN(ENOENT, 2),
    PLAIN(EIO, 3),
    PLAIN(E2BIG, 4),
    PLAIN(EAGAIN, 5),
    PLAIN(ENOMEM, 6),
    PLAIN(EACCES, 7),
    PLAIN(EBUSY, 8),
    PLAIN(EEXIST, 9),
    PLAIN(EXDEV, 10),
    PLAIN(ENODEV, 11),
    PLAIN(ENOTDIR, 12),
    PLAIN(EISDIR, 13),
    PLAIN(EINVAL, 14),
    PLAIN(EMFILE, 15),
    PLAIN(ETXTBSY, 16),
    PLAIN(EFBIG, 17),
    PLAIN(ENOSPC, 18),
    PLAIN(EROFS, 19),
    PLAIN(EMLINK, 20),
    PLAIN(ERANGE, 21),
    PLAIN(EDEADLK, 22),
    PLAIN(ENAMETOOLONG, 23),
    PLAIN(ENOLCK, 24),
    PLAIN(ENOSYS, 25),
    PLAIN(ENOTEMPTY, 26),
    PLAIN(ELOOP, 27),
    PLAIN(ENODATA, 28),
    PLAIN(ETIMEDOUT, 29),
    PLAIN(EOVERFLOW, 30),
    PLAIN(EOPNOTSUPP, 31),
    PLAIN(ESTALE, 32),
    PLAIN(EDQUOT, 33),
    PLAIN(ECANCELED, 34),
    PLAIN(EINTR, 35),
    PLAIN(EBADMSG, 36),
    PLAIN(EPROTO, 37),
    PLAIN(ECONNREFUSED, 38),
    PLAIN(ENXIO, 39),
    PLAIN(ESHUTDOWN, 40),
    OURS(HF_ESTALE_EPOCH, EAGAIN, 64, "stale epoch", "the cluster map in use is out of date"),
    OURS(HF_EFENCED, EIO, 65, "fenced", "the session was evicted or has ended"),
    OURS(HF_EGAP, EAGAIN, 66, "stream gap", "an earlier operation of the session is missing"),
    OURS(HF_ENOTLEADER, EAGAIN, 67, "not the leader", "another node leads the metadata"),
    OURS(HF_ENOOBJECT, EIO, 68, "no such object", "the store does not hold the object"),
    OURS(HF_ECHECKSUM, EIO, 69, "checksum mismatch", "the bytes do not match their checksum"),
    OURS(HF_ECONFLICT, EIO, 70, "object conflict", "the object id exists with other contents"),
    OURS(HF_ENOTMODIFIED, EAGAIN, 71, "not modified", "what the caller holds is current"),
    OURS(HF_EWRONGCLUSTER, EINVAL, 72, "wrong identity", "it belongs to another cluster or node"),
    OURS(HF_EQUARANTINED, EIO, 73, "quarantined", "the store has set its bad copy aside"),
    OURS(HF_ENOTREADY, EAGAIN, 74, "not ready", "the node is starting"),
    OURS(HF_EDISCONNECTED, EIO, 75, "disconnected", "the connection was lost"),
    OURS(HF_EDIFFERS, EIO, 76, "replica differs", "its metadata differ from the other nodes'"),
};

static const struct err_row *find(int err)
{
    if (err < 0) {
        err = -err;
    }
    for (size_t i = 0; i < HF_ARRAY_LEN(rows); i++) {
        if (rows[i].err == err) {
            return &rows[i];
        }
    }
    return NULL;
}

const char *hf_err_name(int err)
{
    const struct err_row *row = find(err);

    const char *name = err == 0 ? "ok" : row ? row->name : strerrorname_np(err < 0 ? -err : err);

    return name ? name : "unlisted error";
}

const char *hf_err_text(int err)
{
    const struct err_row *row = find(err);

    if (row && row->text) {
        return row->text;
    }
    return strerror(err < 0 ? -err : err);
}

int hf_err_errno(int err)
{
    const struct err_row *row = find(err);

    if (err == 0) {
        return 0;
    }
    if (row) {
        return row->parent == ETIMEDOUT ? EIO : row->parent;
    }
    err = err < 0 ? -err : err;
    return err < HF_ERR_FIRST ? err : EIO;
}

uint32_t hf_err_to_wire(int err)
{
    const struct err_row *row = find(err);

    if (err == 0) {
        return 0;
    }
    return row ? row->wire : 3; /* EIO: anything unlisted */
}

int hf_err_from_wire(uint32_t number)
{
    if (number == 0) {
        return 0;
    }
    for (size_t i = 0; i < HF_ARRAY_LEN(rows); i++) {
        if (rows[i].wire == number) {
            return -rows[i].err;
        }
    }
    return -EPROTO;
}
