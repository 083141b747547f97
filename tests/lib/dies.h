/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dies.h - does a call end the program by an assertion? In a process of its own, which is silent.
 */
#ifndef HF_TESTS_LIB_DIES_H
#define HF_TESTS_LIB_DIES_H

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/assert.h"

static inline bool dies(void (*fn)(void *ctx), void *ctx)
{
    const struct rlimit no_core = {0};
    int status;
    pid_t pid = fork();

    HF_ASSERT(pid >= 0);
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

        (void)setrlimit(RLIMIT_CORE, &no_core);
        (void)signal(SIGABRT, SIG_DFL); /* cmocka's */
        (void)dup2(null, STDERR_FILENO);
        fn(ctx);
        _exit(0);
    }
    HF_ASSERT(waitpid(pid, &status, 0) == pid);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

#endif
