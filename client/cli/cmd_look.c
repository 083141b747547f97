/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_look.c - status, info, verify, fsck: looking at a cluster without changing it.
 */
#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "client/cli/cluster.h"
#include "client/cli/leader.h"
#include "common/base/err.h"
#include "common/wire/method.h"
#include "common/wire/store_msg.h"

#define ADMIN_TIMEOUT_NS (5 * HF_NS_PER_SEC)
#define FSCK_TIMEOUT_NS  (600 * HF_NS_PER_SEC)
#define CHECK_TIMEOUT_NS (120 * HF_NS_PER_SEC)
#define CHECK_BATCH      64u

/* --- status --- */

static json_int_t number(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

static const char *text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}

static void print_status(const json_t *s)
{
    const json_t *meta = json_object_get(s, "metadata");
    const json_t *list = json_object_get(s, "nodes");
    const json_t *o;
    char a[32], b[32];
    size_t i;

    (void)printf("health    %s\n", text(s, "health"));
    (void)printf("cluster   %s, %d copies, map %d\n", text(s, "cluster"), (int)number(s, "copies"),
                 (int)number(s, "map_epoch"));
    (void)printf("metadata  node %d, %" PRId64 " inodes, entry %" PRId64 "\n",
                 (int)number(meta, "leader"), (int64_t)number(meta, "inodes"),
                 (int64_t)number(meta, "applied_index"));
    (void)printf("data      %s in %" PRId64 " objects, %s inline\n",
                 cli_size((uint64_t)number(meta, "logical_bytes"), a),
                 (int64_t)number(meta, "objects"),
                 cli_size((uint64_t)number(meta, "inline_bytes"), b));
    (void)printf("copies    %" PRId64 " missing, %" PRId64
                 " made since the metadata started, %" PRId64 " objects to delete\n",
                 (int64_t)number(meta, "degraded"), (int64_t)number(meta, "copied_objects"),
                 (int64_t)number(meta, "dead"));
    json_array_foreach(list, i, o)
    {
        const json_t *stats = json_object_get(o, "stats");

        (void)printf("node %-4d %-21s %-9s", (int)number(o, "id"), text(o, "address"),
                     text(o, "state"));
        if (stats) {
            (void)printf(" %s free of %s, %" PRId64 " objects, %" PRId64 " set aside",
                         cli_size((uint64_t)number(stats, "free_bytes"), a),
                         cli_size((uint64_t)number(stats, "capacity_bytes"), b),
                         (int64_t)number(stats, "objects"), (int64_t)number(stats, "quarantined"));
        }
        (void)putchar('\n');
    }
    list = json_object_get(s, "sessions");
    json_array_foreach(list, i, o)
    {
        (void)printf("session   %" PRId64 " %s, idle %" PRId64 " ms, %" PRId64 " open files\n",
                     (int64_t)number(o, "id"), text(o, "name"), (int64_t)number(o, "idle_ms"),
                     (int64_t)number(o, "open_files"));
    }
    list = json_object_get(s, "warnings");
    json_array_foreach(list, i, o)
    {
        (void)printf("warning   %s\n          %s\n", text(o, "what"), text(o, "fix"));
    }
}

/* Whether the nodes without metadata answer, when those with it do not. */
static void other_nodes(struct cli_cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->config->node_count; i++) {
        const struct hf_config_node *n = &cluster->config->nodes[i];
        json_t *json = NULL;
        int err;

        if (n->metadata) {
            continue;
        }
        err = cli_admin(cluster, n->address, "status", NULL, 0, HF_NS_PER_SEC, &json);
        (void)fprintf(stderr, "node %u  %s  %s\n", n->id.v, n->address,
                      err ? hf_err_text(err) : "answers");
        json_decref(json);
    }
}

static int open_from(const struct cli_args *args, struct cli_cluster *cluster)
{
    struct hf_config *config;
    struct cli_file file;
    const char *path = args->rest_count ? args->rest[0] : NULL;
    int status = CLI_DONE;

    if (path && !cli_option(args, "config")) {
        status = cli_file_find(path, &file);
    }
    if (status == CLI_DONE) {
        status = cli_config_load(args, path && !cli_option(args, "config") ? &file : NULL, &config);
    }
    return status == CLI_DONE ? cli_cluster_open(cluster, config) : status;
}

/* One node about itself: needs neither the metadata nor any other node, as health checks want. */
static int status_of_node(const struct cli_args *args, struct cli_cluster *cluster,
                          const char *name)
{
    const struct hf_config_node *n = NULL;
    json_t *json = NULL;
    int err;

    for (uint32_t i = 0; i < cluster->config->node_count; i++) {
        char id[8];

        (void)snprintf(id, sizeof(id), "%u", cluster->config->nodes[i].id.v);
        n = strcmp(id, name) == 0 ? &cluster->config->nodes[i] : n;
    }
    if (!n) {
        return cli_misuse(args, "--node %s: %s lists no such node", name, cluster->config->path);
    }
    err = cli_admin(cluster, n->address, "status", NULL, 0, ADMIN_TIMEOUT_NS, &json);
    if (err ==
        -HF_ENOTLEADER) { /* of a metadata node that keeps the cluster's status to its leader */
        err = cli_admin(cluster, n->address, "meta-status", NULL, 0, ADMIN_TIMEOUT_NS, &json);
    }
    if (err) {
        return cli_fail("node %u at %s does not answer: %s (from %s)", n->id.v, n->address,
                        hf_err_text(err), cluster->config->path);
    }
    if (cli_flag(args, "json")) {
        cli_print_json(json);
    } else {
        (void)printf("node %u at %s answers\n", n->id.v, n->address);
    }
    json_decref(json);
    return CLI_DONE;
}

int cmd_status(const struct cli_args *args)
{
    const char *node = cli_option(args, "node");
    struct cli_cluster cluster;
    json_t *json = NULL;
    int status = open_from(args, &cluster);

    if (status != CLI_DONE) {
        return status;
    }
    if (node) {
        status = status_of_node(args, &cluster, node);
        cli_cluster_close(&cluster);
        return status;
    }
    status = cli_ask_leader(&cluster, "status", NULL, 0, ADMIN_TIMEOUT_NS, &json);
    if (status != CLI_DONE) {
        other_nodes(&cluster);
    } else if (cli_flag(args, "json")) {
        cli_print_json(json);
    } else {
        print_status(json);
    }
    json_decref(json);
    cli_cluster_close(&cluster);
    return status;
}

int cmd_fsck(const struct cli_args *args)
{
    struct cli_cluster cluster;
    json_t *json = NULL;
    int status = open_from(args, &cluster);

    if (status != CLI_DONE) {
        return status;
    }
    status = cli_ask_leader(&cluster, "fsck", NULL, 0, FSCK_TIMEOUT_NS, &json);
    if (status == CLI_DONE) {
        bool clean = json_is_true(json_object_get(json, "clean"));

        if (cli_flag(args, "json")) {
            cli_print_json(json);
        } else {
            (void)printf("metadata: %s%s\n", clean ? "clean" : "DAMAGED: ", text(json, "text"));
        }
        status = clean ? CLI_DONE : CLI_FAILED;
    }
    json_decref(json);
    cli_cluster_close(&cluster);
    return status;
}

/* --- extents of a file --- */

struct extents {
    struct hf_extent *list;
    uint32_t count;
    uint64_t size_bytes;
};

/* Append the extents of one answer; they ascend from answer to answer. */
static int extents_append(struct extents *e, const struct hf_extent *more, uint32_t count)
{
    struct hf_extent *list = realloc(e->list, (e->count + count + 1) * sizeof(*list));

    if (!list) {
        return -ENOMEM;
    }
    e->list = list;
    for (uint32_t i = 0; i < count; i++) {
        if (e->count == 0 ||
            more[i].off_bytes >= list[e->count - 1].off_bytes + list[e->count - 1].len_bytes) {
            list[e->count++] = more[i];
        }
    }
    return 0;
}

static int extents_fetch(struct cli_cluster *cluster, uint64_t ino, struct extents *ret)
{
    uint64_t at = 0;
    int err;

    memset(ret, 0, sizeof(*ret));
    for (;;) {
        struct hf_meta_read rd = {
            .op = HF_RD_EXTENTS, .ino = {ino}, .offset = at, .length = HF_FILE_BYTES_MAX - at};
        struct hf_meta_reply reply;
        struct hf_extent *list = NULL;
        const uint8_t *bytes;
        size_t bytes_len;
        uint32_t count = 0;
        void *bulk = NULL;

        err = cli_read(cluster, &rd, &reply, &bulk);
        if (!err && reply.bulk_len) {
            err = hf_extents_decode(bulk, reply.bulk_len, &list, &count, &bytes, &bytes_len);
        }
        if (!err) {
            err = extents_append(ret, list, count);
            ret->size_bytes = reply.attr.size;
        }
        free(list);
        free(bulk);
        if (err || reply.next_cookie <= at || reply.next_cookie >= reply.attr.size) {
            break;
        }
        at = reply.next_cookie;
    }
    if (err) {
        free(ret->list);
        ret->list = NULL;
    }
    return err;
}

/* --- checking objects on the nodes that hold them --- */

/** Ask a node to re-read objects; fills results in order. */
static int check_on(struct cli_cluster *cluster, struct hf_node_id node, const struct hf_oid *oids,
                    uint32_t count, int *ret_errs, uint64_t *ret_digests)
{
    struct hf_msg_oids m = {.oids = oids, .count = count};
    struct hf_rpc_peer *peer = hf_io_node_peer(cluster->io, node);
    struct hf_msg_check_reply reply;
    uint8_t *msg = malloc(HF_RPC_MSG_MAX);
    void *mem = NULL;
    size_t len = 0;
    int err = !msg ? -ENOMEM : !peer ? -ENXIO : hf_msg_oids_encode(&m, msg, &len);

    if (!err) {
        err = cli_call(cluster, peer, HF_M_CHECK, msg, len, CHECK_TIMEOUT_NS, msg, &len, NULL);
    }
    if (!err) {
        err = hf_msg_check_reply_decode(msg, len, &reply, &mem);
    }
    if (!err && reply.count != count) {
        err = -EBADMSG;
    }
    for (uint32_t i = 0; !err && i < count; i++) {
        ret_errs[i] = reply.errs[i];
        ret_digests[i] = reply.digests[i];
    }
    hf_msg_release(mem);
    free(msg);
    return err;
}

/* --- info --- */

static json_t *info_holders(struct cli_cluster *cluster, const struct hf_oid *oid)
{
    const struct hf_map *map = hf_session_map(cluster->session);
    json_t *list = json_array();

    for (uint32_t r = 0; r < HF_REPLICAS_MAX; r++) {
        struct hf_node_id id = map->groups[oid->group].acting[r];
        const struct hf_map_node *n = id.v ? hf_map_node(map, id) : NULL;
        char digest[24] = "";
        uint64_t sum = 0;
        int one = 0;
        int err;
        json_t *o;

        if (!n) {
            continue;
        }
        err = n->state == HF_NODE_DOWN ? -HF_EDISCONNECTED
                                       : check_on(cluster, id, oid, 1, &one, &sum);
        err = err ? err : one;
        if (!err) {
            (void)snprintf(digest, sizeof(digest), "%016" PRIx64, sum);
        }
        o = json_pack("{s:i, s:s, s:s, s:s}", "node", (int)id.v, "state", hf_map_node_state_name(n),
                      "copy", err ? hf_err_name(err) : "good", "checksum", digest);
        (void)json_array_append_new(list, o);
    }
    return list;
}

static json_t *info_extent(struct cli_cluster *cluster, const struct hf_extent *x,
                           const struct hf_extent *before, json_t *before_json)
{
    const struct hf_map *map = hf_session_map(cluster->session);
    json_t *o = json_object();
    char oid[HF_OID_STR_MAX];

    (void)json_object_set_new(o, "offset", json_integer((json_int_t)x->off_bytes));
    (void)json_object_set_new(o, "length", json_integer((json_int_t)x->len_bytes));
    if (x->oid.session == 0) {
        (void)json_object_set_new(o, "inline", json_true());
        return o;
    }
    (void)json_object_set_new(o, "object", json_string(hf_oid_str(&x->oid, oid)));
    (void)json_object_set_new(o, "position", json_integer((json_int_t)x->pos_bytes));
    if (x->oid.group < map->group_count) {
        (void)json_object_set_new(o, "group", json_integer(x->oid.group));
        (void)json_object_set_new(o, "group_epoch",
                                  json_integer((json_int_t)map->groups[x->oid.group].epoch.v));
        if (before && hf_oid_equal(&before->oid, &x->oid)) {
            (void)json_object_set(o, "holders", json_object_get(before_json, "holders"));
        } else {
            (void)json_object_set_new(o, "holders", info_holders(cluster, &x->oid));
        }
    }
    return o;
}

static void print_info(const json_t *info)
{
    const json_t *list = json_object_get(info, "extents");
    const json_t *o, *h;
    size_t i, j;

    (void)printf("%s: inode %" PRId64 ", %" PRId64 " bytes, %zu extents\n", text(info, "path"),
                 (int64_t)number(info, "inode"), (int64_t)number(info, "size"),
                 json_array_size(list));
    json_array_foreach(list, i, o)
    {
        (void)printf("%12" PRId64 " +%-9" PRId64, (int64_t)number(o, "offset"),
                     (int64_t)number(o, "length"));
        if (json_is_true(json_object_get(o, "inline"))) {
            (void)puts(" inline, with the metadata");
            continue;
        }
        (void)printf(" object %s +%" PRId64 " group %d:", text(o, "object"),
                     (int64_t)number(o, "position"), (int)number(o, "group"));
        json_array_foreach(json_object_get(o, "holders"), j, h)
        {
            (void)printf(" [node %d %s %s %s]", (int)number(h, "node"), text(h, "state"),
                         text(h, "copy"), text(h, "checksum"));
        }
        (void)putchar('\n');
    }
}

int cmd_info(const struct cli_args *args)
{
    struct cli_cluster cluster;
    struct cli_file file;
    struct extents e = {0};
    json_t *info, *list;
    int status = cli_file_find(args->rest[0], &file);
    int err;

    if (status == CLI_DONE) {
        status = open_from(args, &cluster);
    }
    if (status != CLI_DONE) {
        return status;
    }
    status = cli_cluster_connect(&cluster);
    err = status == CLI_DONE ? extents_fetch(&cluster, file.ino, &e) : 0;
    if (err) {
        status = cli_fail("%s: %s", args->rest[0], hf_err_text(err));
    }
    info = json_object();
    list = json_array();
    (void)json_object_set_new(info, "path", json_string(args->rest[0]));
    (void)json_object_set_new(info, "inode", json_integer((json_int_t)file.ino));
    (void)json_object_set_new(info, "size", json_integer((json_int_t)e.size_bytes));
    (void)json_object_set_new(info, "extents", list);
    for (uint32_t i = 0; i < e.count; i++) {
        (void)json_array_append_new(list,
                                    info_extent(&cluster, &e.list[i], i ? &e.list[i - 1] : NULL,
                                                i ? json_array_get(list, i - 1) : NULL));
    }
    if (status == CLI_DONE && cli_flag(args, "json")) {
        cli_print_json(info);
    } else if (status == CLI_DONE) {
        print_info(info);
    }
    json_decref(info);
    free(e.list);
    cli_cluster_close(&cluster);
    return status;
}

/* --- verify --- */

struct verify {
    struct cli_cluster cluster;
    uint64_t *inos;
    size_t ino_count, ino_cap;
    struct hf_oid *oids;
    size_t oid_count, oid_cap;
    uint64_t files, bytes, good, bad, missing, unreachable;
    bool tty;
    json_t *problems;
};

static struct verify *walking; /* nftw() has no context */

static int push(void **list, size_t *count, size_t *cap, const void *item, size_t size)
{
    if (*count == *cap) {
        size_t grown = *cap ? *cap * 2 : 256;
        void *p = realloc(*list, grown * size);

        if (!p) {
            return -ENOMEM;
        }
        *list = p;
        *cap = grown;
    }
    memcpy((char *)*list + *count * size, item, size);
    (*count)++;
    return 0;
}

static int walk_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    uint64_t ino = st->st_ino;

    (void)path;
    (void)ftw;
    if (type != FTW_F || !S_ISREG(st->st_mode)) {
        return 0;
    }
    walking->files++;
    walking->bytes += (uint64_t)st->st_size;
    return push((void **)&walking->inos, &walking->ino_count, &walking->ino_cap, &ino, sizeof(ino));
}

static int compare_oids(const void *a, const void *b)
{
    return hf_oid_cmp(a, b);
}

static int collect_objects(struct verify *v)
{
    size_t unique = 0;

    for (size_t i = 0; i < v->ino_count; i++) {
        struct extents e;
        int err = extents_fetch(&v->cluster, v->inos[i], &e);

        if (err == -ENOENT || err == -ESTALE) {
            continue; /* removed meanwhile */
        }
        for (uint32_t j = 0; !err && j < e.count; j++) {
            if (e.list[j].oid.session != 0) {
                err = push((void **)&v->oids, &v->oid_count, &v->oid_cap, &e.list[j].oid,
                           sizeof(e.list[j].oid));
            }
        }
        free(e.list);
        if (err) {
            return err;
        }
    }
    qsort(v->oids, v->oid_count, sizeof(v->oids[0]), compare_oids);
    for (size_t i = 0; i < v->oid_count; i++) {
        if (i == 0 || !hf_oid_equal(&v->oids[i], &v->oids[unique - 1])) {
            v->oids[unique++] = v->oids[i];
        }
    }
    v->oid_count = unique;
    return 0;
}

static void problem(struct verify *v, const struct hf_oid *oid, struct hf_node_id node,
                    const char *what)
{
    char name[HF_OID_STR_MAX];

    (void)json_array_append_new(v->problems,
                                json_pack("{s:s, s:i, s:s}", "object", hf_oid_str(oid, name),
                                          "node", (int)node.v, "problem", what));
}

static void judge(struct verify *v, const struct hf_oid *oid, struct hf_node_id node, int err,
                  uint64_t digest, uint64_t *known_digest)
{
    if (!err && *known_digest != 0 && digest != *known_digest) {
        v->bad++;
        problem(v, oid, node, "differs from the other copies");
    } else if (!err) {
        v->good++;
        *known_digest = digest;
    } else if (err == -HF_ENOOBJECT) {
        v->missing++;
        problem(v, oid, node, "missing");
    } else if (err == -HF_ECHECKSUM || err == -HF_EQUARANTINED || err == -EIO) {
        v->bad++;
        problem(v, oid, node, err == -HF_EQUARANTINED ? "set aside as bad" : "bad, now set aside");
    } else {
        v->unreachable++;
        problem(v, oid, node, hf_err_text(err));
    }
}

/* One batch of objects of one group on every member of the group. */
static void verify_batch(struct verify *v, const struct hf_oid *oids, uint32_t count)
{
    const struct hf_map *map = hf_session_map(v->cluster.session);
    uint64_t digests[CHECK_BATCH] = {0};

    for (uint32_t r = 0; r < HF_REPLICAS_MAX; r++) {
        struct hf_node_id id = map->groups[oids[0].group].acting[r];
        uint64_t got[CHECK_BATCH];
        int errs[CHECK_BATCH];
        int err;

        if (!id.v) {
            continue;
        }
        err = check_on(&v->cluster, id, oids, count, errs, got);
        for (uint32_t i = 0; i < count; i++) {
            judge(v, &oids[i], id, err ? err : errs[i], err ? 0 : got[i], &digests[i]);
        }
    }
}

static void verify_progress(const struct verify *v, size_t done, time_t start, bool end)
{
    time_t spent = time(NULL) - start;

    if (v->tty) {
        (void)fprintf(stderr, "\r%zu of %zu objects, %" PRIu64 " bad or missing, %lds left%s   ",
                      done, v->oid_count, v->bad + v->missing + v->unreachable,
                      done ? (long)(spent * (time_t)(v->oid_count - done) / (time_t)done) : 0L,
                      end ? "\n" : "");
    }
}

static void verify_objects(struct verify *v)
{
    time_t start = time(NULL);
    size_t at = 0;

    while (at < v->oid_count) {
        uint32_t n = 1;

        while (n < CHECK_BATCH && at + n < v->oid_count &&
               v->oids[at + n].group == v->oids[at].group) {
            n++;
        }
        verify_batch(v, v->oids + at, n);
        at += n;
        verify_progress(v, at, start, at == v->oid_count);
    }
}

static int verify_report(const struct cli_args *args, const struct verify *v)
{
    bool clean = v->bad + v->missing + v->unreachable == 0;
    json_t *o = json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:O}", "clean", clean, "files",
                          (json_int_t)v->files, "bytes", (json_int_t)v->bytes, "objects",
                          (json_int_t)v->oid_count, "good_copies", (json_int_t)v->good, "bad",
                          (json_int_t)v->bad, "missing", (json_int_t)v->missing, "unreachable",
                          (json_int_t)v->unreachable, "problems", v->problems);
    const json_t *p;
    size_t i;

    if (cli_flag(args, "json")) {
        cli_print_json(o);
    } else {
        json_array_foreach(v->problems, i, p)
        {
            (void)printf("object %s on node %d: %s\n", text(p, "object"), (int)number(p, "node"),
                         text(p, "problem"));
        }
        (void)printf("%s: %" PRIu64 " files, %zu objects, %" PRIu64 " good copies, %" PRIu64
                     " bad, %" PRIu64 " missing, %" PRIu64 " unreachable\n",
                     clean ? "clean" : "NOT CLEAN", v->files, v->oid_count, v->good, v->bad,
                     v->missing, v->unreachable);
    }
    json_decref(o);
    return clean ? CLI_DONE : CLI_FAILED;
}

int cmd_verify(const struct cli_args *args)
{
    struct verify v = {.tty = isatty(STDERR_FILENO) != 0};
    struct cli_file file;
    int status = cli_file_find(args->rest[0], &file);
    int err = 0;

    if (status == CLI_DONE) {
        status = open_from(args, &v.cluster);
    }
    if (status != CLI_DONE) {
        return status;
    }
    v.problems = json_array();
    status = cli_cluster_connect(&v.cluster);
    if (status == CLI_DONE) {
        walking = &v;
        if (nftw(args->rest[0], walk_one, 64, FTW_PHYS | FTW_MOUNT) != 0) {
            err = errno ? -errno : -ENOMEM;
        }
        if (!err) {
            err = collect_objects(&v);
        }
        if (err) {
            status = cli_fail("%s: %s", args->rest[0], hf_err_text(err));
        } else {
            verify_objects(&v);
            status = verify_report(args, &v);
        }
    }
    json_decref(v.problems);
    free(v.inos);
    free(v.oids);
    cli_cluster_close(&v.cluster);
    return status;
}
