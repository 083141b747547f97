/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli.h - the holdfast command: one table drives dispatch, help and completion.
 *
 * Data goes to stdout, talk to stderr. Exit status: 0 done, 1 failed, 2 misused. An error says what
 * failed, on what, and the next step.
 */
#ifndef HF_CLI_CLI_H
#define HF_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CLI_OPTIONS_MAX 12
#define CLI_DONE        0
#define CLI_FAILED      1
#define CLI_MISUSED     2

struct cli_option {
    const char *name;    /* without the dashes; one letter: "-o" */
    const char *metavar; /* NULL: a switch */
    const char *help;
};

struct cli_args {
    const struct cli_command *command;
    const char *values[CLI_OPTIONS_MAX]; /* by index of the command's options; "" for a switch */
    char **rest;                         /* what is not an option */
    int rest_count;
};

struct cli_command {
    const char *name; /* "status", or two words: "dev up" */
    const char *usage;
    const char *summary; /* one line */
    const char *help;    /* more, or NULL */
    int rest_min, rest_max;
    int (*run)(const struct cli_args *args);
    struct cli_option options[CLI_OPTIONS_MAX];
};

extern const struct cli_command cli_commands[];
extern const size_t cli_command_count;

/** Where the command's option is in options[] and values[]; -1: it has no such option. */
int cli_option_index(const struct cli_command *command, const char *name, size_t name_len);
/** Value of an option, "" for a switch that was given, NULL when it was not. */
const char *cli_option(const struct cli_args *args, const char *name);
bool cli_flag(const struct cli_args *args, const char *name);
/** "holdfast: WHAT" on stderr; returns CLI_FAILED. */
int cli_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/** The same for misuse; returns CLI_MISUSED. */
int cli_misuse(const struct cli_args *args, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/** "1.5 GiB" Returns @ret. */
const char *cli_size(uint64_t bytes, char ret[32]);

int cmd_help(const struct cli_args *args);
int cmd_completion(const struct cli_args *args);
int cmd_config_check(const struct cli_args *args);
int cmd_dev_up(const struct cli_args *args);
int cmd_dev_down(const struct cli_args *args);
int cmd_dev_status(const struct cli_args *args);
int cmd_dev_signal(const struct cli_args *args); /* dev kill, stop, cont */
int cmd_dev_start(const struct cli_args *args);
int cmd_mount(const struct cli_args *args);
int cmd_umount(const struct cli_args *args);
int cmd_status(const struct cli_args *args);
int cmd_info(const struct cli_args *args);
int cmd_verify(const struct cli_args *args);
int cmd_dirty(const struct cli_args *args);
int cmd_flush(const struct cli_args *args);
int cmd_fsck(const struct cli_args *args);
int cmd_set(const struct cli_args *args);
int cmd_node_ls(const struct cli_args *args);
int cmd_meta_status(const struct cli_args *args);
int cmd_meta_transfer(const struct cli_args *args);
int cmd_meta_add_voter(const struct cli_args *args);
int cmd_meta_remove_voter(const struct cli_args *args);

#endif
