/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who takes part. The leader looks every second: a voter whose store is new or damaged starts over
 * as a learner, a learner that is whole and has caught up becomes a voter. Adding and removing is
 * for people.
 */
#include <errno.h>

#include "common/base/err.h"
#include "common/log/log.h"
#include "server/raft/driver_impl.h"

static int change(struct hf_raft_driver *d, enum hf_raft_change what, struct hf_node_id node)
{
    static const char *const names[] = {"", "learner added", "learner becomes voter",
                                        "voter starts over", "removed"};
    struct hf_raft_event event = {.type = HF_RAFT_EV_CONFIG};
    int err;

    event.u.config.change = what;
    event.u.config.node = node;
    err = raft_driver_step(d, &event, NULL);
    if (!err) {
        hf_log(HF_LOG_INFO, "raft", names[what], "node=%u", node.v);
    }
    return err;
}

void raft_members_tick(struct hf_raft_driver *d)
{
    const struct hf_raft_config config = *hf_raft_config(d->raft, NULL);

    for (uint32_t i = 0; i < config.count && d->leading; i++) {
        const struct hf_raft_member *m = &config.members[i];
        struct hf_raft_peer_status peer;

        if (m->id.v == d->options.self.v || hf_raft_peer(d->raft, m->id, &peer) != 0) {
            continue;
        }
        /* Refused as long as it would not be safe, or too early: then the next second. */
        if (m->kind == HF_RAFT_VOTER && peer.abstaining) {
            (void)change(d, HF_RAFT_DEMOTE, m->id);
        } else if (m->kind == HF_RAFT_LEARNER && !peer.abstaining) {
            (void)change(d, HF_RAFT_PROMOTE, m->id);
        }
    }
}

static const char *refusal(int err)
{
    switch (-err) {
    case HF_ENOTLEADER:
        return "this node does not lead; ask the leader";
    case EAGAIN:
        return "not now: too few of the other voters are heard, and without them the cluster would "
               "lose its majority; start them first, or try again in a few seconds";
    case EBUSY:
        return "another change is under way; try again in a few seconds";
    case ENOENT:
        return "that node is no metadata node; 'holdfast meta status' lists them";
    case EEXIST:
        return "that node is what it is to be already";
    case EPERM:
        return "it is the last voter: the metadata would be gone";
    case ENOSPC:
        return "there are as many metadata nodes as there can be";
    default:
        return "this node takes no part in the metadata now; look at its log";
    }
}

static int finish(int err, const char **ret_error)
{
    *ret_error = err ? refusal(err) : NULL;
    return err;
}

int hf_raft_driver_add(struct hf_raft_driver *d, struct hf_node_id node, const char **ret_error)
{
    return finish(change(d, HF_RAFT_ADD_LEARNER, node), ret_error);
}

int hf_raft_driver_remove(struct hf_raft_driver *d, struct hf_node_id node, const char **ret_error)
{
    return finish(change(d, HF_RAFT_REMOVE, node), ret_error);
}

int hf_raft_driver_transfer(struct hf_raft_driver *d, struct hf_node_id target,
                            const char **ret_error)
{
    struct hf_raft_event event = {.type = HF_RAFT_EV_TRANSFER};

    event.u.transfer.target = target;
    return finish(raft_driver_step(d, &event, NULL), ret_error);
}
