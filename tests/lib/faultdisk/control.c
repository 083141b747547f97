/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/faultdisk/control.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/assert.h"

#define REQUEST_BYTES_MAX 8192u
#define ANSWER_BYTES_MAX  4096u
#define WORDS_MAX         32

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_MISUSED = 2 };

struct command {
    char *word[WORDS_MAX]; /* what is no option; [0]: the verb */
    int count;
    uint64_t seed, after, times;
    enum hf_undo_cut mode;
    int err; /* -errno */
    const char *path;
    int code;
    char answer[ANSWER_BYTES_MAX];
};

__attribute__((format(printf, 3, 4))) static void answer(struct command *command, int code,
                                                         const char *format, ...)
{
    va_list args;

    command->code = code;
    va_start(args, format);
    (void)vsnprintf(command->answer, sizeof(command->answer), format, args);
    va_end(args);
}

/* Options */

static bool parse_u64(const char *text, uint64_t *ret)
{
    char *end;

    errno = 0;
    *ret = strtoull(text, &end, 0);
    return errno == 0 && end != text && *end == '\0' && text[0] != '-';
}

static bool parse_mode(const char *text, enum hf_undo_cut *ret)
{
    static const char *const names[] = {[HF_UNDO_CUT_RANDOM] = "random",
                                        [HF_UNDO_CUT_DROP] = "drop",
                                        [HF_UNDO_CUT_KEEP] = "keep",
                                        [HF_UNDO_CUT_TORN] = "torn"};

    for (size_t i = 0; i < HF_ARRAY_LEN(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            *ret = (enum hf_undo_cut)i;
            return true;
        }
    }
    return false;
}

static bool parse_errno(const char *text, int *ret)
{
    static const struct {
        const char *name;
        int err;
    } errors[] = {{"EIO", -EIO}, {"ENOSPC", -ENOSPC}, {"OFF", -HF_FAULT_OFF}};

    for (size_t i = 0; i < HF_ARRAY_LEN(errors); i++) {
        if (strcmp(text, errors[i].name) == 0) {
            *ret = errors[i].err;
            return true;
        }
    }
    return false;
}

static bool parse_option(struct command *command, const char *name, const char *value)
{
    if (strcmp(name, "--seed") == 0) {
        return parse_u64(value, &command->seed);
    }
    if (strcmp(name, "--after") == 0) {
        return parse_u64(value, &command->after);
    }
    if (strcmp(name, "--count") == 0) {
        return parse_u64(value, &command->times);
    }
    if (strcmp(name, "--mode") == 0) {
        return parse_mode(value, &command->mode);
    }
    if (strcmp(name, "--errno") == 0) {
        return parse_errno(value, &command->err);
    }
    command->path = value;
    return strcmp(name, "--path") == 0;
}

/* The verbs. Each is given the right number of words. */

static void run_power_cut(struct hf_faultdisk *disk, struct command *command)
{
    struct hf_faultdisk_stats stats;
    int err = hf_faultdisk_power_cut(disk, command->seed, command->mode, &stats);

    if (err == -EALREADY) {
        answer(command, EXIT_FAILED, "the power is off already; 'restart' brings it back");
    } else if (err) {
        answer(command, EXIT_FAILED, "the backing directory failed: %s; it is in disorder",
               strerror(-err));
    } else {
        answer(command, EXIT_DONE,
               "{\"seed\": %" PRIu64 ", \"files\": %" PRIu64 ", \"bytes\": %" PRIu64
               ", \"names\": %" PRIu64 "}",
               command->seed, stats.unsynced_files, stats.unsynced_bytes, stats.unsynced_names);
    }
}

static void run_restart(struct hf_faultdisk *disk, struct command *command)
{
    int err = hf_faultdisk_restart(disk);

    if (err == -EALREADY) {
        answer(command, EXIT_FAILED, "the power is on");
    } else if (err == -EBUSY) {
        answer(command, EXIT_FAILED, "a fault took the power; 'power-cut' says what is left");
    } else if (err) {
        answer(command, EXIT_FAILED, "%s could not be mounted again", disk->mountpoint);
    }
}

static void run_fail(struct hf_faultdisk *disk, struct command *command)
{
    struct hf_fault fault = {.after = command->after, .count = command->times, .err = command->err};
    bool armed;

    if (!hf_fault_op_parse(command->word[1], &fault.op)) {
        answer(command, EXIT_MISUSED, "fail: read, write, sync or name, not '%s'",
               command->word[1]);
        return;
    }
    (void)snprintf(fault.path, sizeof(fault.path), "%s", command->path);
    (void)pthread_mutex_lock(&disk->lock);
    armed = hf_faults_arm(&disk->faults, &fault);
    (void)pthread_mutex_unlock(&disk->lock);
    if (!armed) {
        answer(command, EXIT_FAILED, "%u faults are armed already; 'clear' removes them",
               HF_FAULTS_MAX);
    }
}

static void run_delay(struct hf_faultdisk *disk, struct command *command)
{
    enum hf_fault_op op;
    uint64_t ms;

    if (!hf_fault_op_parse(command->word[1], &op) || !parse_u64(command->word[2], &ms)) {
        answer(command, EXIT_MISUSED,
               "delay: read, write, sync or name, and milliseconds, not '%s' and '%s'",
               command->word[1], command->word[2]);
        return;
    }
    (void)pthread_mutex_lock(&disk->lock);
    disk->faults.delay_ms[op] = ms;
    (void)pthread_mutex_unlock(&disk->lock);
}

static void run_lie(struct hf_faultdisk *disk, struct command *command)
{
    (void)pthread_mutex_lock(&disk->lock);
    disk->faults.lies = true;
    (void)pthread_mutex_unlock(&disk->lock);
}

static void run_clear(struct hf_faultdisk *disk, struct command *command)
{
    (void)pthread_mutex_lock(&disk->lock);
    hf_faults_clear(&disk->faults);
    (void)pthread_mutex_unlock(&disk->lock);
}

static void run_rot(struct hf_faultdisk *disk, struct command *command)
{
    uint64_t off, mask = 0x10;
    int err;

    if (!parse_u64(command->word[2], &off) || off > INT64_MAX ||
        (command->count > 3 && (!parse_u64(command->word[3], &mask) || mask == 0 || mask > 255))) {
        answer(command, EXIT_MISUSED, "rot: PATH, a byte offset, and a mask of 1 to 255");
        return;
    }
    err = hf_faultdisk_rot(disk, command->word[1], off, (uint8_t)mask);
    if (err) {
        answer(command, EXIT_FAILED, "%s: %s", command->word[1],
               err == -EINVAL ? "it ends before that offset" : strerror(-err));
    }
}

static void run_stats(struct hf_faultdisk *disk, struct command *command)
{
    struct hf_faultdisk_stats stats;
    struct hf_faults faults;
    char calls[256] = "", struck[256] = "";
    uint64_t cuts;

    hf_faultdisk_stats(disk, &stats);
    (void)pthread_mutex_lock(&disk->lock);
    faults = disk->faults;
    cuts = disk->cuts;
    (void)pthread_mutex_unlock(&disk->lock);
    for (unsigned op = 0; op < HF_FAULT_OP_COUNT; op++) {
        const char *comma = op ? ", " : "";
        const char *name = hf_fault_op_name((enum hf_fault_op)op);

        (void)snprintf(calls + strlen(calls), sizeof(calls) - strlen(calls), "%s\"%s\": %" PRIu64,
                       comma, name, faults.calls[op]);
        (void)snprintf(struck + strlen(struck), sizeof(struck) - strlen(struck),
                       "%s\"%s\": %" PRIu64, comma, name, faults.struck[op]);
    }
    answer(command, EXIT_DONE,
           "{\"off\": %s, \"cuts\": %" PRIu64 ", \"unsynced_files\": %" PRIu64
           ", \"unsynced_bytes\": %" PRIu64 ", \"unsynced_names\": %" PRIu64
           ", \"stale_sectors\": %" PRIu64 ", \"armed\": %u, \"calls\": {%s}, \"struck\": {%s}}",
           stats.off ? "true" : "false", cuts, stats.unsynced_files, stats.unsynced_bytes,
           stats.unsynced_names, stats.stale_sectors, faults.armed_count, calls, struck);
}

static const struct verb {
    const char *name;
    int min, max; /* words, with the verb */
    const char *options;
    void (*run)(struct hf_faultdisk *disk, struct command *command);
} verbs[] = {
    {"power-cut", 1, 1, "--seed --mode", run_power_cut},
    {"restart", 1, 1, "", run_restart},
    {"fail", 2, 2, "--path --after --count --errno", run_fail},
    {"delay", 3, 3, "", run_delay},
    {"lie", 1, 1, "", run_lie},
    {"clear", 1, 1, "", run_clear},
    {"rot", 3, 4, "", run_rot},
    {"stats", 1, 1, "", run_stats},
};

static const struct verb *verb_of(const char *name)
{
    for (size_t i = 0; i < HF_ARRAY_LEN(verbs); i++) {
        if (strcmp(verbs[i].name, name) == 0) {
            return &verbs[i];
        }
    }
    return NULL;
}

static void run_command(struct hf_faultdisk *disk, struct command *command, char *words[],
                        int count)
{
    const struct verb *verb = count > 0 ? verb_of(words[0]) : NULL;

    if (!verb) {
        answer(command, EXIT_MISUSED, "no such command: '%s'; see --help", count ? words[0] : "");
        return;
    }
    for (int i = 0; i < count; i++) {
        if (strncmp(words[i], "--", 2) != 0) {
            command->word[command->count++] = words[i];
        } else if (!strstr(verb->options, words[i]) || i + 1 == count ||
                   !parse_option(command, words[i], words[i + 1])) {
            answer(command, EXIT_MISUSED, "%s: bad option: %s %s", verb->name, words[i],
                   i + 1 < count ? words[i + 1] : "");
            return;
        } else {
            i++;
        }
    }
    if (command->count < verb->min || command->count > verb->max) {
        answer(command, EXIT_MISUSED, "%s: wrong number of arguments; see --help", verb->name);
        return;
    }
    verb->run(disk, command);
}

/* The socket */

static int make_addr(const char *path, struct sockaddr_un *ret)
{
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(ret->sun_path)) {
        return -ENAMETOOLONG;
    }
    memcpy(ret->sun_path, path, strlen(path) + 1);
    return 0;
}

static size_t read_all(int fd, char *ret, size_t size)
{
    size_t len = 0;

    while (len < size) {
        ssize_t n = read(fd, ret + len, size - len);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            break;
        }
        len += (size_t)n;
    }
    return len;
}

static void write_all(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) { /* the other side is gone, and its answer with it */
            return;
        }
        bytes += n;
        len -= (size_t)n;
    }
}

static void serve_one(struct hf_faultdisk *disk, int fd)
{
    static const struct command defaults = {.times = UINT64_MAX, .err = -EIO, .path = ""};
    struct command command = defaults;
    char request[REQUEST_BYTES_MAX + 1];
    char *words[WORDS_MAX];
    const size_t len = read_all(fd, request, REQUEST_BYTES_MAX);
    int count = 0;
    char code;

    request[len] = '\0';
    for (size_t at = 0; at < len && count < WORDS_MAX; at += strlen(request + at) + 1) {
        words[count++] = request + at;
    }
    run_command(disk, &command, words, count);
    code = (char)('0' + command.code);
    write_all(fd, &code, 1);
    write_all(fd, command.answer, strlen(command.answer));
}

static void *serve(void *arg)
{
    struct hf_control *control = arg;

    for (;;) {
        int fd = accept(control->listen_fd, NULL, NULL);

        if (fd >= 0) {
            serve_one(control->disk, fd);
            (void)close(fd);
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return NULL; /* shut down */
        }
    }
}

int hf_control_start(struct hf_control *control, struct hf_faultdisk *disk, const char *path)
{
    struct sockaddr_un addr;
    sigset_t all, before;
    int err = make_addr(path, &addr);

    if (err) {
        return err;
    }
    *control = (struct hf_control){.disk = disk, .path = path};
    control->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (control->listen_fd < 0) {
        return -errno;
    }
    (void)unlink(path); /* left behind by one that was killed */
    if (bind(control->listen_fd, (const struct sockaddr *)&addr, sizeof(addr)) != 0 ||
        listen(control->listen_fd, 8) != 0) {
        err = -errno;
        (void)close(control->listen_fd);
        return err;
    }
    (void)sigfillset(&all); /* signals end the main thread's loop */
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    err = -pthread_create(&control->thread, NULL, serve, control);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err) {
        (void)close(control->listen_fd);
    }
    return err;
}

void hf_control_stop(struct hf_control *control)
{
    (void)shutdown(control->listen_fd, SHUT_RDWR);
    (void)pthread_join(control->thread, NULL);
    (void)close(control->listen_fd);
    (void)unlink(control->path);
}

int hf_control_send(const char *path, int count, char *const words[])
{
    char text[ANSWER_BYTES_MAX + 2];
    struct sockaddr_un addr;
    int err = make_addr(path, &addr);
    int fd = err ? -1 : socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    size_t len;

    if (!err && (fd < 0 || connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) != 0)) {
        err = -errno;
    }
    if (err) {
        (void)fprintf(stderr, "faultdisk: %s: %s; does 'faultdisk serve' run?\n", path,
                      strerror(-err));
        if (fd >= 0) {
            (void)close(fd);
        }
        return EXIT_FAILED;
    }
    for (int i = 0; i < count; i++) {
        write_all(fd, words[i], strlen(words[i]) + 1);
    }
    (void)shutdown(fd, SHUT_WR);
    len = read_all(fd, text, sizeof(text) - 1);
    (void)close(fd);
    text[len] = '\0';
    if (len == 0 || text[0] < '0' || text[0] > '2') {
        (void)fprintf(stderr, "faultdisk: %s: no answer; the fault disk ended\n", path);
        return EXIT_FAILED;
    }
    if (text[0] != '0') {
        (void)fprintf(stderr, "faultdisk: %s\n", text + 1);
    } else if (text[1]) {
        (void)printf("%s\n", text + 1);
    }
    return text[0] - '0';
}
