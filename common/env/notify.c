/* SPDX-License-Identifier: Apache-2.0 */
#include "common/env/notify.h"

#include <stdlib.h>

#include <systemd/sd-daemon.h>

void hf_notify_ready(const char *status)
{
    (void)sd_notifyf(0, "READY=1\nSTATUS=%s", status); /* dropped: see the header */
}

void hf_notify_stopping(const char *status)
{
    (void)sd_notifyf(0, "STOPPING=1\nSTATUS=%s", status);
}

void hf_notify_detach(void)
{
    (void)unsetenv("NOTIFY_SOCKET"); /* fails for malformed names only */
}
