/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - runs the groups of claims in a directory, and reports. */
#include <ftw.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "tests/posix/posix.h"
#include "tests/posix/run.h"

struct px_run px_run;

static const struct {
    const char *name;
    const struct px_group *groups;
} files[] = {
#define X(file) {#file, px_##file},
    PX_FILES(X)
#undef X
};

#define FILE_COUNT (sizeof(files) / sizeof(files[0]))

static struct {
    const char *dir, *other;
    const char *only; /* FILE or FILE/GROUP */
    bool slow, list;
} options;

static const char usage[] =
    "usage: holdfast-posix [options] DIR [DIR2]\n"
    "\n"
    "claims from POSIX and the Linux manual pages, tried in a new directory below DIR\n"
    "\n"
    "DIR2 is the same directory through another mount: the claims about two mounts are tried as\n"
    "well. As root, other users (61900 to 61903) are played too; as a user, what needs them is "
    "left\n"
    "out. The last line says how many claims there were.\n"
    "\n"
    "  --only FILE[/GROUP]  just those\n"
    "  --list               files and groups\n"
    "  --slow               what takes minutes, too\n"
    "  --help               this text\n";

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *at)
{
    (void)st;
    (void)at;
    if (flag == FTW_DNR) {
        (void)chmod(path, 0700);
    }
    return flag == FTW_DP || flag == FTW_DNR ? rmdir(path) : unlink(path);
}

static void remove_tree(const char *path)
{
    (void)nftw(path, remove_one, 64, FTW_DEPTH | FTW_PHYS);
}

static void stop_group(int signal)
{
    static const char text[] = "FAILS: a group takes too long\n";

    (void)signal;
    (void)!write(STDOUT_FILENO, text, sizeof(text) - 1);
    _exit(1);
}

static void run_here(const struct px_group *group, const char *dir)
{
    if (chdir(dir)) {
        _exit(1);
    }
    (void)umask(022);
    (void)signal(SIGALRM, stop_group);
    (void)signal(SIGXFSZ, SIG_IGN);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)alarm(PX_GROUP_S * (group->flags & PX_SLOW ? 20 : 1));
    group->run();
    fflush(stdout);
    _exit(0);
}

static void run_group(const char *file, const struct px_group *group, const char *base,
                      const char *other)
{
    char name[128], dir[PATH_MAX], there[PATH_MAX];
    int status = 0;
    pid_t pid;

    (void)snprintf(name, sizeof(name), "%s/%s", file, group->name);
    (void)snprintf(dir, sizeof(dir), "%s/%s.%s", base, file, group->name);
    (void)snprintf(there, sizeof(there), "%s/%s.%s", other ? other : "", file, group->name);
    px_run.group = name;
    px_run.other = other ? there : NULL;
    if (mkdir(dir, 0777) || chmod(dir, 0777)) {
        printf("FAILS %s: cannot make %s: %s\n", name, dir, strerror(errno));
        px_run.counts->failed++;
        return;
    }
    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        run_here(group, dir);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) ||
        (WEXITSTATUS(status) && WEXITSTATUS(status) != PX_NOT_READY)) {
        printf("FAILS %s: ended by %s %d\n", name, WIFSIGNALED(status) ? "signal" : "status",
               WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        px_run.counts->failed++;
    }
    remove_tree(dir);
}

static bool is_wanted(const char *file, const char *group)
{
    size_t len = strlen(file);

    if (!options.only) {
        return true;
    }
    return strncmp(options.only, file, len) == 0 &&
           (options.only[len] == 0 ||
            (options.only[len] == '/' && strcmp(options.only + len + 1, group) == 0));
}

/* Returns how many groups were left out. */
static unsigned run_file(size_t index, const char *base, const char *other)
{
    struct px_counts before = *px_run.counts;
    unsigned left_out = 0, ran = 0;

    for (const struct px_group *group = files[index].groups; group->name; group++) {
        if (!is_wanted(files[index].name, group->name)) {
            continue;
        }
        if (options.list) {
            printf("%s/%s%s%s%s\n", files[index].name, group->name,
                   group->flags & PX_ROOT ? " (root)" : "", group->flags & PX_TWO ? " (two)" : "",
                   group->flags & PX_SLOW ? " (slow)" : "");
        } else if ((group->flags & PX_ROOT && getuid() != 0) || (group->flags & PX_TWO && !other) ||
                   (group->flags & PX_SLOW && !options.slow)) {
            left_out++;
        } else {
            run_group(files[index].name, group, base, other);
            ran++;
        }
    }
    if (ran) {
        printf("%-12s %5llu hold, %llu fail\n", files[index].name,
               (unsigned long long)(px_run.counts->held - before.held),
               (unsigned long long)(px_run.counts->failed - before.failed));
    }
    return left_out;
}

static int run_all(void)
{
    char base[PATH_MAX] = "", other[PATH_MAX] = "";
    unsigned left_out = 0;

    if (!options.list) {
        (void)snprintf(base, sizeof(base), "%s/posix.%d", options.dir, (int)getpid());
        (void)snprintf(other, sizeof(other), "%s/posix.%d", options.other ? options.other : "",
                       (int)getpid());
        if (mkdir(base, 0777) || chmod(base, 0777)) {
            fprintf(stderr, "holdfast-posix: cannot make %s: %s\n", base, strerror(errno));
            return 2;
        }
        if (options.other && access(other, F_OK)) {
            fprintf(stderr, "holdfast-posix: %s is not %s through another mount\n", options.other,
                    options.dir);
            (void)rmdir(base);
            return 2;
        }
    }
    for (size_t i = 0; i < FILE_COUNT; i++) {
        left_out += run_file(i, base, options.other ? other : NULL);
    }
    if (options.list) {
        return 0;
    }
    remove_tree(base);
    if (left_out) {
        printf("%u groups left out: they need root, DIR2, or --slow\n", left_out);
    }
    printf("%llu claims hold, %llu fail; left out: %llu impossible\n",
           (unsigned long long)px_run.counts->held, (unsigned long long)px_run.counts->failed,
           (unsigned long long)px_run.counts->impossible);
    return px_run.counts->failed ? 1 : 0;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {{"only", required_argument, NULL, 'o'},
                                          {"list", no_argument, NULL, 'l'},
                                          {"slow", no_argument, NULL, 's'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    static char dirs[2][PATH_MAX];
    int opt;

    while ((opt = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
        if (opt == 'o') {
            options.only = optarg;
        } else if (opt == 's') {
            options.slow = true;
        } else if (opt == 'l') {
            options.list = true;
        } else {
            fputs(usage, opt == 'h' ? stdout : stderr);
            return opt == 'h' ? 0 : 2;
        }
    }
    if (!options.list && (optind + 1 > argc || optind + 2 < argc)) {
        fputs(usage, stderr);
        return 2;
    }
    for (int i = 0; optind + i < argc && i < 2; i++) {
        if (!realpath(argv[optind + i], dirs[i])) {
            fprintf(stderr, "holdfast-posix: %s: %s\n", argv[optind + i], strerror(errno));
            return 2;
        }
    }
    options.dir = dirs[0];
    options.other = dirs[1][0] ? dirs[1] : NULL;
    px_run.counts = mmap(NULL, sizeof(*px_run.counts), PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (px_run.counts == MAP_FAILED) {
        perror("holdfast-posix");
        return 2;
    }
    return run_all();
}
