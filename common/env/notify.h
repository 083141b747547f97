/* SPDX-License-Identifier: Apache-2.0 */
/*
 * notify.h - tells the service manager that started this process how far it is (sd_notify).
 *
 *   started ──► ready ──► stopping ──► exit
 *
 * Only the production environment has a service manager. Without one ($NOTIFY_SOCKET is not set)
 * the calls do nothing; and a manager that cannot be told is no reason not to serve, so they
 * return nothing. Threads: any.
 */
#ifndef HF_ENV_NOTIFY_H
#define HF_ENV_NOTIFY_H

/** This process serves from now on. @status  one line for people, shown by systemctl status */
void hf_notify_ready(const char *status);
/** This process ends, and may take its time to make things durable. */
void hf_notify_stopping(const char *status);
/**
 * Nothing that this process says, or that it starts, reaches the manager any more. For a process
 * that outlives the service that started it. Call before there are threads.
 */
void hf_notify_detach(void);

#endif
