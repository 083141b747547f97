/* SPDX-License-Identifier: Apache-2.0 */
#include "client/cli/show.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "client/cli/cli.h"

static int64_t number(const json_t *o, const char *key)
{
    return (int64_t)json_integer_value(json_object_get(o, key));
}

static const char *text(const json_t *o, const char *key, const char *otherwise)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s && s[0] ? s : otherwise;
}

static bool is(const json_t *o, const char *key, const char *value)
{
    return strcmp(text(o, key, ""), value) == 0;
}

const json_t *show_member(const json_t *meta, unsigned node)
{
    const json_t *m;
    size_t i;

    json_array_foreach(json_object_get(meta, "members"), i, m)
    {
        if (number(m, "node") == node) {
            return m;
        }
    }
    return NULL;
}

/* --- nodes --- */

static const char *role(const json_t *status, const json_t *meta, unsigned node)
{
    const json_t *member = show_member(meta, node);
    int64_t leader =
        meta ? number(meta, "leader") : number(json_object_get(status, "metadata"), "leader");

    if (leader == node) {
        return "leader";
    }
    return member ? text(member, "kind", "-") : "-";
}

/* A number, or null. */
static void copy_number(json_t *to, const char *key, const json_t *from, const char *from_key)
{
    json_t *v = json_object_get(from, from_key);

    (void)json_object_set_new(
        to, key, json_is_integer(v) ? json_integer(json_integer_value(v)) : json_null());
}

json_t *show_merge_nodes(const json_t *status, const json_t *meta)
{
    json_t *list = json_array();
    const json_t *n;
    size_t i;

    json_array_foreach(json_object_get(status, "nodes"), i, n)
    {
        const json_t *stats = json_object_get(n, "stats");
        unsigned id = (unsigned)number(n, "id");
        json_t *o = json_pack("{s:i, s:s, s:s, s:s, s:s}", "id", (int)id, "address",
                              text(n, "address", "-"), "domain", text(n, "domain", "-"), "state",
                              text(n, "state", "-"), "role", role(status, meta, id));

        copy_number(o, "free_bytes", stats, "free_bytes");
        copy_number(o, "objects", stats, "objects");
        copy_number(o, "lacking", n, "lacking");
        copy_number(o, "heard_ms_ago", n, "heard_ms_ago");
        (void)json_array_append_new(list, o);
    }
    return list;
}

/* "-" where there is no number. */
static const char *count_text(const json_t *o, const char *key, char ret[32])
{
    json_t *v = json_object_get(o, key);

    (void)snprintf(ret, 32, "-");
    if (json_is_integer(v)) {
        (void)snprintf(ret, 32, "%" PRId64, (int64_t)json_integer_value(v));
    }
    return ret;
}

static const char *size_text(const json_t *o, const char *key, char ret[32])
{
    json_t *v = json_object_get(o, key);

    (void)snprintf(ret, 32, "-");
    return json_is_integer(v) ? cli_size((uint64_t)json_integer_value(v), ret) : ret;
}

static const char *ago_text(const json_t *o, const char *key, char ret[32])
{
    json_t *v = json_object_get(o, key);

    (void)snprintf(ret, 32, "-");
    if (json_is_integer(v)) {
        (void)snprintf(ret, 32, "%.1f s", (double)json_integer_value(v) / 1000);
    }
    return ret;
}

void show_nodes(const json_t *nodes, FILE *out)
{
    const json_t *n;
    size_t i;

    (void)fprintf(out, "%-4s  %-21s  %-12s  %-9s  %-8s  %10s  %8s  %8s  %s\n", "node", "address",
                  "domain", "state", "metadata", "free", "objects", "lacking", "heard");
    json_array_foreach(nodes, i, n)
    {
        char a[32], b[32], c[32], d[32];

        (void)fprintf(out, "%-4d  %-21s  %-12s  %-9s  %-8s  %10s  %8s  %8s  %s\n",
                      (int)number(n, "id"), text(n, "address", "-"), text(n, "domain", "-"),
                      text(n, "state", "-"), text(n, "role", "-"), size_text(n, "free_bytes", a),
                      count_text(n, "objects", b), count_text(n, "lacking", c),
                      ago_text(n, "heard_ms_ago", d));
    }
}

/* --- the metadata's members --- */

/* Of those that say they lead, the one of the newest term: an old one has not noticed yet. */
static const json_t *find_leader(const json_t *answers)
{
    const json_t *best = NULL, *o;
    size_t i;

    json_array_foreach(answers, i, o)
    {
        if (is(o, "role", "leader") && (!best || number(o, "term") > number(best, "term"))) {
            best = o;
        }
    }
    return best;
}

json_t *show_merge_meta(const json_t *answers)
{
    static const char *const keys[] = {"term", "index", "log_bytes", "members"};
    const json_t *leader = find_leader(answers);
    json_t *meta = json_object();

    (void)json_object_set_new(
        meta, "leader", leader ? json_integer((json_int_t)number(leader, "node")) : json_null());
    for (size_t i = 0; leader && i < sizeof(keys) / sizeof(keys[0]); i++) {
        json_t *v = json_object_get(leader, keys[i]);

        if (v) {
            (void)json_object_set(meta, keys[i], v);
        }
    }
    (void)json_object_set_new(meta, "nodes", json_deep_copy(answers));
    return meta;
}

static const json_t *answer_of(const json_t *meta, unsigned node)
{
    const json_t *o;
    size_t i;

    json_array_foreach(json_object_get(meta, "nodes"), i, o)
    {
        if (number(o, "node") == node) {
            return o;
        }
    }
    return NULL;
}

static void remark(FILE *out, bool *first, const char *what, const char *more)
{
    (void)fprintf(out, "%s%s%s", *first ? "  " : "; ", what, more);
    *first = false;
}

static void show_remarks(const json_t *answer, const json_t *member, FILE *out)
{
    bool first = true;
    json_t *ok = json_object_get(member, "digest_ok");

    if (json_object_get(answer, "error")) {
        remark(out, &first, "does not answer: ", text(answer, "error", ""));
    }
    if (json_is_true(json_object_get(member, "abstaining")) ||
        json_is_true(json_object_get(answer, "abstaining"))) {
        remark(out, &first, "does not vote: its log lost entries, it is made whole again", "");
    }
    if (json_is_true(json_object_get(member, "snapshotting"))) {
        remark(out, &first, "is sent a snapshot", "");
    }
    if (json_is_true(json_object_get(member, "taken_out")) ||
        json_is_true(json_object_get(answer, "taken_out"))) {
        remark(out, &first, "TAKEN OUT, ITS METADATA DIFFERED: remove its directory, restart it",
               "");
    } else if (json_is_false(ok)) {
        char index[32];

        remark(out, &first, "ITS METADATA DIFFERS FROM THE LEADER'S at entry ",
               count_text(member, "digest_index", index));
    }
    if (json_object_get(answer, "waiting_for")) {
        remark(out, &first, "waits for ", text(answer, "waiting_for", "-"));
    }
}

static void show_one(const json_t *answer, const json_t *member, FILE *out)
{
    const json_t *o = answer ? answer : member;
    const char *address = text(member, "address", text(answer, "address", "-"));
    char a[32], b[32], c[32];

    (void)fprintf(out, "%-4d  %-21s  %-9s  %-7s  %10s  %8s  %7s", (int)number(o, "node"), address,
                  text(answer, "role", "-"), text(member, "kind", "-"),
                  count_text(member, "match", a), count_text(member, "lag", b),
                  ago_text(member, "heard_ms_ago", c));
    show_remarks(answer, member, out);
    (void)fputc('\n', out);
}

static void show_head(const json_t *meta, FILE *out)
{
    const json_t *index = json_object_get(meta, "index");
    char commit[32], applied[32], checkpoint[32], size[32];

    if (!json_is_integer(json_object_get(meta, "leader"))) {
        (void)fprintf(out, "leader   none\n");
        return;
    }
    (void)fprintf(out, "leader   node %d, term %" PRId64 "\n", (int)number(meta, "leader"),
                  number(meta, "term"));
    (void)fprintf(out, "entries  %s committed, %s applied, checkpoint at %s, log %s\n",
                  count_text(index, "commit", commit), count_text(index, "applied", applied),
                  count_text(index, "checkpoint", checkpoint), size_text(meta, "log_bytes", size));
}

void show_meta(const json_t *meta, FILE *out)
{
    const json_t *o;
    size_t i;

    show_head(meta, out);
    (void)fprintf(out, "%-4s  %-21s  %-9s  %-7s  %10s  %8s  %7s\n", "node", "address", "role",
                  "kind", "match", "lag", "heard");
    json_array_foreach(json_object_get(meta, "nodes"), i, o)
    {
        show_one(o, show_member(meta, (unsigned)number(o, "node")), out);
    }
    json_array_foreach(json_object_get(meta, "members"), i, o)
    {
        if (!answer_of(meta, (unsigned)number(o, "node"))) {
            show_one(NULL, o, out);
        }
    }
}

const char *show_joining(const json_t *meta, unsigned node, char ret[128])
{
    const json_t *m = show_member(meta, node);
    int64_t last = number(json_object_get(meta, "index"), "last");
    int64_t match = number(m, "match");

    if (!m) {
        (void)snprintf(ret, 128, "not a member yet");
    } else if (is(m, "kind", "voter")) {
        (void)snprintf(ret, 128, "voter");
    } else {
        (void)snprintf(ret, 128, "learner, entry %" PRId64 " of %" PRId64 " (%d%%)%s", match, last,
                       last > 0 && match <= last ? (int)((double)match * 100 / (double)last) : 0,
                       json_is_true(json_object_get(m, "snapshotting")) ? ", a snapshot" : "");
    }
    return ret;
}
