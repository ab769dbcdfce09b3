/* SPDX-License-Identifier: MIT */
/*
 * agree.h - do the names, files, directories and pages of one version agree with each other? Cell by cell, and
 * if wanted made to agree again, without losing a page: what has no name gets one in a directory "lost+found".
 *
 * What agrees (see docs/FORMAT.md, "The main tree"):
 *   - an entry's directory is a directory, and its child an inode that leads back to this entry, of the same type
 *   - an inode with links has its entry; one without has an orphan mark; the root directory is there
 *   - a directory counts its entries (size) and the directories among them (nlink - 2); no directory is in itself
 *   - a file counts its pages, and has none behind its end
 *   - pages belong to an inode
 *
 * Every node and slot of the tree can be read; where one cannot, the error comes back.
 */
#ifndef MOJO_AGREE_H
#define MOJO_AGREE_H

#include "finding.h"

/*
 * mojo_agree - look at all of @tree, which is that of @version.
 * @mend: change the tree so that it agrees. The caller puts its new root where it belongs.
 * @ret_changed: something was changed; may be NULL unless @mend
 */
int mojo_agree(struct mojo_store *store, struct mojo_tree *tree, uint32_t version, bool mend, struct mojo_sink *sink,
	       bool *ret_changed);

/* mojo_agree_circles - only: does every directory hang below the root? */
int mojo_agree_circles(struct mojo_store *store, struct mojo_tree *tree, uint32_t version, struct mojo_sink *sink);

#endif
