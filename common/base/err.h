/* SPDX-License-Identifier: Apache-2.0 */
/*
 * err.h - the one table of errors: name, parent errno, wire number, meaning.
 *
 * Functions return 0 or a negative int: -errno, or one of the HF_E* below (also negative when
 * returned: -HF_ESTALE_EPOCH). Raw errno never crosses the wire; the two functions here are the
 * only gate, and what a peer sends that the table does not hold becomes -EPROTO.
 */
#ifndef HF_BASE_ERR_H
#define HF_BASE_ERR_H

#include <errno.h>
#include <stdint.h>

enum hf_err {
    HF_ERR_FIRST = 4096,
    HF_ESTALE_EPOCH = HF_ERR_FIRST, /* the group or map epoch is old: fetch the map, try again */
    HF_EFENCED,       /* the session is evicted or unknown: nothing of it is applied any more */
    HF_EGAP,          /* a stream number that is not last + 1: resend from last + 1 */
    HF_ENOTLEADER,    /* this node does not lead the metadata: ask another */
    HF_ENOOBJECT,     /* this store does not hold the object */
    HF_ECHECKSUM,     /* bytes do not match their checksum */
    HF_ECONFLICT,     /* the object id exists with other contents */
    HF_ENOTMODIFIED,  /* what the caller holds is current */
    HF_EWRONGCLUSTER, /* peer or directory of another cluster or identity */
    HF_EQUARANTINED,  /* the store's copy is bad and set aside */
    HF_ENOTREADY,     /* starting up or replaying: try again */
    HF_EDISCONNECTED, /* the connection was lost with the call's outcome unknown */
    HF_EDIFFERS,      /* the metadata here differ from the others': filled anew, or not at all */
    HF_ERR_END,
};

/** A short name ("ENOENT", "stale epoch"); never NULL. Accepts either sign. */
const char *hf_err_name(int err);
/** What it means, for people; never NULL. */
const char *hf_err_text(int err);
/** The errno (positive) that an application is given for @err: EIO also for what timed out. */
int hf_err_errno(int err);

/** Wire number of @err (0 for 0). */
uint32_t hf_err_to_wire(int err);
/** Negative error, or 0; unknown numbers become -EPROTO. */
int hf_err_from_wire(uint32_t number);

#endif
