/* SPDX-License-Identifier: Apache-2.0 */
/*
 * show.h - nodes and the metadata's voters, from what the cluster tells to tables for people.
 *
 *     status (of the leader) ─┐
 *     meta-status of each ────┴─► show_merge_*() ─► JSON as --json prints it ─► show_*(): text
 *
 * Pure: no cluster, no clock. Whatever a node leaves out or writes wrongly is shown as "-".
 */
#ifndef HF_CLI_SHOW_H
#define HF_CLI_SHOW_H

#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

/**
 * A list of nodes: id, address, domain, state, role, free_bytes, objects, lacking, heard_ms_ago;
 * the last four are null where nothing is known.
 *
 * @status  the leader's "status"
 * @meta    the leader's "meta-status"; NULL where it does not know it
 */
json_t *show_merge_nodes(const json_t *status, const json_t *meta);
void show_nodes(const json_t *nodes, FILE *out);

/**
 * {"leader": N or null, "term", "index", "log_bytes", "members", "nodes"}.
 *
 * @answers  a list of what metadata nodes said about themselves ("meta-status"), each with
 *           "address"; "error" instead of the rest where one did not answer
 */
json_t *show_merge_meta(const json_t *answers);
void show_meta(const json_t *meta, FILE *out);

/** Of a "meta-status", or what show_merge_meta() made; NULL: that node is no member. */
const json_t *show_member(const json_t *meta, unsigned node);
/** "learner, entry 500 of 1000 (50%)". Returns @ret. */
const char *show_joining(const json_t *meta, unsigned node, char ret[128]);

#endif
