/* SPDX-License-Identifier: Apache-2.0 */
#include "server/meta/recent.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "server/meta/hmap.h"

int hf_recent_init(struct hf_recent *recent)
{
    recent->sets = calloc(HF_RECENT_SETS, sizeof(*recent->sets));
    return recent->sets ? 0 : -ENOMEM;
}

void hf_recent_fini(struct hf_recent *recent)
{
    free(recent->sets);
    recent->sets = NULL;
}

static struct hf_recent_look *set_of(const struct hf_recent *recent, struct hf_ino ino)
{
    return recent->sets[hf_hash_u64(ino.v) & (HF_RECENT_SETS - 1)];
}

static bool fresh(const struct hf_recent_look *look, struct hf_ino ino, uint64_t now_ns)
{
    return look->ino.v == ino.v && look->session.v > 0 && now_ns - look->at_ns < HF_RECENT_NS;
}

void hf_recent_note(struct hf_recent *recent, struct hf_ino ino, struct hf_session_id session,
                    uint64_t now_ns)
{
    struct hf_recent_look *set = set_of(recent, ino);
    uint32_t at = 0;

    while (at + 1 < HF_RECENT_WAYS && (set[at].ino.v != ino.v || set[at].session.v != session.v)) {
        at++;
    }
    memmove(set + 1, set, at * sizeof(*set));
    set[0] = (struct hf_recent_look){.ino = ino, .session = session, .at_ns = now_ns};
}

bool hf_recent_has(const struct hf_recent *recent, struct hf_ino ino, struct hf_session_id session,
                   uint64_t now_ns)
{
    const struct hf_recent_look *set = set_of(recent, ino);

    for (uint32_t i = 0; i < HF_RECENT_WAYS; i++) {
        if (set[i].session.v == session.v && fresh(&set[i], ino, now_ns)) {
            return true;
        }
    }
    return false;
}

void hf_recent_each(const struct hf_recent *recent, struct hf_ino ino, uint64_t now_ns,
                    void (*fn)(void *ctx, struct hf_session_id session), void *ctx)
{
    const struct hf_recent_look *set = set_of(recent, ino);

    for (uint32_t i = 0; i < HF_RECENT_WAYS; i++) {
        if (fresh(&set[i], ino, now_ns)) {
            fn(ctx, set[i].session);
        }
    }
}

void hf_recent_check_invariants(const struct hf_recent *recent)
{
    for (uint32_t i = 0; i < HF_RECENT_SETS; i++) {
        const struct hf_recent_look *set = recent->sets[i];

        for (uint32_t at = 0; at < HF_RECENT_WAYS && set[at].session.v; at++) {
            HF_ASSERT(set_of(recent, set[at].ino) == set);
            HF_ASSERT(at == 0 || set[at - 1].at_ns >= set[at].at_ns);
            for (uint32_t k = 0; k < at; k++) {
                HF_ASSERT(set[k].ino.v != set[at].ino.v || set[k].session.v != set[at].session.v);
            }
        }
    }
}
