/* SPDX-License-Identifier: MIT */
/*
 * version.h - freezing the active version, finding frozen ones, forgetting them.
 *
 * The versions tree maps a number (be32) to the root of that version's main tree, its time and message:
 *   reference (24), time (64), flags (32, zero), message length (32), message
 * To freeze is to put the active tree's root there, once more retained, and to give what follows a new
 * label. Nothing is copied.
 */
#ifndef MOJO_VERSION_H
#define MOJO_VERSION_H

#include "state.h"

/* What the records do. */
int mojo_apply_commit(struct mojo_store *store, const struct mojo_record_commit *commit);
int mojo_apply_drop(struct mojo_store *store, uint32_t version);

/* mojo_find_held - the newest frozen version: what the active one shares with it must not die. */
int mojo_find_held(struct mojo_store *store);

#endif
