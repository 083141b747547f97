/* SPDX-License-Identifier: Apache-2.0 */
/* fsx_model.c - what the files must hold, and what is said when they do not. */
#include <stdio.h>
#include <string.h>

#include "tests/posix/torture/fsx.h"

#define HISTORY     12u /* operations shown */
#define SHOWN_BYTES 16u

void fsx_model_resize(struct fsx_model *model, uint64_t size)
{
    if (size < model->size) {
        memset(model->bytes + size, 0, model->size - size);
    }
    model->size = size;
}

void fsx_model_write(struct fsx_model *model, uint64_t off, const uint8_t *bytes, uint64_t len)
{
    memmove(model->bytes + off, bytes, len);
    model->size = len && off + len > model->size ? off + len : model->size;
}

void fsx_model_zero(struct fsx_model *model, uint64_t off, uint64_t len, bool keep_size)
{
    memset(model->bytes + off, 0, len);
    if (!keep_size && off + len > model->size) {
        model->size = off + len;
    }
}

bool fsx_model_is_zero(const struct fsx_model *model, uint64_t off, uint64_t end)
{
    for (uint64_t i = off; i < end; i++) {
        if (model->bytes[i]) {
            return false;
        }
    }
    return true;
}

/* Reports */

static bool touches(const struct fsx_op *op, unsigned file, uint64_t off)
{
    bool here = op->file == file;

    switch ((enum fsx_kind)op->kind) {
    case FSX_READ:
    case FSX_WRITE:
    case FSX_PUNCH:
    case FSX_ZERO:
    case FSX_ALLOCATE:
    case FSX_PEEK:
        return here && off >= op->off && off - op->off < op->len;
    case FSX_TRUNCATE:
        return here && op->off <= off;
    case FSX_COPY:
        here = (op->file ^ (op->how & FSX_OTHER ? 1u : 0u)) == file;
        return here && off >= op->to && off - op->to < op->len;
    case FSX_REOPEN:
    case FSX_FSYNC:
    case FSX_DROP:
    case FSX_TIMES:
    case FSX_CHMOD:
        return here;
    case FSX_SEEK:
    case FSX_STAT:
    case FSX_VERIFY:
    case FSX_KIND_COUNT:
        break;
    }
    return false;
}

void fsx_model_history(struct fsx *fsx, unsigned file, uint64_t off)
{
    struct torture_shared *torture = &fsx->shared->torture;
    uint64_t found[HISTORY], n = 0;
    char text[256];

    for (uint64_t i = torture->next + 1; i-- > 0 && n < HISTORY;) {
        if (touches(&fsx->ops[i], file, off)) {
            found[n++] = i;
        }
    }
    torture_report(torture, "the last operations that touched it:\n");
    while (n-- > 0) {
        fsx_op_text(&fsx->ops[found[n]], text, sizeof(text));
        torture_report(torture, "  %s\n", text);
    }
}

static void say_bytes(struct torture_shared *torture, const char *what, const uint8_t *bytes,
                      uint64_t len)
{
    torture_report(torture, "  %-8s", what);
    for (uint64_t i = 0; i < len && i < SHOWN_BYTES; i++) {
        torture_report(torture, " %02x", bytes[i]);
    }
    torture_report(torture, "\n");
}

/* Which operation wrote such bytes at such an offset? */
static void say_writer(struct fsx *fsx, const char *what, const uint8_t *bytes, uint64_t off,
                       uint64_t len)
{
    struct torture_shared *torture = &fsx->shared->torture;
    uint8_t want[8];

    len = len < sizeof(want) ? len : sizeof(want);
    if (len < 3) {
        return;
    }
    for (uint64_t i = torture->next + 1; i-- > 0;) {
        const struct fsx_op *op = &fsx->ops[i];

        torture_fill(want, off, len, op->id);
        if (op->kind == FSX_WRITE && memcmp(want, bytes, len) == 0) {
            torture_report(torture, "  %s are the bytes of operation %u\n", what, op->id);
            return;
        }
    }
}

bool fsx_model_check(struct fsx *fsx, const struct fsx_op *op, unsigned file, uint64_t off,
                     const uint8_t *bytes, uint64_t len, const char *what)
{
    const uint8_t *want = fsx->shared->files[file].bytes + off;
    struct torture_shared *torture = &fsx->shared->torture;
    uint64_t from = 0, to = len, wrong = 0;
    char text[256];

    if (memcmp(bytes, want, len) == 0) {
        return true;
    }
    while (bytes[from] == want[from]) {
        from++;
    }
    while (bytes[to - 1] == want[to - 1]) {
        to--;
    }
    for (uint64_t i = from; i < to; i++) {
        wrong += bytes[i] != want[i];
    }
    fsx_op_text(op, text, sizeof(text));
    torture_report(torture, "%s\n%s: wrong bytes in file %u, size %llu\n", text, what, file,
                   (unsigned long long)fsx->shared->files[file].size);
    torture_report(torture, "  %llu of [%llu, %llu) are wrong, the first at offset 0x%llx (%llu)\n",
                   (unsigned long long)wrong, (unsigned long long)(off + from),
                   (unsigned long long)(off + to), (unsigned long long)(off + from),
                   (unsigned long long)(off + from));
    say_bytes(torture, "expected", want + from, len - from);
    say_bytes(torture, "read", bytes + from, len - from);
    say_writer(fsx, "expected", want + from, off + from, to - from);
    say_writer(fsx, "read", bytes + from, off + from, to - from);
    fsx_model_history(fsx, file, off + from);
    return false;
}
