/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/config/config.h"

#define HEAD "cluster = \"0123abcd-4567-89ab-cdef-000102030405\"\n"
#define NODES                                                                                      \
    "node \"2\" { address = \"127.0.0.12:7400\" data = \"/n2\" }\n"                                \
    "node \"1\" { address = \"127.0.0.11:7400\" data = \"/n1\" }\n"

static int load(const char *text, struct hf_config *ret, char **ret_error)
{
    char path[] = "/tmp/hf-config-XXXXXX";
    int fd = mkstemp(path);
    int err;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    (void)close(fd);
    err = hf_config_load(path, ret, ret_error);
    (void)unlink(path);
    return err;
}

static void refused(const char *text, const char *because)
{
    struct hf_config c;
    char *error = NULL;

    assert_int_equal(load(text, &c, &error), -EINVAL);
    assert_non_null(error);
    if (!strstr(error, because)) {
        fail_msg("\"%s\" does not say \"%s\"", error, because);
    }
    free(error);
}

static void nodes_are_sorted_and_the_first_holds_the_metadata(void **state)
{
    struct hf_config c;
    char *error;

    (void)state;
    assert_int_equal(load(HEAD "copies = 2\n" NODES, &c, &error), 0);
    assert_int_equal(c.node_count, 2);
    assert_int_equal(c.nodes[0].id.v, 1);
    assert_true(c.nodes[0].metadata);
    assert_false(c.nodes[1].metadata);
    assert_string_equal(c.nodes[1].domain, "node-2");
    assert_int_equal(c.client.dirty_max_bytes, 128u << 20);
    assert_int_equal(c.node_timeout_ns, UINT64_C(3000000000));
}

#define NODE(id, more)                                                                             \
    "node \"" #id "\" { address = \"127.0.0.1" #id ":7400\" data = \"/n\" " more " }\n"
#define YES "metadata = true"
#define NO  "metadata = false"

static void metadata_is_on(const char *text, const char *want)
{
    const struct hf_config_node *nodes[HF_NODES_MAX];
    struct hf_config c;
    char *error, got[16] = "";
    uint32_t count;

    assert_int_equal(load(text, &c, &error), 0);
    count = hf_config_meta_nodes(&c, nodes);
    for (uint32_t i = 0; i < count; i++) {
        got[i] = (char)('0' + nodes[i]->id.v);
    }
    assert_string_equal(got, want);
}

static void metadata_is_on_the_nodes_that_say_so_else_on_three_or_one(void **state)
{
    (void)state;
    metadata_is_on(HEAD "copies = 2\n" NODES, "1");
    metadata_is_on(HEAD NODE(1, "") NODE(2, "") NODE(3, ""), "123");
    metadata_is_on(HEAD NODE(4, "") NODE(3, "") NODE(2, "") NODE(1, ""), "123");
    metadata_is_on(HEAD NODE(1, NO) NODE(2, "") NODE(3, "") NODE(4, ""), "234");
    metadata_is_on(HEAD NODE(1, NO) NODE(2, "") NODE(3, ""), "2");
    metadata_is_on(HEAD NODE(1, "") NODE(2, YES) NODE(3, ""), "2");
    metadata_is_on(HEAD NODE(1, YES) NODE(2, "") NODE(3, YES) NODE(4, YES), "134");
    metadata_is_on(HEAD NODE(1, YES) NODE(2, YES) NODE(3, YES) NODE(4, YES) NODE(5, YES), "12345");
}

static void even_and_too_many_metadata_nodes_are_refused_with_the_reason(void **state)
{
    (void)state;
    refused(HEAD NODE(1, YES) NODE(2, YES) NODE(3, ""), "no more failures than 1");
    refused(HEAD NODE(1, YES) NODE(2, YES) NODE(3, ""), "set it on 1, 3 or 5");
    refused(HEAD NODE(1, YES) NODE(2, YES) NODE(3, YES) NODE(4, YES), "no more failures than 3");
    refused(HEAD NODE(1, YES) NODE(2, YES) NODE(3, YES) NODE(4, YES) NODE(5, YES) NODE(6, YES),
            "more than 5");
    refused(HEAD "copies = 1\nmin_copies = 1\n" NODE(1, NO), "every node says metadata = false");
}

static void mistakes_are_named(void **state)
{
    (void)state;
    refused(HEAD "copies = 2\nno_such_key = 1\n" NODES, "no_such_key");
    refused(HEAD "copies = 2\nno_such_key = 1\n" NODES, ":3:");
    refused(HEAD NODES, "copies = 3 needs as many nodes");
    refused("copies = 2\n" NODES, "cluster must be");
    refused(HEAD "copies = 2\nmin_copies = 3\n" NODES, "min_copies = 3 is more");
    refused(HEAD "copies = 1\nmin_copies = 1\n", "no node");
    refused(HEAD "copies = 2\nnode_timeout = \"3 weeks\"\n" NODES, "node_timeout");
    refused(HEAD "copies = 2\nclient { dirty_max = \"lots\" }\n" NODES, "dirty_max");
    refused(HEAD "copies = 2\nclient { anonuid = 0 }\n" NODES,
            "anonuid = 0 is not a number from 1");
    refused(HEAD "copies = 2\nclient { anongid = 4294967295 }\n" NODES, "anongid");
    refused(HEAD "copies = 2\nclient { root_squash = \"perhaps\" }\n" NODES, "root_squash");
    refused(HEAD "copies = 2\nthis_node = 7\n" NODES, "this_node");
    refused(HEAD "copies = 1\nmin_copies = 1\nnode \"x\" { address = \"127.0.0.1:1\" }\n",
            "number from 1");
    refused(HEAD
            "copies = 1\nmin_copies = 1\nnode \"1\" { address = \"127.0.0.1:1\" data = \"d\" }\n",
            "absolute");
}

static void what_is_printed_loads_to_the_same(void **state)
{
    struct hf_config a, b;
    char *error, *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    (void)state;
    assert_non_null(out);
    assert_int_equal(load(HEAD "copies = 2\nthis_node = 2\n" NODES
                               "client { root_squash = true anonuid = 4294967294 anongid = 7 }\n"
                               "export { client = \"10.1.0.0/16\" }\n"
                               "export { client = \"*\" read_only = true root_squash = true "
                               "anonuid = 9 }\n",
                          &a, &error),
                     0);
    assert_true(a.client.root_squash);
    assert_int_equal(a.client.anon_uid, 4294967294);
    assert_int_equal(a.client.anon_gid, 7);
    hf_config_print(&a, out);
    (void)fclose(out);
    assert_int_equal(load(text, &b, &error), 0);
    memcpy(b.path, a.path, sizeof(a.path));
    assert_memory_equal(&a, &b, sizeof(a));
    free(text);
}

static void exported(const struct hf_config *c, const char *addr, const char *client)
{
    const struct hf_export *e = hf_export_find(c->exports, c->export_count, addr);

    assert_string_equal(e ? e->client : "none", client);
}

static void the_first_export_that_fits_counts(void **state)
{
    struct hf_config c;
    char *error;

    (void)state;
    assert_int_equal(load(HEAD "copies = 2\n" NODES "export { client = \"10.1.2.3\" }\n"
                               "export { client = \"10.1.0.0/17\" read_only = true }\n"
                               "export { client = \"2001:db8::/33\" root_squash = true }\n"
                               "export { client = \"10.0.0.0/8\" }\n",
                          &c, &error),
                     0);
    exported(&c, "10.1.2.3:99", "10.1.2.3");
    exported(&c, "10.1.127.4:99", "10.1.0.0/17");
    exported(&c, "10.1.128.4:99", "10.0.0.0/8");
    exported(&c, "[::ffff:10.1.2.4]:99", "10.1.0.0/17");
    exported(&c, "[2001:db8:7fff::1]:99", "2001:db8::/33");
    exported(&c, "[2001:db8:8000::1]:99", "none");
    exported(&c, "11.0.0.1:99", "none");
    exported(&c, "unix:/10.1.2.3:99", "none");
    exported(&c, "", "none");
    assert_true(c.exports[1].read_only && !c.exports[1].root_squash);
    assert_true(c.exports[2].root_squash && !c.exports[2].read_only);
    assert_int_equal(c.exports[2].anon_uid, 65534);
}

static void an_export_of_everything_fits_every_client(void **state)
{
    struct hf_config c;
    char *error;

    (void)state;
    assert_int_equal(load(HEAD "copies = 2\n" NODES "export { client = \"*\" }\n", &c, &error), 0);
    exported(&c, "10.1.2.3:99", "*");
    exported(&c, "[2001:db8::1]:99", "*");
    exported(&c, "unix:/x", "*");
}

static void what_is_no_network_is_no_export(void **state)
{
    static const char *const wrong[] = {
        "",           "10.0.0", "10.0.0.0/33",   "10.0.0.0/",   "10.0.0.0/x",
        "2001::/129", "host",   "10.0.0.1:7400", "10.0.0.0/-1", "10.0.0.0/8 "};

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct hf_export e = {0};

        assert_int_equal(hf_export_parse(wrong[i], &e), -EINVAL);
    }
    refused(HEAD "copies = 2\nexport { read_only = true }\n" NODES, "must be an address");
    refused(HEAD "copies = 2\nexport { client = \"*\" anonuid = 0 }\n" NODES, "anonuid");
}

static void sizes_and_times_have_units(void **state)
{
    uint64_t v;

    (void)state;
    assert_int_equal(hf_parse_size("64KiB", &v), 0);
    assert_int_equal(v, 65536);
    assert_int_equal(hf_parse_size("1G", &v), 0);
    assert_int_equal(v, 1u << 30);
    assert_int_equal(hf_parse_size("-1", &v), -EINVAL);
    assert_int_equal(hf_parse_size("1 lots", &v), -EINVAL);
    assert_int_equal(hf_parse_size("99999999999TiB", &v), -ERANGE);
    assert_int_equal(hf_parse_duration("250ms", &v), 0);
    assert_int_equal(v, 250000000);
    assert_int_equal(hf_parse_duration("2", &v), 0);
    assert_int_equal(v, 2000000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_are_sorted_and_the_first_holds_the_metadata),
        cmocka_unit_test(metadata_is_on_the_nodes_that_say_so_else_on_three_or_one),
        cmocka_unit_test(even_and_too_many_metadata_nodes_are_refused_with_the_reason),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(what_is_printed_loads_to_the_same),
        cmocka_unit_test(the_first_export_that_fits_counts),
        cmocka_unit_test(an_export_of_everything_fits_every_client),
        cmocka_unit_test(what_is_no_network_is_no_export),
        cmocka_unit_test(sizes_and_times_have_units),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
