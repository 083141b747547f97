/* SPDX-License-Identifier: Apache-2.0 */
#include "common/config/config.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <confuse.h>

#include "common/base/assert.h"

static char *format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static char *format(const char *fmt, ...)
{
    va_list ap;
    char *text = NULL;

    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0) {
        text = NULL;
    }
    va_end(ap);
    return text;
}

struct unit {
    const char *name;
    uint64_t factor;
};

static int parse_unit(const char *text, const struct unit *units, size_t unit_count, uint64_t *ret)
{
    char *end;
    unsigned long long v;

    if (!isdigit((unsigned char)text[0])) {
        return -EINVAL;
    }
    errno = 0;
    v = strtoull(text, &end, 10);
    if (errno) {
        return -ERANGE;
    }
    while (*end == ' ') {
        end++;
    }
    for (size_t i = 0; i < unit_count; i++) {
        if (strcmp(end, units[i].name) == 0) {
            uint64_t product;

            if (__builtin_mul_overflow((uint64_t)v, units[i].factor, &product)) {
                return -ERANGE;
            }
            *ret = product;
            return 0;
        }
    }
    return -EINVAL;
}

int hf_parse_size(const char *text, uint64_t *ret_bytes)
{
    static const struct unit units[] = {
        {"", 1},
        {"B", 1},
        {"KiB", UINT64_C(1) << 10},
        {"MiB", UINT64_C(1) << 20},
        {"GiB", UINT64_C(1) << 30},
        {"TiB", UINT64_C(1) << 40},
        {"k", UINT64_C(1) << 10},
        {"K", UINT64_C(1) << 10},
        {"M", UINT64_C(1) << 20},
        {"G", UINT64_C(1) << 30},
        {"T", UINT64_C(1) << 40},
    };

    return parse_unit(text, units, HF_ARRAY_LEN(units), ret_bytes);
}

int hf_parse_duration(const char *text, uint64_t *ret_ns)
{
    static const struct unit units[] = {
        {"", UINT64_C(1000000000)},     {"ms", UINT64_C(1000000)},
        {"s", UINT64_C(1000000000)},    {"m", UINT64_C(60000000000)},
        {"min", UINT64_C(60000000000)}, {"h", UINT64_C(3600000000000)},
    };

    return parse_unit(text, units, HF_ARRAY_LEN(units), ret_ns);
}

const char *hf_format_size(uint64_t bytes, char ret[32])
{
    static const char *const names[] = {"", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;

    while (unit + 1 < HF_ARRAY_LEN(names) && bytes != 0 && bytes % 1024 == 0) {
        bytes /= 1024;
        unit++;
    }
    (void)snprintf(ret, 32, "%" PRIu64 "%s", bytes, names[unit]);
    return ret;
}

/* The parser reports through a callback without a context; one load at a time is enough. */
static __thread char *parse_error;
static __thread const char *parse_path; /* sections do not know their file */

static void on_parse_error(cfg_t *cfg, const char *fmt, va_list ap)
{
    char *what = NULL;

    if (parse_error) {
        return; /* the first one is the cause */
    }
    if (vasprintf(&what, fmt, ap) < 0) {
        return;
    }
    parse_error =
        format("%s:%d: %s (holdfast config check --help lists the keys)",
               cfg && cfg->filename ? cfg->filename : parse_path, cfg ? cfg->line : 0, what);
    free(what);
}

static cfg_opt_t *options(void)
{
    static cfg_opt_t node_opts[] = {
        CFG_STR("address", NULL, CFGF_NONE),
        CFG_STR("data", "", CFGF_NONE),
        CFG_STR("domain", "", CFGF_NONE),
        CFG_BOOL("metadata", cfg_false, CFGF_NODEFAULT), /* size 0: not said */
        CFG_INT("weight", 100, CFGF_NONE),
        CFG_STR("capacity", "0", CFGF_NONE),
        CFG_STR("segment_size", "256MiB", CFGF_NONE),
        CFG_STR("reserve", "512MiB", CFGF_NONE),
        CFG_END(),
    };
    static cfg_opt_t client_opts[] = {
        CFG_STR("dirty_max", "128MiB", CFGF_NONE),
        CFG_STR("dirty_target", NULL, CFGF_NONE),
        CFG_STR("dirty_max_age", "5s", CFGF_NONE),
        CFG_STR("cache", "64MiB", CFGF_NONE),
        CFG_STR("readahead", "8MiB", CFGF_NONE),
        CFG_STR("op_timeout", "120s", CFGF_NONE),
        CFG_STR("open_timeout", "10s", CFGF_NONE),
        CFG_INT("flush_streams", 4, CFGF_NONE),
        CFG_BOOL("root_squash", cfg_false, CFGF_NONE),
        CFG_INT("anonuid", HF_CONFIG_ANON_ID, CFGF_NONE),
        CFG_INT("anongid", HF_CONFIG_ANON_ID, CFGF_NONE),
        CFG_END(),
    };
    static cfg_opt_t export_opts[] = {
        CFG_STR("client", NULL, CFGF_NONE),
        CFG_BOOL("read_only", cfg_false, CFGF_NONE),
        CFG_BOOL("root_squash", cfg_false, CFGF_NONE),
        CFG_INT("anonuid", HF_CONFIG_ANON_ID, CFGF_NONE),
        CFG_INT("anongid", HF_CONFIG_ANON_ID, CFGF_NONE),
        CFG_END(),
    };
    static cfg_opt_t opts[] = {
        CFG_STR("cluster", NULL, CFGF_NONE),
        CFG_INT("copies", 3, CFGF_NONE),
        CFG_INT("min_copies", 2, CFGF_NONE),
        CFG_INT("groups", HF_GROUPS_DEFAULT, CFGF_NONE),
        CFG_INT("this_node", 0, CFGF_NONE),
        CFG_STR("node_timeout", "3s", CFGF_NONE),
        CFG_STR("session_ttl", "30s", CFGF_NONE),
        CFG_STR("log_level", "info", CFGF_NONE),
        CFG_SEC("node", node_opts, CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES),
        CFG_SEC("client", client_opts, CFGF_NONE),
        CFG_SEC("export", export_opts, CFGF_MULTI),
        CFG_FUNC("include", cfg_include),
        CFG_END(),
    };

    return opts;
}

struct load {
    const char *path;
    char *error;
    bool metadata_no[HF_NODES_MAX + 1]; /* by node number: it says metadata = false */
};

static void complain(struct load *l, char *text)
{
    if (l->error || !text) {
        free(text);
        return;
    }
    l->error = format("%s: %s", l->path, text);
    free(text);
}

static uint64_t get_size(struct load *l, cfg_t *cfg, const char *key, uint64_t min, uint64_t max)
{
    const char *text = cfg_getstr(cfg, key);
    char a[32], b[32];
    uint64_t v = 0;

    if (hf_parse_size(text, &v) || v < min || v > max) {
        complain(l, format("%s = \"%s\" is not a size from %s to %s", key, text,
                           hf_format_size(min, a), hf_format_size(max, b)));
    }
    return v;
}

static uint64_t get_duration(struct load *l, cfg_t *cfg, const char *key, uint64_t min_ms,
                             uint64_t max_ms)
{
    const char *text = cfg_getstr(cfg, key);
    uint64_t v = 0;

    if (hf_parse_duration(text, &v) || v < min_ms * 1000000 || v > max_ms * 1000000) {
        complain(l, format("%s = \"%s\" is not a time from %" PRIu64 "ms to %" PRIu64
                           "ms (say 500ms, 3s, 2m)",
                           key, text, min_ms, max_ms));
    }
    return v;
}

static uint32_t get_number(struct load *l, cfg_t *cfg, const char *key, long min, long max)
{
    long v = cfg_getint(cfg, key);

    if (v < min || v > max) {
        complain(l, format("%s = %ld is not a number from %ld to %ld", key, v, min, max));
        return (uint32_t)min;
    }
    return (uint32_t)v;
}

static bool get_text(struct load *l, cfg_t *cfg, const char *key, char *ret, size_t cap)
{
    const char *text = cfg_getstr(cfg, key);

    if (!text) {
        complain(l, format("%s is missing", key));
        return false;
    }
    if (strlen(text) >= cap) {
        complain(l, format("%s is longer than %zu bytes", key, cap - 1));
        return false;
    }
    memcpy(ret, text, strlen(text) + 1);
    return true;
}

static void load_node(struct load *l, cfg_t *cfg, struct hf_config_node *node)
{
    const char *title = cfg_title(cfg);
    char *end;
    long id = strtol(title, &end, 10);

    if (*end || end == title || id < 1 || id > (long)HF_NODES_MAX) {
        complain(l, format("node \"%s\": the name is a number from 1 to %u", title, HF_NODES_MAX));
        return;
    }
    node->id.v = (uint16_t)id;
    if (!get_text(l, cfg, "address", node->address, sizeof(node->address)) ||
        !strrchr(node->address, ':')) {
        complain(l, format("node %ld: address must be \"HOST:PORT\" with a numeric host", id));
    }
    (void)get_text(l, cfg, "data", node->data, sizeof(node->data));
    if (node->data[0] && node->data[0] != '/') {
        complain(l,
                 format("node %ld: data = \"%s\" must be an absolute directory", id, node->data));
    }
    (void)get_text(l, cfg, "domain", node->domain, sizeof(node->domain));
    if (!node->domain[0]) {
        (void)snprintf(node->domain, sizeof(node->domain), "node-%ld", id);
    }
    if (cfg_size(cfg, "metadata") > 0) {
        node->metadata = cfg_getbool(cfg, "metadata");
        l->metadata_no[id] = !node->metadata;
    }
    node->weight = get_number(l, cfg, "weight", 1, 100000);
    node->capacity_bytes = get_size(l, cfg, "capacity", 0, UINT64_C(1) << 50);
    node->segment_bytes = get_size(l, cfg, "segment_size", 16u << 20, UINT64_C(1) << 30);
    node->reserve_bytes = get_size(l, cfg, "reserve", 1u << 20, UINT64_C(1) << 40);
}

static int by_id(const void *a, const void *b)
{
    const struct hf_config_node *x = a, *y = b;

    return (int)x->id.v - (int)y->id.v;
}

/* Where no node is told to hold the metadata: three of those that may, or one. */
static void default_metadata(struct load *l, struct hf_config *c)
{
    uint32_t may = 0, left;

    for (uint32_t i = 0; i < c->node_count; i++) {
        may += !l->metadata_no[c->nodes[i].id.v];
    }
    if (may == 0) {
        complain(l, format("every node says metadata = false; set it to true on 1, 3 or 5 nodes"));
    }
    left = may >= 3 ? 3 : 1;
    for (uint32_t i = 0; i < c->node_count && left > 0; i++) {
        if (!l->metadata_no[c->nodes[i].id.v]) {
            c->nodes[i].metadata = true;
            left--;
        }
    }
}

static void check_metadata(struct load *l, struct hf_config *c)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < c->node_count; i++) {
        count += c->nodes[i].metadata;
    }
    if (count == 0) {
        default_metadata(l, c);
    } else if (count > HF_CONFIG_META_MAX) {
        complain(l,
                 format("%u nodes have metadata = true; more than %u make every change slower and "
                        "nothing safer: set it on 1, 3 or 5",
                        count, HF_CONFIG_META_MAX));
    } else if (count % 2 == 0) {
        complain(l,
                 format("%u nodes have metadata = true; %u survive no more failures than %u, since "
                        "more than half must be up: set it on 1, 3 or 5",
                        count, count, count - 1));
    }
}

static void check_nodes(struct load *l, struct hf_config *c)
{
    qsort(c->nodes, c->node_count, sizeof(c->nodes[0]), by_id);
    if (c->node_count == 0) {
        complain(l,
                 format("no node; add: node \"1\" { address = \"127.0.0.11:7400\" data = ... }"));
        return;
    }
    for (uint32_t i = 0; i < c->node_count; i++) {
        for (uint32_t j = 0; j < i; j++) {
            if (c->nodes[i].id.v == c->nodes[j].id.v) {
                complain(l, format("two nodes have the number %u", c->nodes[i].id.v));
            }
            if (strcmp(c->nodes[i].address, c->nodes[j].address) == 0) {
                complain(l, format("nodes %u and %u have the same address %s", c->nodes[j].id.v,
                                   c->nodes[i].id.v, c->nodes[i].address));
            }
        }
    }
    check_metadata(l, c);
    if (c->min_copies > c->copies) {
        complain(l, format("min_copies = %u is more than copies = %u", c->min_copies, c->copies));
    }
    if (c->copies > c->node_count) {
        complain(
            l, format("copies = %u needs as many nodes; %u are listed", c->copies, c->node_count));
    }
    if (c->this_node.v && !hf_config_node(c, c->this_node)) {
        complain(l, format("this_node = %u is not among the nodes", c->this_node.v));
    }
}

static void load_exports(struct load *l, cfg_t *cfg, struct hf_config *c)
{
    for (unsigned i = 0; i < cfg_size(cfg, "export"); i++) {
        struct hf_export *e = &c->exports[i];
        cfg_t *sec = cfg_getnsec(cfg, "export", i);
        const char *client = cfg_getstr(sec, "client");

        if (i == HF_EXPORTS_MAX) {
            complain(l, format("more than %u exports", HF_EXPORTS_MAX));
            return;
        }
        if (!client || hf_export_parse(client, e)) {
            complain(l, format("export: client = \"%s\" must be an address, a network like "
                               "\"10.0.0.0/8\" or \"2001:db8::/32\", or \"*\"",
                               client ? client : ""));
        }
        e->read_only = cfg_getbool(sec, "read_only");
        e->root_squash = cfg_getbool(sec, "root_squash");
        e->anon_uid = get_number(l, sec, "anonuid", 1, HF_CONFIG_ID_MAX);
        e->anon_gid = get_number(l, sec, "anongid", 1, HF_CONFIG_ID_MAX);
        c->export_count++;
    }
}

static void load_all(struct load *l, cfg_t *cfg, struct hf_config *c)
{
    cfg_t *client = cfg_getsec(cfg, "client");
    const char *cluster = cfg_getstr(cfg, "cluster");

    if (!cluster || hf_uuid_parse(cluster, &c->cluster) || hf_uuid_is_zero(&c->cluster)) {
        complain(l, format("cluster must be the cluster's UUID, 8-4-4-4-12 hexadecimal digits"));
    }
    c->copies = get_number(l, cfg, "copies", 1, HF_REPLICAS_MAX);
    c->min_copies = get_number(l, cfg, "min_copies", 1, HF_REPLICAS_MAX);
    c->groups = get_number(l, cfg, "groups", 1, HF_GROUPS_MAX);
    c->this_node.v = (uint16_t)get_number(l, cfg, "this_node", 0, HF_NODES_MAX);
    c->node_timeout_ns = get_duration(l, cfg, "node_timeout", 200, 600000);
    c->session_ttl_ns = get_duration(l, cfg, "session_ttl", 1000, 3600000);
    if (hf_log_parse_level(cfg_getstr(cfg, "log_level"), &c->log_level)) {
        complain(l, format("log_level is one of error, warn, info, debug"));
    }
    for (unsigned i = 0; i < cfg_size(cfg, "node"); i++) {
        if (i == HF_NODES_MAX) {
            complain(l, format("more than %u nodes", HF_NODES_MAX));
            break;
        }
        load_node(l, cfg_getnsec(cfg, "node", i), &c->nodes[c->node_count++]);
    }
    check_nodes(l, c);
    load_exports(l, cfg, c);
    c->client.dirty_max_bytes = get_size(l, client, "dirty_max", 16u << 20, UINT64_C(64) << 30);
    c->client.dirty_target_bytes = c->client.dirty_max_bytes / 2;
    if (cfg_getstr(client, "dirty_target")) {
        c->client.dirty_target_bytes =
            get_size(l, client, "dirty_target", 1u << 20, c->client.dirty_max_bytes);
    }
    c->client.cache_bytes = get_size(l, client, "cache", 4u << 20, UINT64_C(64) << 30);
    c->client.readahead_bytes = get_size(l, client, "readahead", 0, 1u << 30);
    c->client.dirty_max_age_ns = get_duration(l, client, "dirty_max_age", 10, 3600000);
    c->client.op_timeout_ns = get_duration(l, client, "op_timeout", 1000, 86400000);
    c->client.open_timeout_ns = get_duration(l, client, "open_timeout", 100, 3600000);
    c->client.flush_streams = get_number(l, client, "flush_streams", 1, 64);
    c->client.root_squash = cfg_getbool(client, "root_squash");
    c->client.anon_uid = get_number(l, client, "anonuid", 1, HF_CONFIG_ID_MAX);
    c->client.anon_gid = get_number(l, client, "anongid", 1, HF_CONFIG_ID_MAX);
}

int hf_config_load(const char *path, struct hf_config *ret, char **ret_error)
{
    struct load l = {.path = path};
    struct hf_config *c = calloc(1, sizeof(*c));
    cfg_t *cfg;
    int err = 0;
    int parsed;

    *ret_error = NULL;
    if (!c) {
        return -ENOMEM;
    }
    if (!realpath(path, c->path) || access(path, R_OK) != 0) {
        err = -errno;
        *ret_error =
            format("%s: %s; give the cluster's file with --config FILE", path, strerror(errno));
        free(c);
        return err;
    }
    cfg = cfg_init(options(), CFGF_NONE);
    if (!cfg) {
        free(c);
        return -ENOMEM;
    }
    (void)cfg_set_error_function(cfg, on_parse_error);
    parse_path = path;
    parsed = cfg_parse(cfg, path);
    if (parsed != CFG_SUCCESS) {
        l.error = parse_error ? parse_error : format("%s: cannot be parsed", path);
        parse_error = NULL;
    } else {
        load_all(&l, cfg, c);
    }
    (void)cfg_free(cfg);
    free(parse_error);
    parse_error = NULL;
    if (l.error) {
        *ret_error = l.error;
        free(c);
        return -EINVAL;
    }
    *ret = *c;
    free(c);
    return 0;
}

const struct hf_config_node *hf_config_node(const struct hf_config *config, struct hf_node_id id)
{
    for (uint32_t i = 0; i < config->node_count; i++) {
        if (config->nodes[i].id.v == id.v) {
            return &config->nodes[i];
        }
    }
    return NULL;
}

uint32_t hf_config_meta_nodes(const struct hf_config *config,
                              const struct hf_config_node *ret[HF_NODES_MAX])
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < config->node_count; i++) {
        if (config->nodes[i].metadata) {
            ret[count++] = &config->nodes[i];
        }
    }
    return count;
}

/* What the choice of nodes means, as a comment. */
static void print_metadata(const struct hf_config *c, FILE *out)
{
    const struct hf_config_node *nodes[HF_NODES_MAX];
    uint32_t count = hf_config_meta_nodes(c, nodes);

    (void)fprintf(out, "# metadata on node%s", count == 1 ? "" : "s");
    for (uint32_t i = 0; i < count; i++) {
        (void)fprintf(out, "%s %u", i ? "," : "", nodes[i]->id.v);
    }
    if (count < 3) {
        (void)fprintf(out, ": while it is down, clients wait\n");
    } else {
        (void)fprintf(out, ": any %u of them may be down\n", (count - 1) / 2);
    }
}

void hf_config_print(const struct hf_config *c, FILE *out)
{
    static const char *const levels[] = {"error", "warn", "info", "debug"};
    char uuid[HF_UUID_STR_MAX], a[32];

    (void)fprintf(out, "cluster = \"%s\"\n", hf_uuid_str(&c->cluster, uuid));
    (void)fprintf(out, "copies = %u\nmin_copies = %u\ngroups = %u\n", c->copies, c->min_copies,
                  c->groups);
    if (c->this_node.v) {
        (void)fprintf(out, "this_node = %u\n", c->this_node.v);
    }
    (void)fprintf(out, "node_timeout = \"%" PRIu64 "ms\"\nsession_ttl = \"%" PRIu64 "ms\"\n",
                  c->node_timeout_ns / 1000000, c->session_ttl_ns / 1000000);
    (void)fprintf(out, "log_level = \"%s\"\n", levels[c->log_level]);
    print_metadata(c, out);
    for (uint32_t i = 0; i < c->node_count; i++) {
        const struct hf_config_node *n = &c->nodes[i];

        (void)fprintf(out, "node \"%u\" {\n    address = \"%s\"\n    data = \"%s\"\n", n->id.v,
                      n->address, n->data);
        (void)fprintf(out, "    domain = \"%s\"\n    metadata = %s\n    weight = %u\n", n->domain,
                      n->metadata ? "true" : "false", n->weight);
        (void)fprintf(out, "    capacity = \"%s\"\n", hf_format_size(n->capacity_bytes, a));
        (void)fprintf(out, "    segment_size = \"%s\"\n", hf_format_size(n->segment_bytes, a));
        (void)fprintf(out, "    reserve = \"%s\"\n}\n", hf_format_size(n->reserve_bytes, a));
    }
    (void)fprintf(out, "client {\n");
    (void)fprintf(out, "    dirty_max = \"%s\"\n", hf_format_size(c->client.dirty_max_bytes, a));
    (void)fprintf(out, "    dirty_target = \"%s\"\n",
                  hf_format_size(c->client.dirty_target_bytes, a));
    (void)fprintf(out, "    dirty_max_age = \"%" PRIu64 "ms\"\n",
                  c->client.dirty_max_age_ns / 1000000);
    (void)fprintf(out, "    cache = \"%s\"\n", hf_format_size(c->client.cache_bytes, a));
    (void)fprintf(out, "    readahead = \"%s\"\n", hf_format_size(c->client.readahead_bytes, a));
    (void)fprintf(out, "    op_timeout = \"%" PRIu64 "ms\"\n", c->client.op_timeout_ns / 1000000);
    (void)fprintf(out, "    open_timeout = \"%" PRIu64 "ms\"\n",
                  c->client.open_timeout_ns / 1000000);
    (void)fprintf(out, "    flush_streams = %u\n", c->client.flush_streams);
    (void)fprintf(out, "    root_squash = %s\n    anonuid = %u\n    anongid = %u\n}\n",
                  c->client.root_squash ? "true" : "false", c->client.anon_uid, c->client.anon_gid);
    for (uint32_t i = 0; i < c->export_count; i++) {
        const struct hf_export *e = &c->exports[i];

        (void)fprintf(out, "export {\n    client = \"%s\"\n    read_only = %s\n", e->client,
                      e->read_only ? "true" : "false");
        (void)fprintf(out, "    root_squash = %s\n    anonuid = %u\n    anongid = %u\n}\n",
                      e->root_squash ? "true" : "false", e->anon_uid, e->anon_gid);
    }
}
