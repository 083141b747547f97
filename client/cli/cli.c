/* SPDX-License-Identifier: Apache-2.0 */
#include "client/cli/cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int cli_fail(const char *fmt, ...)
{
    va_list ap;

    (void)fputs("holdfast: ", stderr);
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    (void)fputc('\n', stderr);
    return CLI_FAILED;
}

int cli_misuse(const struct cli_args *args, const char *fmt, ...)
{
    va_list ap;

    (void)fputs("holdfast: ", stderr);
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    if (args && args->command) {
        (void)fprintf(stderr, "\nusage: holdfast %s %s\n", args->command->name,
                      args->command->usage);
    } else {
        (void)fputs("\n'holdfast help' lists the commands\n", stderr);
    }
    return CLI_MISUSED;
}

const char *cli_size(uint64_t bytes, char ret[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double v = (double)bytes;
    size_t unit = 0;

    while (v >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        v /= 1024;
        unit++;
    }
    (void)snprintf(ret, 32, unit && v < 100 ? "%.1f %s" : "%.0f %s", v, units[unit]);
    return ret;
}

int cli_option_index(const struct cli_command *command, const char *name, size_t name_len)
{
    for (int i = 0; i < CLI_OPTIONS_MAX && command->options[i].name; i++) {
        if (strlen(command->options[i].name) == name_len &&
            strncmp(command->options[i].name, name, name_len) == 0) {
            return i;
        }
    }
    return -1;
}

const char *cli_option(const struct cli_args *args, const char *name)
{
    int i = cli_option_index(args->command, name, strlen(name));

    return i < 0 ? NULL : args->values[i];
}

bool cli_flag(const struct cli_args *args, const char *name)
{
    return cli_option(args, name) != NULL;
}
