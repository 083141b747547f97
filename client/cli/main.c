/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "client/cli/cli.h"
#include "common/log/log.h"

#define OPT_CONFIG                                                                                 \
    {                                                                                              \
        "config", "FILE",                                                                          \
            "the cluster's configuration; default: found from the mount, else "                    \
            "$HOLDFAST_CONFIG, else the file below /etc/holdfast"                                  \
    }
#define OPT_JSON                                                                                   \
    {                                                                                              \
        "json", NULL, "for machines"                                                               \
    }
#define OPT_DIR                                                                                    \
    {                                                                                              \
        "dir", "DIR", "the development cluster's directory"                                        \
    }

const struct cli_command cli_commands[] = {
    {"status",
     "[--config FILE] [--node N] [--json]",
     "health of the cluster at a glance",
     "Nodes, metadata, copies that are missing, sessions, space; every warning names its remedy.\n"
     "Exit status 0: answered, whatever the health; 1: the cluster could not be reached.\n"
     "With --node, that node alone is asked whether it serves: for health checks.",
     0,
     1,
     cmd_status,
     {OPT_CONFIG, {"node", "N", "only this node, about itself"}, OPT_JSON}},
    {"mount",
     "--config FILE MOUNTPOINT [-o OPTIONS] [--foreground]",
     "mount the cluster's namespace",
     "OPTIONS, separated by commas: ro, allow_other (default for root), noallow_other,\n"
     "dirty_max=SIZE, dirty_target=SIZE, dirty_max_age=TIME, cache=SIZE, readahead=SIZE,\n"
     "op_timeout=TIME, cpu=N, nosuid/suid, nodev/dev (nosuid,nodev is the default),\n"
     "noexec, noatime, nodiratime, relatime, lazytime (it is noatime in any case),\n"
     "default_permissions (it is so in any case),\n"
     "root_squash/no_root_squash, anonuid=N, anongid=N: root is an ordinary user there, "
     "65534:65534\n"
     "if not said. What is not given is as in the cluster's file, section client.\n"
     "Returns when the mount is ready; with --foreground, when it is unmounted.",
     1,
     1,
     cmd_mount,
     {OPT_CONFIG,
      {"o", "OPTIONS", "mount options"},
      {"foreground", NULL, "stay, log to stderr"},
      {"log", "FILE", "where the mount logs (default: /var/log/holdfast/mount-NAME.log)"}}},
    {"umount",
     "MOUNTPOINT [--lazy]",
     "unmount; waits until everything written is durable",
     "--lazy detaches at once; what is dirty is still written by the mount's process.",
     1,
     1,
     cmd_umount,
     {{"lazy", NULL, "detach now, flush behind"}}},
    {"info",
     "PATH [--config FILE] [--json]",
     "where a file's bytes lie",
     "Extents, objects, placement groups, the nodes that hold each object, checksums.",
     1,
     1,
     cmd_info,
     {OPT_CONFIG, OPT_JSON}},
    {"verify",
     "PATH [--config FILE] [--json]",
     "read every replica of every object of a file or tree and check it",
     "Each store re-reads its own copies from the disk. Exit status 1 when a copy is bad or\n"
     "missing; bad ones are set aside and replaced by themselves.",
     1,
     1,
     cmd_verify,
     {OPT_CONFIG, OPT_JSON}},
    {"dirty",
     "[PATH] [--json]",
     "what was written and is not yet durable",
     "Without PATH: every mount of this machine. A file: that file only.",
     0,
     1,
     cmd_dirty,
     {OPT_CONFIG, OPT_JSON}},
    {"flush",
     "[--wait] PATH",
     "write back a file's, or a whole mount's, dirty bytes",
     "PATH: a file, or the mount's top for all of it.",
     1,
     1,
     cmd_flush,
     {OPT_CONFIG, {"wait", NULL, "return when they are durable"}}},
    {"set",
     "PATH KEY=VALUE",
     "change a limit of a live mount",
     "KEY: dirty_max, dirty_target, dirty_max_age. PATH: anything in the mount.",
     2,
     2,
     cmd_set,
     {OPT_CONFIG}},
    {"fsck",
     "[--config FILE] [--json]",
     "recount the metadata on the node that holds it",
     NULL,
     0,
     0,
     cmd_fsck,
     {OPT_CONFIG, OPT_JSON}},
    {"node ls",
     "[--config FILE] [--json]",
     "the nodes: state, part in the metadata, space",
     "metadata: leader, voter, learner (it catches up, and does not vote yet), - (it holds none).\n"
     "lacking: copies that are to be made on the node. heard: since its last heartbeat.",
     0,
     0,
     cmd_node_ls,
     {OPT_CONFIG, OPT_JSON}},
    {"meta status",
     "[--config FILE] [--node N] [--json]",
     "who holds the metadata, who leads, how far each is",
     "Asks every metadata node about itself, so it tells something without a leader, too.\n"
     "match: the last entry of the log that a node is known to have; lag: entries behind the\n"
     "leader. Exit status 1: no node leads.",
     0,
     0,
     cmd_meta_status,
     {OPT_CONFIG, {"node", "N", "only this node, about itself"}, OPT_JSON}},
    {"meta transfer",
     "[NODE] [--config FILE]",
     "hand the lead to another voter, without a pause",
     "Without NODE, to the one that is furthest. As before a planned restart of the leader.",
     0,
     1,
     cmd_meta_transfer,
     {OPT_CONFIG}},
    {"meta add-voter",
     "NODE [--config FILE]",
     "have a node hold the metadata and vote",
     "The node must run with the cluster's file. It is sent the metadata while the cluster "
     "serves,\n"
     "and votes once it has caught up; an interrupted command leaves it to go on.\n"
     "Use 3 or 5 voters: an even number survives no more failures than one less.",
     1,
     1,
     cmd_meta_add_voter,
     {OPT_CONFIG}},
    {"meta remove-voter",
     "NODE [--config FILE]",
     "have a node hold the metadata no longer",
     "Refused where the voters that are left, and up, would be no majority.",
     1,
     1,
     cmd_meta_remove_voter,
     {OPT_CONFIG}},
    {"config check",
     "FILE",
     "check a configuration and show every value in force",
     NULL,
     1,
     1,
     cmd_config_check,
     {{NULL, NULL, NULL}}},
    {"dev up",
     "--dir DIR [--nodes 3] [--metadata 3] [--loopback 127.0.0.11]",
     "start a cluster on this machine below DIR",
     "Writes DIR/cluster.conf; node N has DIR/nN (data), DIR/nN.log, DIR/nN.pid. Nodes that run\n"
     "already are left alone.",
     0,
     0,
     cmd_dev_up,
     {OPT_DIR,
      {"nodes", "N", "how many (default 3)"},
      {"metadata", "N",
       "how many of them hold the metadata: 1, 3 or 5 (default 3 where there are)"},
      {"loopback", "ADDRESS", "of the first node; the others follow it (default 127.0.0.11)"},
      {"port", "PORT", "of every node (default 7400)"}}},
    {"dev down", "--dir DIR", "stop that cluster's nodes", NULL, 0, 0, cmd_dev_down, {OPT_DIR}},
    {"dev status",
     "--dir DIR [--json]",
     "which of its nodes run",
     NULL,
     0,
     0,
     cmd_dev_status,
     {OPT_DIR, OPT_JSON}},
    {"dev kill", "NODE --dir DIR", "SIGKILL a node", NULL, 1, 1, cmd_dev_signal, {OPT_DIR}},
    {"dev stop", "NODE --dir DIR", "SIGSTOP a node", NULL, 1, 1, cmd_dev_signal, {OPT_DIR}},
    {"dev cont", "NODE --dir DIR", "SIGCONT a node", NULL, 1, 1, cmd_dev_signal, {OPT_DIR}},
    {"dev start", "NODE --dir DIR", "start a node again", NULL, 1, 1, cmd_dev_start, {OPT_DIR}},
    {"completion",
     "bash",
     "print the shell's completion script",
     NULL,
     1,
     1,
     cmd_completion,
     {{NULL, NULL, NULL}}},
    {"help",
     "[COMMAND]",
     "this list, or one command's help",
     NULL,
     0,
     2,
     cmd_help,
     {{NULL, NULL, NULL}}},
};

const size_t cli_command_count = sizeof(cli_commands) / sizeof(cli_commands[0]);

static void print_help(const struct cli_command *c, FILE *out)
{
    (void)fprintf(out, "usage: holdfast %s %s\n\n%s\n", c->name, c->usage, c->summary);
    if (c->help) {
        (void)fprintf(out, "\n%s\n", c->help);
    }
    (void)fputc('\n', out);
    for (int i = 0; i < CLI_OPTIONS_MAX && c->options[i].name; i++) {
        char left[64];

        (void)snprintf(left, sizeof(left), "%s%s%s%s", c->options[i].name[1] ? "--" : "-",
                       c->options[i].name, c->options[i].metavar ? " " : "",
                       c->options[i].metavar ? c->options[i].metavar : "");
        (void)fprintf(out, "  %-20s %s\n", left, c->options[i].help);
    }
    (void)fprintf(out, "  %-20s %s\n", "--help", "this text");
}

static void print_commands(FILE *out)
{
    (void)fputs("usage: holdfast COMMAND [OPTIONS]\n\n", out);
    for (size_t i = 0; i < cli_command_count; i++) {
        (void)fprintf(out, "  %-18s %s\n", cli_commands[i].name, cli_commands[i].summary);
    }
    (void)fputs(
        "\n'holdfast COMMAND --help' tells more. Exit status: 0 done, 1 failed, 2 misused.\n", out);
}

/* The longest match: two words before one. *ret_words tells how many were taken. */
static const struct cli_command *find_command(int argc, char **argv, int *ret_words)
{
    for (int words = 2; words >= 1; words--) {
        char name[64];

        if (argc < words) {
            continue;
        }
        (void)snprintf(name, sizeof(name), "%s%s%s", argv[0], words == 2 ? " " : "",
                       words == 2 ? argv[1] : "");
        for (size_t i = 0; i < cli_command_count; i++) {
            if (strcmp(cli_commands[i].name, name) == 0) {
                *ret_words = words;
                return &cli_commands[i];
            }
        }
    }
    return NULL;
}

int cmd_help(const struct cli_args *args)
{
    const struct cli_command *c;
    int words;

    if (args->rest_count == 0) {
        print_commands(stdout);
        return CLI_DONE;
    }
    c = find_command(args->rest_count, args->rest, &words);
    if (!c) {
        return cli_misuse(NULL, "there is no command '%s'", args->rest[0]);
    }
    print_help(c, stdout);
    return CLI_DONE;
}

/* The first command of those that share a first word: "dev up". */
static bool starts_group(size_t i)
{
    size_t len = strcspn(cli_commands[i].name, " ");

    return cli_commands[i].name[len] &&
           (i == 0 || strncmp(cli_commands[i - 1].name, cli_commands[i].name, len + 1) != 0);
}

static void print_groups(const char *between)
{
    bool first = true;

    for (size_t i = 0; i < cli_command_count; i++) {
        if (starts_group(i)) {
            (void)printf("%s%.*s", first ? "" : between, (int)strcspn(cli_commands[i].name, " "),
                         cli_commands[i].name);
            first = false;
        }
    }
}

/* The second words of a first one. */
static void print_group(const char *name)
{
    size_t len = strcspn(name, " ");

    (void)printf("        \"%.*s \"*) words=\"", (int)len, name);
    for (size_t i = 0; i < cli_command_count; i++) {
        if (strncmp(cli_commands[i].name, name, len + 1) == 0) {
            (void)printf("%s ", cli_commands[i].name + len + 1);
        }
    }
    (void)puts("\" ;;");
}

int cmd_completion(const struct cli_args *args)
{
    if (strcmp(args->rest[0], "bash") != 0) {
        return cli_misuse(args, "completion for '%s' is not there; bash is", args->rest[0]);
    }
    (void)fputs("# bash completion of holdfast: source it, or put it into bash_completion.d\n"
                "_holdfast() {\n"
                "    local cur=${COMP_WORDS[COMP_CWORD]} words=\"\" key=${COMP_WORDS[1]}\n"
                "    case \"$key\" in ",
                stdout);
    print_groups("|");
    (void)puts(") key=\"$key ${COMP_WORDS[2]}\" ;; esac\n"
               "    if ((COMP_CWORD == 1)); then");
    (void)fputs("        words=\"", stdout);
    for (size_t i = 0; i < cli_command_count; i++) {
        const char *name = cli_commands[i].name;
        size_t len = strcspn(name, " ");

        if (i == 0 || strncmp(cli_commands[i - 1].name, name, len + 1) != 0) {
            (void)printf("%.*s ", (int)len, name);
        }
    }
    (void)puts("\"\n    else case \"$key\" in");
    for (size_t i = 0; i < cli_command_count; i++) {
        (void)printf("        \"%s\") words=\"--help", cli_commands[i].name);
        for (int o = 0; o < CLI_OPTIONS_MAX && cli_commands[i].options[o].name; o++) {
            (void)printf(" %s%s", cli_commands[i].options[o].name[1] ? "--" : "-",
                         cli_commands[i].options[o].name);
        }
        (void)puts("\" ;;");
    }
    for (size_t i = 0; i < cli_command_count; i++) {
        if (starts_group(i)) {
            print_group(cli_commands[i].name);
        }
    }
    (void)puts("    esac; fi\n"
               "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
               "    [[ $cur == -* ]] || mapfile -t -O \"${#COMPREPLY[@]}\" COMPREPLY"
               " < <(compgen -f -- \"$cur\")\n"
               "}\ncomplete -o filenames -F _holdfast holdfast");
    return CLI_DONE;
}

/* Returns -1 to go on, or the exit status. */
static int parse(struct cli_args *args, int argc, char **argv)
{
    bool options_over = false;

    args->rest = argv; /* what is kept moves to the front */
    for (int i = 0; i < argc; i++) {
        char *word = argv[i];
        const char *name, *equals;
        size_t len;
        int at;

        if (options_over || word[0] != '-' || !word[1]) {
            args->rest[args->rest_count++] = word;
            continue;
        }
        if (strcmp(word, "--") == 0) {
            options_over = true;
            continue;
        }
        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            print_help(args->command, stdout);
            return CLI_DONE;
        }
        name = word[1] == '-' ? word + 2 : word + 1;
        equals = word[1] == '-' ? strchr(name, '=') : NULL;
        len = equals ? (size_t)(equals - name) : strlen(name);
        at = cli_option_index(args->command, name, len);
        if (at < 0) {
            return cli_misuse(args, "'%s' is not an option of %s", word, args->command->name);
        }
        if (!args->command->options[at].metavar) {
            if (equals) {
                return cli_misuse(args, "'%s' takes no value", word);
            }
            args->values[at] = "";
        } else if (equals) {
            args->values[at] = equals + 1;
        } else if (i + 1 < argc) {
            args->values[at] = argv[++i];
        } else {
            return cli_misuse(args, "'%s' needs a value: %s", word,
                              args->command->options[at].metavar);
        }
    }
    if (args->rest_count < args->command->rest_min) {
        return cli_misuse(args, "something is missing");
    }
    if (args->rest_count > args->command->rest_max) {
        return cli_misuse(args, "'%s' is too much", args->rest[args->command->rest_max]);
    }
    return -1;
}

int main(int argc, char **argv)
{
    struct cli_args args = {0};
    int words, status;

    hf_log_set_level(HF_LOG_ERROR);
    if (argc < 2) {
        print_commands(stderr);
        return CLI_MISUSED;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_commands(stdout);
        return CLI_DONE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        (void)puts("holdfast " HF_VERSION);
        return CLI_DONE;
    }
    args.command = find_command(argc - 1, argv + 1, &words);
    if (!args.command) {
        return cli_misuse(NULL, "there is no command '%s'", argv[1]);
    }
    status = parse(&args, argc - 1 - words, argv + 1 + words);
    return status >= 0 ? status : args.command->run(&args);
}
