/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wall_clock.c - a library to preload: the time of day is WALL_CLOCK_AHEAD seconds ahead (or, when
 * negative, behind) of the machine's. Every other clock runs as it is. What a test compiles for the
 * one process that it wants to be wrong.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *ret)
{
    static int (*real)(clockid_t, struct timespec *);
    const char *ahead = getenv("WALL_CLOCK_AHEAD");
    int err;

    if (!real) {
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    }
    err = real(clock, ret);
    if (!err && clock == CLOCK_REALTIME && ahead) {
        ret->tv_sec += strtol(ahead, NULL, 10);
    }
    return err;
}
