/* SPDX-License-Identifier: Apache-2.0 */
/*
 * POSIX ACLs (acl(5); POSIX.1e draft 17, section 23) as system.posix_acl_access and
 * system.posix_acl_default (linux/posix_acl_xattr.h). In texts users and groups are 0 to 3.
 */
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "tests/posix/posix.h"

#define ACCESS  "system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"
#define ENTRIES 256u

/* Encoding */

static const struct {
    const char *prefix;
    uint16_t tag;
} tags[] = {{"u::", 1}, {"u:", 2}, {"g::", 4}, {"g:", 8}, {"m::", 16}, {"o::", 32}};

static void put(unsigned char *at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        at[i] = (unsigned char)(value >> 8 * i);
    }
}

static uint32_t get(const unsigned char *at, unsigned bytes)
{
    uint32_t value = 0;

    for (unsigned i = 0; i < bytes; i++) {
        value |= (uint32_t)at[i] << 8 * i;
    }
    return value;
}

static bool is_named(uint32_t tag)
{
    return tag == 2 || tag == 8;
}

/* "u::rw-,u:1:r--,g::r--,m::rw-,o::---"; returns the length. */
static size_t encode(const char *text, unsigned char *ret)
{
    size_t len = 4;

    put(ret, 2, 4);
    while (*text) {
        unsigned t = 0, perm = 0;
        uint32_t id = UINT32_MAX;

        while (strncmp(text, tags[t].prefix, strlen(tags[t].prefix)) != 0) {
            NEED(++t < sizeof(tags) / sizeof(tags[0]));
        }
        text += strlen(tags[t].prefix);
        if (is_named(tags[t].tag)) {
            id = px_uid((unsigned)(*text - '0'));
            text += 2;
        }
        perm = (text[0] == 'r' ? 4u : 0) | (text[1] == 'w' ? 2u : 0) | (text[2] == 'x' ? 1u : 0);
        text += text[3] == ',' ? 4 : 3;
        put(ret + len, tags[t].tag, 2);
        put(ret + len + 2, perm, 2);
        put(ret + len + 4, id, 4);
        len += 8;
    }
    return len;
}

static int set(const char *path, const char *which, const char *text)
{
    unsigned char bytes[4 + 8 * ENTRIES];

    return lsetxattr(path, which, bytes, encode(text, bytes), 0);
}

/* "": there is none; "?": errno. */
static const char *text_of(const char *path, const char *which)
{
    static char texts[4][2048];
    static unsigned next;
    unsigned char bytes[4 + 8 * ENTRIES];
    char *text = texts[next++ % 4];
    size_t used = 0;
    ssize_t len = lgetxattr(path, which, bytes, sizeof(bytes));

    if (len < 4 || get(bytes, 4) != 2) {
        return len < 0 && errno == ENODATA ? "" : "?";
    }
    for (ssize_t at = 4; at + 8 <= len; at += 8) {
        uint32_t tag = get(bytes + at, 2), perm = get(bytes + at + 2, 2), t = 0;

        while (t < 5 && tags[t].tag != tag) {
            t++;
        }
        used += (size_t)sprintf(text + used, "%s%s", at > 4 ? "," : "", tags[t].prefix);
        if (is_named(tag)) {
            used += (size_t)sprintf(text + used, "%u:", get(bytes + at + 4, 4) - px_uid(0));
        }
        used += (size_t)sprintf(text + used, "%c%c%c", perm & 4 ? 'r' : '-', perm & 2 ? 'w' : '-',
                                perm & 1 ? 'x' : '-');
    }
    return text;
}

static bool is(const char *path, const char *which, const char *text)
{
    const char *have = text_of(path, which);
    bool same = strcmp(have, text) == 0;

    if (!same) {
        printf("  %s has \"%s\", not \"%s\"\n", which, have, text);
    }
    return same;
}

static unsigned mode_of(const char *path)
{
    return px_stat(path).st_mode & 07777;
}

/* What is kept */

static const struct {
    const char *text;
    unsigned mode;
    bool mode_says_all;
} kept[] = {
    {"u::rwx,g::r-x,o::---", 0750, true},
    {"u::---,g::---,o::---", 0, true},
    {"u::rw-,g::r--,o::r--", 0644, true},
    {"u::rw-,u:1:rw-,g::r--,m::rw-,o::---", 0660, false},
    {"u::rw-,u:1:rwx,u:2:---,g::rwx,g:1:r-x,g:3:-w-,m::r--,o::--x", 0641, false},
    {"u::r--,g::rwx,g:2:rwx,m::---,o::rwx", 0407, false},
    {"u::rwx,g::rwx,m::r-x,o::r-x", 0755, false},
};

static void is_kept(void)
{
    for (int i = 0; i < px_type_count(); i++) {
        const char *name = px_type_name((enum px_type)i);

        if (i == PX_LINK) {
            continue;
        }
        NEED(px_make((enum px_type)i, "x", 0600) == 0);
        FAILS(lgetxattr("x", ACCESS, NULL, 0), ENODATA, "%s: has no ACL when it is made", name);
        for (size_t r = 0; r < sizeof(kept) / sizeof(kept[0]); r++) {
            struct stat before = px_stat("x");

            px_tick();
            OK(set("x", ACCESS, kept[r].text), "%s: set %s", name, kept[r].text);
            EQUAL(mode_of("x"), kept[r].mode, "%s: mode of %s", name, kept[r].text);
            CLAIM(is("x", ACCESS, kept[r].mode_says_all ? "" : kept[r].text),
                  "%s: what is there after %s", name, kept[r].text);
            CLAIM(px_stat("x").st_ctim.tv_sec > before.st_ctim.tv_sec ||
                      px_stat("x").st_ctim.tv_nsec != before.st_ctim.tv_nsec,
                  "%s: ctime moves on with %s", name, kept[r].text);
        }
        NEED(remove("x") == 0);
    }
}

static void removed(void)
{
    const char *text = "u::rw-,u:1:rw-,g::r--,m::rw-,o::---";
    unsigned char head[4];

    put(head, 2, 4);
    NEED(px_make(PX_REG, "f", 0600) == 0 && set("f", ACCESS, text) == 0);
    OK(removexattr("f", ACCESS), "an access ACL is removed");
    CLAIM(is("f", ACCESS, ""), "and is gone");
    EQUAL(mode_of("f"), 0660, "the mode is what it was: the mask is the group's");
    NEED(set("f", ACCESS, text) == 0);
    OK(setxattr("f", ACCESS, head, 4, 0), "an ACL without entries is set");
    CLAIM(is("f", ACCESS, ""), "which removes the one that was there");
    NEED(set("f", ACCESS, text) == 0 && set("f", ACCESS, "u::rw-,g::r--,o::---") == 0);
    CLAIM(is("f", ACCESS, ""), "one that a mode says replaces the one that was there");
    NEED(mkdir("d", 0755) == 0 && set("d", DEFAULT, text) == 0 && set("d", ACCESS, text) == 0);
    OK(removexattr("d", ACCESS), "a directory's access ACL is removed");
    CLAIM(is("d", DEFAULT, text), "its default ACL stays");
    OK(removexattr("d", DEFAULT), "a default ACL is removed");
    CLAIM(is("d", DEFAULT, ""), "and is gone, too");
}

static void removed_again(void)
{
    static const char *const paths[] = {"f", "d"}, *const names[] = {ACCESS, DEFAULT};
    unsigned char head[4];

    put(head, 2, 4);
    NEED(px_make(PX_REG, "f", 0640) == 0 && mkdir("d", 0750) == 0);
    for (int i = 0; i < 4; i++) {
        const char *path = paths[i / 2], *name = names[i % 2];

        OK(removexattr(path, name), "%s of %s is removed when there is none", name, path);
        OK(setxattr(path, name, head, 4, 0), "%s of %s is set to none when there is none", name,
           path);
    }
    EQUAL(mode_of("f"), 0640, "which leaves a file's mode");
    EQUAL(mode_of("d"), 0750, "and a directory's");
}

static void listed(void)
{
    const char *text = "u::rw-,u:1:rw-,g::r--,m::rw-,o::---";
    char list[256];

    NEED(mkdir("d", 0755) == 0 && listxattr("d", list, sizeof(list)) == 0);
    NEED(set("d", ACCESS, text) == 0 && set("d", DEFAULT, text) == 0);
    EQUAL(listxattr("d", list, sizeof(list)), sizeof(ACCESS) + sizeof(DEFAULT), "both are listed");
    FAILS(lgetxattr("d", ACCESS, list, 4), ERANGE, "an ACL into too little space");
    EQUAL(lgetxattr("d", ACCESS, NULL, 0), 4 + 5 * 8, "its length");
    EQUAL(lgetxattr("d", ACCESS, list, sizeof(list)), 4 + 5 * 8, "its bytes");
}

/* chmod and the ACL are one */

static void chmod_changes_it(void)
{
    const char *text = "u::rwx,u:1:rwx,g::rw-,g:2:r-x,m::rwx,o::r--";

    NEED(px_make(PX_REG, "f", 0600) == 0 && set("f", ACCESS, text) == 0);
    NEED(chmod("f", 0640) == 0);
    CLAIM(is("f", ACCESS, "u::rw-,u:1:rwx,g::rw-,g:2:r-x,m::r--,o::---"),
          "chmod 640 changes owner, mask and others");
    NEED(chmod("f", 0) == 0);
    CLAIM(is("f", ACCESS, "u::---,u:1:rwx,g::rw-,g:2:r-x,m::---,o::---"), "chmod 0 masks all");
    NEED(chmod("f", 06777) == 0);
    CLAIM(is("f", ACCESS, "u::rwx,u:1:rwx,g::rw-,g:2:r-x,m::rwx,o::rwx"), "chmod 6777 unmasks");
    EQUAL(mode_of("f"), 06777, "set-id bits are beside the ACL");
    NEED(set("f", ACCESS, text) == 0);
    EQUAL(mode_of("f"), 06774, "and stay when root sets one");
    NEED(rename("f", "g") == 0 && link("g", "h") == 0);
    CLAIM(is("h", ACCESS, text), "names come and go, the ACL stays");
    NEED(set("g", ACCESS, "u::rw-,g::rwx,m::r--,o::---") == 0 && chmod("g", 0770) == 0);
    CLAIM(is("g", ACCESS, "u::rwx,g::rwx,m::rwx,o::---"), "a mask without names is the mask, too");
}

/* Evaluation */

struct ask {
    const char *acl;
    const char *who;            /* user, group, supplementary groups: "1123" */
    const char *r, *w, *x, *rw; /* "y" or "n" */
};

/* The file is user 0's, its group is 0. */
static const struct ask asks[] = {
    {"u::r--,u:0:rwx,g::rwx,m::rwx,o::rwx", "00", "y", "n", "n", "n"},
    {"u::rwx,u:1:r--,g::---,m::---,o::---", "02", "y", "y", "y", "y"},
    {"u::---,u:1:rw-,g::---,m::rwx,o::---", "11", "y", "y", "n", "y"},
    {"u::---,u:1:rwx,g::---,m::r--,o::---", "11", "y", "n", "n", "n"},
    {"u::---,u:1:rwx,g::rwx,m::---,o::---", "11", "n", "n", "n", "n"},
    {"u::---,u:1:---,g::rwx,m::rwx,o::rwx", "10", "n", "n", "n", "n"},
    {"u::---,u:1:r--,g::rwx,m::rwx,o::rwx", "110", "y", "n", "n", "n"},
    {"u::---,u:1:---,g::---,m::rwx,o::rwx", "22", "y", "y", "y", "y"},
    {"u::---,u:2:rw-,u:3:--x,g::---,m::rwx,o::---", "33", "n", "n", "y", "n"},
    {"u::---,u:1:r--,g::rw-,m::rwx,o::rwx", "20", "y", "y", "n", "y"},
    {"u::---,u:1:r--,g::rw-,m::r-x,o::rwx", "20", "y", "n", "n", "n"},
    {"u::---,u:1:r--,g::---,m::rwx,o::rwx", "20", "n", "n", "n", "n"},
    {"u::---,g::---,g:2:rw-,m::rwx,o::---", "12", "y", "y", "n", "y"},
    {"u::---,g::---,g:2:rw-,m::rwx,o::---", "112", "y", "y", "n", "y"},
    {"u::---,g::---,g:2:rw-,m::-w-,o::r-x", "12", "n", "y", "n", "n"},
    {"u::---,g::rwx,g:2:---,m::rwx,o::rwx", "12", "n", "n", "n", "n"},
    {"u::---,g::---,g:2:r--,g:3:-w-,m::rwx,o::rwx", "1223", "y", "y", "n", "n"},
    {"u::---,g::r--,g:2:-w-,m::rwx,o::--x", "202", "y", "y", "n", "n"},
    {"u::---,g::---,g:2:rw-,g:3:---,m::rwx,o::---", "132", "y", "y", "n", "y"},
    {"u::---,g::---,g:2:rwx,g:3:---,m::rwx,o::---", "13", "n", "n", "n", "n"},
    {"u::---,g::---,g:2:rwx,m::---,o::rw-", "11", "y", "y", "n", "y"},
    {"u::---,g::r-x,m::--x,o::---", "10", "n", "n", "y", "n"},
    {"u::---,g::---,m::rwx,o::r--", "11", "y", "n", "n", "n"},
};

static void answer(const struct ask *ask, int mode, const char *what, const char *may)
{
    GIVES(access("x", mode), may[0] == 'y' ? 0 : EACCES, "%s asked for %s by %s", ask->acl, what,
          ask->who);
}

static int ask_as(void *arg)
{
    const struct ask *ask = arg;
    gid_t groups[4] = {0}, gid = px_uid((unsigned)(ask->who[1] - '0'));
    uid_t uid = px_uid((unsigned)(ask->who[0] - '0'));
    size_t count = strlen(ask->who + 2);
    int fd;

    for (size_t i = 0; i < count; i++) {
        groups[i] = px_uid((unsigned)(ask->who[2 + i] - '0'));
    }
    NEED(setgroups(count, groups) == 0 && setresgid(gid, gid, gid) == 0);
    NEED(setresuid(uid, uid, uid) == 0);
    answer(ask, R_OK, "r", ask->r);
    answer(ask, W_OK, "w", ask->w);
    answer(ask, X_OK, "x", ask->x);
    answer(ask, R_OK | W_OK, "rw", ask->rw);
    fd = open("x", O_RDWR);
    GIVES(fd, ask->rw[0] == 'y' ? 0 : EACCES, "%s opened by %s", ask->acl, ask->who);
    (void)close(fd);
    fflush(stdout);
    return 0;
}

static void evaluated(void)
{
    for (size_t i = 0; i < sizeof(asks) / sizeof(asks[0]); i++) {
        struct ask ask = asks[i];

        NEED(px_write_file("x", "abc", 3) == 0 && chown("x", px_uid(0), px_uid(0)) == 0);
        NEED(set("x", ACCESS, ask.acl) == 0);
        NEED(px_child(ask_as, &ask) == 0);
        NEED(unlink("x") == 0);
    }
    NEED(px_write_file("x", "abc", 3) == 0);
    NEED(set("x", ACCESS, "u::---,u:1:---,g::---,m::---,o::---") == 0);
    OK(access("x", R_OK | W_OK), "root reads and writes whatever an ACL says");
    FAILS(access("x", X_OK), EACCES, "root does not execute what nobody may");
}

static void of_directories(void)
{
    NEED(mkdir("d", 0700) == 0 && px_write_file("d/f", "abc", 3) == 0);
    NEED(set("d", ACCESS, "u::rwx,u:1:--x,u:2:-wx,g::---,g:3:r--,m::rwx,o::---") == 0);
    px_become_user(1);
    CLAIM(px_exists("d/f"), "a named user searches");
    FAILS(open("d", O_RDONLY), EACCES, "and does not list");
    FAILS(mkdir("d/1", 0755), EACCES, "nor make");
    px_become_user(2);
    OK(mkdir("d/2", 0755), "another makes");
    OK(rmdir("d/2"), "and removes");
    px_become_user(3);
    EQUAL(px_count("d"), 1, "a named group lists");
    CLAIM(!px_exists("d/f"), "and does not search");
    px_become_root();
    NEED(chmod("d", 0700) == 0);
    px_become_user(1);
    CLAIM(!px_exists("d/f"), "chmod 700 takes it from all of them");
    px_become_root();
}

/* Default ACLs */

struct inherit {
    const char *text; /* the default ACL */
    unsigned mode;    /* asked for */
    unsigned has;     /* the new one's mode */
    const char *acl;  /* and its access ACL */
};

static const struct inherit inherits[] = {
    {"u::rwx,g::r-x,o::---", 0777, 0750, ""},
    {"u::rwx,g::rwx,o::rwx", 0777, 0777, ""},
    {"u::rw-,g::r--,o::---", 0666, 0640, ""},
    {"u::rwx,g::rwx,o::rwx", 0640, 0640, ""},
    {"u::rwx,u:1:rwx,g::r-x,m::rwx,o::---", 0777, 0770, "u::rwx,u:1:rwx,g::r-x,m::rwx,o::---"},
    {"u::rwx,u:1:rwx,g::r-x,m::rwx,o::---", 0666, 0660, "u::rw-,u:1:rwx,g::r-x,m::rw-,o::---"},
    {"u::rwx,u:1:rwx,g::r-x,m::rwx,o::---", 0600, 0600, "u::rw-,u:1:rwx,g::r-x,m::---,o::---"},
    {"u::r-x,g::rwx,g:2:rwx,m::r--,o::rwx", 0777, 0547, "u::r-x,g::rwx,g:2:rwx,m::r--,o::rwx"},
    {"u::rwx,g::rwx,m::r-x,o::r-x", 0757, 0755, "u::rwx,g::rwx,m::r-x,o::r-x"},
    {"u::rwx,u:1:rwx,g::rwx,m::rwx,o::rwx", 0, 0, "u::---,u:1:rwx,g::rwx,m::---,o::---"},
};

static void inherited(void)
{
    static const enum px_type some[] = {PX_REG, PX_DIR, PX_FIFO, PX_SOCK};

    (void)umask(077); /* of no account where there is a default ACL */
    for (size_t i = 0; i < sizeof(inherits) / sizeof(inherits[0]); i++) {
        const struct inherit *row = &inherits[i];

        NEED(mkdir("d", 0755) == 0);
        OK(set("d", DEFAULT, row->text), "default %s (for %03o)", row->text, row->mode);
        EQUAL(mode_of("d"), 0700, "default %s (for %03o): the directory's mode stays", row->text,
              row->mode);
        CLAIM(is("d", ACCESS, ""), "default %s (for %03o): it has no access ACL", row->text,
              row->mode);
        for (size_t t = 0; t < sizeof(some) / sizeof(some[0]); t++) {
            const char *name = px_type_name(some[t]);

            NEED(px_make(some[t], "d/x", row->mode) == 0);
            EQUAL(mode_of("d/x"), row->has, "default %s: mode of a %s made with %03o", row->text,
                  name, row->mode);
            CLAIM(is("d/x", ACCESS, row->acl), "default %s: ACL of a %s made with %03o", row->text,
                  name, row->mode);
            CLAIM(is("d/x", DEFAULT, some[t] == PX_DIR ? row->text : ""),
                  "default %s: default ACL of a %s made with %03o", row->text, name, row->mode);
            NEED(remove("d/x") == 0);
        }
        NEED(symlink("f", "d/l") == 0);
        EQUAL(mode_of("d/l"), 0777, "default %s (for %03o): a link's mode", row->text, row->mode);
        NEED(unlink("d/l") == 0 && rmdir("d") == 0);
    }
}

static void inherited_further(void)
{
    const char *text = "u::rwx,u:1:rwx,g::r-x,m::rwx,o::---";

    NEED(mkdir("d", 0755) == 0 && mkdir("d/old", 0755) == 0 && set("d", DEFAULT, text) == 0);
    NEED(mkdir("d/a", 0777) == 0 && mkdir("d/a/b", 0777) == 0 && px_make(PX_REG, "m", 0644) == 0);
    NEED(px_make(PX_REG, "d/a/b/f", 0666) == 0);
    CLAIM(is("d/a/b/f", ACCESS, "u::rw-,u:1:rwx,g::r-x,m::rw-,o::---"),
          "a file two directories down has it");
    CLAIM(is("d/a/b", DEFAULT, text), "and the directory between");
    CLAIM(is("d/old", ACCESS, "") && is("d/old", DEFAULT, ""), "what was there before has none");
    NEED(rename("m", "d/m") == 0);
    CLAIM(is("d/m", ACCESS, ""), "nor has what moves in");
    NEED(rename("d/a/b/f", "f") == 0);
    CLAIM(is("f", ACCESS, "u::rw-,u:1:rwx,g::r-x,m::rw-,o::---"), "what moves out keeps it");
    NEED(chmod("d", 0700) == 0);
    CLAIM(is("d", DEFAULT, text), "chmod leaves a default ACL");
    NEED(removexattr("d", DEFAULT) == 0 && px_make(PX_REG, "d/plain", 0666) == 0);
    EQUAL(mode_of("d/plain"), 0644, "without it the umask counts again");
    NEED(px_make(PX_REG, "d/a/g", 0666) == 0);
    EQUAL(mode_of("d/a/g"), 0660, "while directories made before have theirs");
}

/* What is refused */

struct bad {
    const char *what;
    unsigned char bytes[64];
    size_t len;
    int error;
};

#define E(tag, perm)     tag, 0, perm, 0, 0xff, 0xff, 0xff, 0xff
#define N(tag, perm, id) tag, 0, perm, 0, id, 0, 0, 0
#define VERSION(n)       n, 0, 0, 0

static const struct bad bads[] = {
    {"version 1", {VERSION(1), E(1, 7), E(4, 7), E(32, 7)}, 28, EOPNOTSUPP},
    {"version 3", {VERSION(3), E(1, 7), E(4, 7), E(32, 7)}, 28, EOPNOTSUPP},
    {"three bytes", {2, 0, 0}, 3, EINVAL},
    {"half an entry", {VERSION(2), E(1, 7), E(4, 7), E(32, 7)}, 24, EINVAL},
    {"an unknown tag", {VERSION(2), E(1, 7), E(4, 7), E(64, 7)}, 28, EINVAL},
    {"tag 0", {VERSION(2), E(0, 7), E(4, 7), E(32, 7)}, 28, EINVAL},
    {"no owner", {VERSION(2), E(4, 7), E(32, 7)}, 20, EINVAL},
    {"no group", {VERSION(2), E(1, 7), E(32, 7)}, 20, EINVAL},
    {"no others", {VERSION(2), E(1, 7), E(4, 7)}, 20, EINVAL},
    {"two owners", {VERSION(2), E(1, 7), E(1, 7), E(4, 7), E(32, 7)}, 36, EINVAL},
    {"two groups", {VERSION(2), E(1, 7), E(4, 7), E(4, 7), E(32, 7)}, 36, EINVAL},
    {"two others", {VERSION(2), E(1, 7), E(4, 7), E(32, 7), E(32, 7)}, 36, EINVAL},
    {"two masks", {VERSION(2), E(1, 7), E(4, 7), E(16, 7), E(16, 7), E(32, 7)}, 44, EINVAL},
    {"a user without a mask", {VERSION(2), E(1, 7), N(2, 7, 9), E(4, 7), E(32, 7)}, 36, EINVAL},
    {"a group without a mask", {VERSION(2), E(1, 7), E(4, 7), N(8, 7, 9), E(32, 7)}, 36, EINVAL},
    {"others first", {VERSION(2), E(32, 7), E(1, 7), E(4, 7)}, 28, EINVAL},
    {"a user behind the group",
     {VERSION(2), E(1, 7), E(4, 7), N(2, 7, 9), E(16, 7), E(32, 7)},
     44,
     EINVAL},
    {"a right that is none", {VERSION(2), E(1, 8), E(4, 7), E(32, 7)}, 28, EINVAL},
    {"a user who is nobody",
     {VERSION(2), E(1, 7), E(2, 7), E(4, 7), E(16, 7), E(32, 7)},
     44,
     EINVAL},
};

static void refused(void)
{
    const char *text = "u::rw-,u:1:rw-,g::r--,m::rw-,o::---";

    NEED(mkdir("d", 0755) == 0 && set("d", ACCESS, text) == 0 && set("d", DEFAULT, text) == 0);
    for (size_t i = 0; i < sizeof(bads) / sizeof(bads[0]); i++) {
        FAILS(setxattr("d", ACCESS, bads[i].bytes, bads[i].len, 0), bads[i].error, "access: %s",
              bads[i].what);
        FAILS(setxattr("d", DEFAULT, bads[i].bytes, bads[i].len, 0), bads[i].error, "default: %s",
              bads[i].what);
    }
    CLAIM(is("d", ACCESS, text) && is("d", DEFAULT, text), "after which both are as they were");
    EQUAL(mode_of("d"), 0660, "and the mode is");
}

static void of_types(void)
{
    const char *text = "u::rw-,u:1:rw-,g::r--,m::rw-,o::---";

    for (int i = 0; i < px_type_count(); i++) {
        const char *name = px_type_name((enum px_type)i);

        NEED(px_make((enum px_type)i, "x", 0600) == 0);
        if (i == PX_LINK) {
            FAILS(set("x", ACCESS, text), EOPNOTSUPP, "an access ACL of a link");
            FAILS(set("x", DEFAULT, text), EOPNOTSUPP, "a default ACL of a link");
            FAILS(lgetxattr("x", ACCESS, NULL, 0), EOPNOTSUPP, "a link's ACL is asked for");
        } else if (i != PX_DIR) {
            FAILS(set("x", DEFAULT, text), EACCES, "a default ACL of a %s", name);
            FAILS(lgetxattr("x", DEFAULT, NULL, 0), ENODATA, "a %s's default ACL is asked for",
                  name);
        }
        NEED(remove("x") == 0);
    }
}

static void who_may(void)
{
    const char *text = "u::rw-,u:1:rwx,g::rwx,m::rwx,o::rwx";
    char bytes[64];

    NEED(mkdir("d", 0700) == 0 && set("d", ACCESS, text) == 0 && set("d", DEFAULT, text) == 0);
    NEED(chown("d", px_uid(0), px_uid(2)) == 0);
    CLAIM(is("d", ACCESS, text), "chown leaves the ACL");
    for (unsigned user = 0; user < 3; user++) {
        static const char *const who[] = {"the owner", "a named user", "a member of the group"};
        int error = user == 0 ? 0 : EPERM;

        px_become_user(user);
        GIVES(set("d", ACCESS, text), error, "access ACL set by %s", who[user]);
        GIVES(set("d", DEFAULT, text), error, "default ACL set by %s", who[user]);
        GIVES(removexattr("d", DEFAULT), error, "default ACL removed by %s", who[user]);
        OK(getxattr("d", ACCESS, bytes, sizeof(bytes)), "access ACL read by %s", who[user]);
        px_become_root();
        NEED(set("d", DEFAULT, text) == 0);
    }
    NEED(px_make(PX_REG, "f", 0) == 0 &&
         set("f", ACCESS, "u::---,u:1:---,g::---,m::---,o::---") == 0);
    px_become_user(3);
    OK(getxattr("f", ACCESS, bytes, sizeof(bytes)), "an ACL is read without the right to read");
    px_become_root();
    NEED(chown("f", px_uid(0), px_uid(2)) == 0 && chmod("f", 02755) == 0);
    px_become_user(0);
    NEED(set("f", ACCESS, text) == 0);
    EQUAL(mode_of("f"), 0677, "an owner who is not in the group loses S_ISGID with an ACL");
    px_become_root();
    NEED(chmod("f", 02755) == 0);
    px_become(px_uid(0), px_uid(2), NULL, 0);
    NEED(set("f", ACCESS, text) == 0);
    EQUAL(mode_of("f"), 02677, "one who is in the group keeps it");
    px_become_root();
}

static void many_names(void)
{
    unsigned char bytes[4 + 8 * ENTRIES], back[4 + 8 * ENTRIES];
    size_t len = encode("u::rwx", bytes);

    NEED(px_write_file("f", "abc", 3) == 0);
    for (unsigned i = 0; i < 200; i++, len += 8) {
        put(bytes + len, 2, 2);
        put(bytes + len + 2, i == 199 ? 4 : 0, 2);
        put(bytes + len + 4, i == 199 ? px_uid(1) : 1000 + i, 4);
    }
    len += encode("g::---,m::rwx,o::---", back) - 4;
    memcpy(bytes + len - 24, back + 4, 24);
    OK(setxattr("f", ACCESS, bytes, len, 0), "200 named users");
    CLAIM(getxattr("f", ACCESS, back, sizeof(back)) == (ssize_t)len &&
              memcmp(bytes, back, len) == 0,
          "come back as they were");
    px_become_user(1);
    OK(close(open("f", O_RDONLY)), "the last of them reads");
    px_become_user(2);
    FAILS(open("f", O_RDONLY), EACCES, "one who is none of them does not");
    px_become_root();
}

/* Two mounts */

static void elsewhere(void)
{
    const char *text = "u::rwx,u:1:rwx,g::r-x,m::rwx,o::---";

    NEED(px_write_file("f", "abc", 3) == 0 && chmod("f", 0600) == 0 && mkdir("d", 0755) == 0);
    px_become_user(1);
    FAILS(open(px_other("f"), O_RDONLY), EACCES, "before there is an ACL it is not read there");
    px_become_root();
    NEED(set("f", ACCESS, text) == 0);
    CLAIM(is(px_other("f"), ACCESS, text), "an ACL set here is there");
    px_become_user(1);
    OK(close(open(px_other("f"), O_RDWR)), "and is obeyed there");
    px_become_root();
    NEED(chmod(px_other("f"), 0740) == 0);
    CLAIM(is("f", ACCESS, "u::rwx,u:1:rwx,g::r-x,m::r--,o::---"), "chmod there is seen here");
    px_become_user(1);
    FAILS(open("f", O_RDWR), EACCES, "and is obeyed here");
    px_become_root();
    NEED(set(px_other("d"), DEFAULT, text) == 0 && px_make(PX_REG, "d/x", 0666) == 0);
    CLAIM(is("d/x", ACCESS, "u::rw-,u:1:rwx,g::r-x,m::rw-,o::---"),
          "a default ACL set there is inherited here");
    NEED(removexattr("f", ACCESS) == 0);
    CLAIM(is(px_other("f"), ACCESS, ""), "an ACL removed here is gone there");
}

const struct px_group px_acl[] = {
    {"is-kept", is_kept, 0},
    {"removed", removed, 0},
    {"removed-again", removed_again, 0},
    {"listed", listed, 0},
    {"chmod-changes-it", chmod_changes_it, 0},
    {"evaluated", evaluated, PX_ROOT},
    {"of-directories", of_directories, PX_ROOT},
    {"inherited", inherited, 0},
    {"inherited-further", inherited_further, 0},
    {"refused", refused, 0},
    {"of-types", of_types, 0},
    {"who-may", who_may, PX_ROOT},
    {"many-names", many_names, PX_ROOT},
    {"elsewhere", elsewhere, PX_ROOT | PX_TWO},
    {NULL, NULL, 0},
};
