/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/faultdisk/nodes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/assert.h"

static struct hf_node **bucket_of(struct hf_nodes *nodes, uint64_t ino)
{
    return &nodes->bucket[ino % HF_NODES_BUCKETS];
}

static struct hf_node *node_new(struct hf_nodes *nodes, int fd, const struct stat *st)
{
    struct hf_node **bucket = bucket_of(nodes, st->st_ino);
    struct hf_node *node = calloc(1, sizeof(*node));

    HF_ASSERT(node != NULL);
    node->ino = st->st_ino;
    node->fd = fd;
    node->is_dir = S_ISDIR(st->st_mode);
    node->next = *bucket;
    *bucket = node;
    return node;
}

static void node_free(struct hf_node *node)
{
    hf_undo_fini(&node->bytes);
    (void)close(node->fd); /* nothing of it has to be durable here */
    free(node);
}

int hf_nodes_init(struct hf_nodes *nodes, int root_fd)
{
    struct stat st;

    *nodes = (struct hf_nodes){0};
    if (fstat(root_fd, &st) != 0) {
        return -errno;
    }
    nodes->root = node_new(nodes, root_fd, &st);
    return 0;
}

void hf_nodes_fini(struct hf_nodes *nodes)
{
    for (size_t i = 0; i < HF_NODES_BUCKETS; i++) {
        while (nodes->bucket[i]) {
            struct hf_node *node = nodes->bucket[i];

            nodes->bucket[i] = node->next;
            node_free(node);
        }
    }
    nodes->root = NULL;
}

int hf_nodes_find(struct hf_nodes *nodes, const struct hf_node *dir, const char *name,
                  struct hf_node **ret, struct stat *ret_st)
{
    int flags = O_CLOEXEC | O_NOFOLLOW;
    int fd;

    if (fstatat(dir->fd, name, ret_st, AT_SYMLINK_NOFOLLOW) != 0) {
        return -errno;
    }
    if (!S_ISREG(ret_st->st_mode) && !S_ISDIR(ret_st->st_mode)) {
        return -EOPNOTSUPP;
    }
    for (struct hf_node *node = *bucket_of(nodes, ret_st->st_ino); node; node = node->next) {
        if (node->ino == ret_st->st_ino) {
            *ret = node;
            return 0;
        }
    }
    flags |= S_ISDIR(ret_st->st_mode) ? O_RDONLY | O_DIRECTORY : O_RDWR;
    fd = openat(dir->fd, name, flags);
    if (fd < 0) {
        return -errno;
    }
    *ret = node_new(nodes, fd, ret_st);
    return 0;
}

static bool wanted(const struct hf_nodes *nodes, const struct hf_node *node)
{
    struct stat st;

    if (node == nodes->root || node->lookups > 0 || node->refs > 0) {
        return true;
    }
    if (node->is_dir) {
        return node->suspect;
    }
    return (node->bytes.first || node->bytes.stale_count > 0) && fstat(node->fd, &st) == 0 &&
           st.st_nlink > 0;
}

void hf_nodes_sweep(struct hf_nodes *nodes)
{
    for (size_t i = 0; i < HF_NODES_BUCKETS; i++) {
        struct hf_node **at = &nodes->bucket[i];

        while (*at) {
            struct hf_node *node = *at;

            if (wanted(nodes, node)) {
                at = &node->next;
            } else {
                *at = node->next;
                node_free(node);
            }
        }
    }
}

void hf_nodes_forget_all(struct hf_nodes *nodes)
{
    for (size_t i = 0; i < HF_NODES_BUCKETS; i++) {
        for (struct hf_node *node = nodes->bucket[i]; node; node = node->next) {
            node->lookups = 0;
        }
    }
    hf_nodes_sweep(nodes);
}

static ssize_t link_of(int fd, char ret[static PATH_MAX])
{
    char link[64];

    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    return readlink(link, ret, PATH_MAX);
}

void hf_nodes_path(const struct hf_nodes *nodes, const struct hf_node *node,
                   char ret[static PATH_MAX])
{
    char root[PATH_MAX], path[PATH_MAX];
    const ssize_t root_len = link_of(nodes->root->fd, root);
    const ssize_t len = link_of(node->fd, path);

    if (root_len < 0 || len < root_len || memcmp(path, root, (size_t)root_len) != 0) {
        (void)snprintf(ret, PATH_MAX, "?");
    } else {
        (void)snprintf(ret, PATH_MAX, "%.*s", (int)(len - root_len), path + root_len);
    }
}
