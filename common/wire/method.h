/* SPDX-License-Identifier: Apache-2.0 */
/*
 * method.h - the calls of every service, by their number on the wire. Numbers are never reused.
 */
#ifndef HF_WIRE_METHOD_H
#define HF_WIRE_METHOD_H

enum hf_method {
    /* object store, every node */
    HF_M_PUT = 1,        /* PutRequest + bulk -> (empty) */
    HF_M_GET = 2,        /* GetRequest -> GetReply + bulk */
    HF_M_DELETE = 3,     /* OidsRequest -> (empty); only from the metadata leader */
    HF_M_CHECK = 4,      /* OidsRequest -> CheckReply */
    HF_M_LIST = 5,       /* ListRequest -> ListReply */
    HF_M_COPY = 6,       /* CopyRequest -> (empty) */
    HF_M_REPORT_BAD = 7, /* OidsRequest -> CheckReply: the store re-reads its own copies */
    HF_M_STORE_STATS = 8,
    HF_M_NODE_MAP = 9, /* MapReply as the request: the leader tells a node the map */

    /* metadata, the leader */
    HF_M_META_OP = 32,   /* MetaOp [+ bulk] -> MetaReply [+ bulk] */
    HF_M_META_READ = 33, /* MetaRead -> MetaReply [+ bulk] */
    HF_M_MAP = 34,       /* MetaRead.if_version = epoch held -> MapReply, or "not modified" */
    HF_M_HEARTBEAT = 35, /* Heartbeat -> HeartbeatReply */

    /* consensus, every metadata node */
    HF_M_RAFT = 36,       /* RaftMsg [+ bulk: entries, or a chunk of a snapshot]; one-way */
    HF_M_RAFT_FOUND = 37, /* RaftFound -> RaftFound */

    /* administration: any node; also the mount's own socket */
    HF_M_ADMIN = 64, /* AdminRequest -> bulk: JSON text */
};

#endif
