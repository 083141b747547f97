/* SPDX-License-Identifier: Apache-2.0 */
/*
 * silent.h - a machine that takes connections and says nothing.
 */
#ifndef HF_TESTS_LIB_SILENT_H
#define HF_TESTS_LIB_SILENT_H

#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>

#include "common/base/assert.h"

#define SILENT_ADDR_BYTES 32u

/* Returns what to close(); @ret_addr has SILENT_ADDR_BYTES. */
static inline int silent_listen(char *ret_addr)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    HF_ASSERT(fd >= 0 && bind(fd, (struct sockaddr *)&at, len) == 0 && listen(fd, 8) == 0);
    HF_ASSERT(getsockname(fd, (struct sockaddr *)&at, &len) == 0);
    (void)snprintf(ret_addr, SILENT_ADDR_BYTES, "127.0.0.1:%u", ntohs(at.sin_port));
    return fd;
}

#endif
