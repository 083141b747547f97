/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fuse/mountinfo.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned octal(char digit)
{
    return (unsigned char)digit & 7u;
}

/* Octal escapes (space, tab, newline, backslash) back to bytes. */
static void unescape(char *text)
{
    char *out = text;

    for (const char *in = text; *in; in++) {
        if (in[0] == '\\' && in[1] && in[2] && in[3]) {
            *out++ = (char)(octal(in[1]) << 6 | octal(in[2]) << 3 | octal(in[3]));
            in += 3;
        } else {
            *out++ = *in;
        }
    }
    *out = '\0';
}

/* ID PARENT MAJOR:MINOR ROOT TOP OPTIONS [FIELD ...] - TYPE SOURCE OPTIONS */
static bool parse(const char *line, struct hf_mountinfo *ret)
{
    const char *tail = strstr(line, " - ");

    if (!tail ||
        sscanf(line, "%*d %*d %u:%u %*s %4095s", &ret->major, &ret->minor, ret->top) != 3 ||
        sscanf(tail, " - %63s %4095s", ret->type, ret->source) != 2) {
        return false;
    }
    unescape(ret->top);
    unescape(ret->source);
    return true;
}

/* The last one: by path, the uppermost. @path NULL: by device. A stream: /proc has no sizes. */
static int find(const char *path, unsigned major, unsigned minor, struct hf_mountinfo *ret)
{
    FILE *f = fopen("/proc/self/mountinfo", "re");
    struct hf_mountinfo at;
    char *line = NULL;
    size_t cap = 0;
    int err = f ? -ENOENT : -errno;

    while (f && getline(&line, &cap, f) > 0) {
        if (parse(line, &at) &&
            (path ? strcmp(at.top, path) == 0 : at.major == major && at.minor == minor)) {
            *ret = at;
            err = 0;
        }
    }
    free(line);
    if (f) {
        (void)fclose(f);
    }
    return err;
}

int hf_mountinfo_at(const char *path, struct hf_mountinfo *ret)
{
    return find(path, 0, 0, ret);
}

int hf_mountinfo_of(unsigned major, unsigned minor, struct hf_mountinfo *ret)
{
    return find(NULL, major, minor, ret);
}
