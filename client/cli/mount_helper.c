/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mount.holdfast - what mount(8) runs for `mount -t holdfast CONFIG DIR` and for fstab.
 */
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    char self[PATH_MAX], program[PATH_MAX + 64];
    const char *options = "";
    const char *source, *dir;
    ssize_t n;

    bool help = argc > 1 && strcmp(argv[1], "--help") == 0;

    if (argc < 3 || help) {
        (void)fputs("usage: mount.holdfast CONFIG MOUNTPOINT [-sfnv] [-o OPTIONS]\n"
                    "Run by 'mount -t holdfast CONFIG MOUNTPOINT'; see 'holdfast mount --help'.\n",
                    help ? stdout : stderr);
        return help ? 0 : 2;
    }
    source = argv[1];
    dir = argv[2];
    for (int i = 3; i < argc; i++) {
        if (strcmp(argv[i], "-o") == 0 && i + 1 < argc) {
            options = argv[++i];
        } else if (strchr(argv[i], 'f') && argv[i][0] == '-') {
            return 0; /* mount --fake */
        }
    }
    n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n > 0) {
        static const char *const places[] = {"holdfast", "../bin/holdfast", "../usr/bin/holdfast",
                                             "../client/holdfast"};

        self[n] = '\0';
        for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
            char copy[PATH_MAX];

            memcpy(copy, self, sizeof(copy));
            (void)snprintf(program, sizeof(program), "%s/%s", dirname(copy), places[i]);
            if (access(program, X_OK) == 0) {
                break;
            }
        }
    }
    if (n <= 0 || access(program, X_OK) != 0) {
        (void)snprintf(program, sizeof(program), "holdfast");
    }
    (void)execlp(program, "holdfast", "mount", "--config", source, dir, "-o", options,
                 (char *)NULL);
    (void)fprintf(stderr, "mount.holdfast: %s: %s\n", program, strerror(errno));
    return 32;
}
