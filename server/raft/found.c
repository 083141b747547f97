/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an empty store is: part of a new cluster, or a newcomer to one.
 *
 * Every metadata node of the configuration asks all the others. The lowest of them founds the
 * cluster when every other one has said that its store is empty too, naming all of them with their
 * stores of now; the others take part when they find themselves named. Whoever finds a cluster that
 * does not name its very store joins it and abstains: what it may have promised is forgotten.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/err.h"
#include "common/log/log.h"
#include "server/raft/driver_impl.h"

#define SAY_EVERY_NS (10 * HF_NS_PER_SEC)

static struct hf_raft_found own(const struct hf_raft_driver *d)
{
    struct hf_raft_found found = {
        .node = d->options.self,
        .incarnation = d->hard.incarnation,
        .state = d->hard.state == HF_RAFT_STORE_NEW && d->options.must_join ? HF_RAFT_STORE_JOINING
                                                                            : d->hard.state,
        .member_count = d->options.member_count,
        .founder_count = d->hard.founder_count,
        .wall_ns = hf_env_wall_ns(d->env),
    };

    memcpy(found.members, d->members, sizeof(d->members[0]) * d->options.member_count);
    memcpy(found.founders, d->hard.founders, sizeof(found.founders));
    return found;
}

/* Deciding */

static void found_cluster(struct hf_raft_driver *d, const struct hf_raft_founder *founders,
                          uint32_t count)
{
    struct hf_raft_config config = {.count = count};

    for (uint32_t i = 0; i < count; i++) {
        config.members[i] = (struct hf_raft_member){founders[i].node, HF_RAFT_VOTER};
        d->hard.founders[i] = founders[i];
    }
    d->hard.founder_count = count;
    d->hard.state = HF_RAFT_STORE_FOUNDED;
    d->hard.abstain = false;
    d->waiting_for[0] = '\0';
    hf_log(HF_LOG_INFO, "raft", "new cluster", "metadata_nodes=%u", count);
    if (raft_driver_core_new(d, &config) != 0) {
        raft_driver_fail(d, -ENOMEM, "out of memory");
        return;
    }
    raft_driver_begin(d);
}

static void join_cluster(struct hf_raft_driver *d, struct hf_node_id of)
{
    const struct hf_raft_config none = {0};

    d->hard.state = HF_RAFT_STORE_JOINING;
    d->hard.abstain = true;
    d->waiting_for[0] = '\0';
    hf_log(HF_LOG_WARN, "raft", "joining",
           "member=%u what=\"the metadata cluster exists and does not know this node's store: it "
           "is new, or its metadata directory was lost. The leader brings it up to date; a node "
           "that never was a metadata node needs 'holdfast meta add-voter %u'\"",
           of.v, d->options.self.v);
    if (raft_driver_core_new(d, &none) != 0) {
        raft_driver_fail(d, -ENOMEM, "out of memory");
        return;
    }
    raft_driver_begin(d);
}

static bool names(const struct hf_raft_found *found, struct hf_node_id node, uint64_t incarnation)
{
    for (uint32_t i = 0; i < found->founder_count; i++) {
        if (found->founders[i].node.v == node.v) {
            return found->founders[i].incarnation == incarnation;
        }
    }
    return false;
}

static bool same_members(const struct hf_raft_driver *d, const struct hf_raft_found *found)
{
    return found->member_count == d->options.member_count &&
           memcmp(found->members, d->members, sizeof(d->members[0]) * found->member_count) == 0;
}

/* Why the others cannot be asked to found a cluster yet; false: they can. */
static bool must_wait(struct hf_raft_driver *d)
{
    for (uint32_t i = 0; i < d->options.member_count; i++) {
        const struct hf_raft_found *found = &d->heard[i];
        const unsigned node = d->members[i].v;

        if (node == d->options.self.v) {
            continue;
        }
        if (d->heard_err[i]) {
            (void)snprintf(d->waiting_for, sizeof(d->waiting_for),
                           "node %u, a metadata node: %s; start holdfastd on it", node,
                           d->heard_err[i] > 0 ? "not heard yet" : hf_err_text(d->heard_err[i]));
            return true;
        }
        if (found->state != HF_RAFT_STORE_NEW) {
            (void)snprintf(
                d->waiting_for, sizeof(d->waiting_for),
                "the metadata: node %u was part of a cluster whose metadata nobody has; put "
                "a metadata directory back",
                node);
            return true;
        }
        if (!same_members(d, found)) {
            (void)snprintf(d->waiting_for, sizeof(d->waiting_for),
                           "one configuration: node %u lists other metadata nodes in its file",
                           node);
            return true;
        }
    }
    return false;
}

static void decide(struct hf_raft_driver *d)
{
    struct hf_raft_founder founders[HF_RAFT_MEMBERS_MAX] = {0};

    if (d->state != HF_RAFT_FOUNDING || d->known || d->raft) {
        return;
    }
    for (uint32_t i = 0; i < d->options.member_count; i++) {
        const struct hf_raft_found *found = &d->heard[i];

        founders[i] = (struct hf_raft_founder){d->members[i], found->incarnation};
        if (d->members[i].v == d->options.self.v) {
            founders[i].incarnation = d->hard.incarnation;
        } else if (!d->heard_err[i] && found->state == HF_RAFT_STORE_FOUNDED) {
            if (names(found, d->options.self, d->hard.incarnation)) {
                found_cluster(d, found->founders, found->founder_count);
            } else {
                join_cluster(d, d->members[i]);
            }
            return;
        }
    }
    if (d->options.must_join) {
        (void)snprintf(
            d->waiting_for, sizeof(d->waiting_for),
            "a metadata node that has the metadata of the cluster this node was part of");
    } else if (!must_wait(d)) {
        if (d->members[0].v == d->options.self.v) {
            found_cluster(d, founders, d->options.member_count);
        } else {
            (void)snprintf(d->waiting_for, sizeof(d->waiting_for), "node %u to found the cluster",
                           d->members[0].v);
        }
    }
}

/* Asking */

/* The answer took a moment, which counts as part of the difference. */
static void check_clock(struct hf_raft_driver *d, uint32_t at, bool first)
{
    const int64_t ahead_ns = (int64_t)(d->heard[at].wall_ns - hf_env_wall_ns(d->env));
    const bool was_apart = d->clock_apart[at] && !first;

    d->clock_ahead_s[at] = d->heard[at].wall_ns ? ahead_ns / (int64_t)HF_NS_PER_SEC : 0;
    d->clock_apart[at] = llabs(d->clock_ahead_s[at]) > HF_RAFT_CLOCK_APART_S;
    if (d->clock_apart[at] && !was_apart) {
        hf_log(HF_LOG_WARN, "raft", "clocks apart",
               "node=%u seconds=%lld what=\"file times will jump when leadership moves: set the "
               "clocks (chrony, systemd-timesyncd)\"",
               d->members[at].v, (long long)d->clock_ahead_s[at]);
    } else if (was_apart && !d->clock_apart[at]) {
        hf_log(HF_LOG_INFO, "raft", "clocks agree", "node=%u", d->members[at].v);
    }
}

static void answered(void *arg, int err, const void *msg, size_t len)
{
    struct hf_raft_driver *d = arg;
    struct hf_raft_found found;
    uint32_t at = 0;

    d->questions--;
    if (!err) {
        err = hf_raft_found_decode(msg, len, &found);
    }
    /* Who answers says who it is; a failure is told by the next round's time-out of all. */
    if (!err) {
        while (at < d->options.member_count && d->members[at].v != found.node.v) {
            at++;
        }
        if (at < d->options.member_count && found.node.v != d->options.self.v) {
            const bool first = d->heard_err[at] != 0;

            d->heard[at] = found;
            d->heard_err[at] = 0;
            d->asking[at] = false;
            check_clock(d, at, first);
        }
    }
    if (!err) {
        raft_digests_heard(d, &found);
    }
    if (d->state != HF_RAFT_CLOSING) {
        decide(d);
    }
}

static void ask(struct hf_raft_driver *d, struct hf_node_id node)
{
    const struct hf_raft_found found = own(d);
    uint8_t msg[HF_RPC_MSG_MAX];
    size_t len;

    if (hf_raft_found_encode(&found, msg, &len) == 0) {
        d->questions++;
        d->options.net.ask(d->options.net.ctx, node, msg, len, answered, d);
    }
}

void raft_found_greet(struct hf_raft_driver *d)
{
    const struct hf_raft_config *config = hf_raft_config(d->raft, NULL);

    for (uint32_t i = 0; i < config->count; i++) {
        if (config->members[i].id.v != d->options.self.v && d->questions < HF_RAFT_MEMBERS_MAX) {
            ask(d, config->members[i].id);
        }
    }
}

static void ask_all(struct hf_raft_driver *d)
{
    for (uint32_t i = 0; i < d->options.member_count; i++) {
        if (d->members[i].v == d->options.self.v) {
            continue;
        }
        if (d->asking[i]) { /* the last question found no answer */
            d->heard_err[i] = -ETIMEDOUT;
        }
        d->asking[i] = true;
        ask(d, d->members[i]);
    }
}

static void started(struct hf_raft_driver *d, int err)
{
    if (err) {
        raft_driver_fail(d, err, "the vote cannot be written");
        return;
    }
    if (d->state == HF_RAFT_FOUNDING) {
        ask_all(d);
        decide(d);
        hf_timer_arm(&d->second, HF_NS_PER_SEC / 2);
    }
}

void raft_found_start(struct hf_raft_driver *d)
{
    d->waiting_said_ns = hf_env_mono_ns(d->env);
    raft_driver_persist(d, started);
}

void raft_found_tick(struct hf_raft_driver *d)
{
    const uint64_t now_ns = hf_env_mono_ns(d->env);

    if (d->raft) {
        return; /* decided, and being written */
    }
    ask_all(d);
    decide(d);
    if (d->waiting_for[0] && now_ns - d->waiting_said_ns >= SAY_EVERY_NS) {
        d->waiting_said_ns = now_ns;
        hf_log(HF_LOG_WARN, "raft", "waiting", "for=\"%s\"", d->waiting_for);
    }
}

int hf_raft_driver_asked(struct hf_raft_driver *d, const void *msg, size_t msg_len,
                         uint8_t ret[HF_RPC_MSG_MAX], size_t *ret_len)
{
    struct hf_raft_found found;
    int err = hf_raft_found_decode(msg, msg_len, &found);

    if (err || (d->state == HF_RAFT_FAILED && !d->hard.taken_out) || d->hard.incarnation == 0) {
        return err ? err : -HF_ENOTREADY;
    }
    found = own(d);
    /* What is not durable yet must not be told: a founder that forgot could found again. */
    if (!d->known && d->hard.state == HF_RAFT_STORE_FOUNDED) {
        return -HF_ENOTREADY;
    }
    raft_digests_tell(d, &found);
    return hf_raft_found_encode(&found, ret, ret_len);
}
