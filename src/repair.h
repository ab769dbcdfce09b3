/* SPDX-License-Identifier: MIT */
/*
 * repair.h - from a damaged store to a whole one, without overwriting anything that may still be of use.
 *
 * There is one way for all damage behind the roots. What can be read is opened in memory; what cannot be read is
 * taken out of the index there, version by version; the log is replayed as far as it goes; names and counts are made
 * to agree; the account of dead blocks is made anew by marking. Then everything changed goes out in two
 * checkpoints, into a chunk with a number above all others, and one root slot is turned after the other. Until the
 * first root is on stable storage the store is as it was; no block is punched and no file is removed. The blocks that
 * nobody refers to any more come back like other dead space, after the store was mounted again.
 *
 * What is lost, and how it is told apart from what never was:
 *   - a slot that cannot be read: its pages get entries without an address (docs/FORMAT.md, "Slots"), which read as
 *     errors; the newer ones among them, which stand beside it as deltas, stay
 *   - a node that cannot be read: of files whose slots were in it, pages that may have been there become lost in the
 *     same way; files whose name was in it get a name in lost+found; names whose file was in it go
 *   - a frozen version whose root cannot be read is dropped; an active version becomes a copy of the newest frozen one
 *   - the log behind a damaged group: put aside, in the chunk files as they were
 */
#ifndef MOJO_REPAIR_H
#define MOJO_REPAIR_H

#include "check.h"

/* The public function is mojo_repair(), in mojo.h. */

#endif
