/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "locks.h"

struct locks {
	pthread_mutex_t mutex;           /* guards the rest, and the users that joined; taken last */
	unsigned readers;                /* users at SHARED or above */
	const struct locks_user *writer; /* at RESERVED or above; borrowed */
	bool is_pending;                 /* the writer wants, or has, EXCLUSIVE: nobody new comes in */

	unsigned mapped; /* users of the shared memory */
	void **regions;  /* owned, each owned */
	unsigned region_count;
	struct {
		unsigned shared; /* how many hold it */
		bool is_exclusive;
	} slots[LOCKS_SHM_SLOTS];
};

int locks_new(struct locks **ret_locks)
{
	struct locks *locks = calloc(1, sizeof(*locks));

	if (!locks)
		return -ENOMEM;
	pthread_mutex_init(&locks->mutex, NULL);
	*ret_locks = locks;
	return 0;
}

static void forget_regions(struct locks *locks)
{
	for (unsigned i = 0; i < locks->region_count; i++)
		free(locks->regions[i]);
	free(locks->regions);
	locks->regions = NULL;
	locks->region_count = 0;
}

void locks_free(struct locks *locks)
{
	if (!locks)
		return;
	assert(locks->readers == 0 && !locks->writer && locks->mapped == 0);
	forget_regions(locks);
	pthread_mutex_destroy(&locks->mutex);
	free(locks);
}

void locks_join(struct locks *locks, struct locks_user *user)
{
	*user = (struct locks_user){ .locks = locks };
}

void locks_leave(struct locks_user *user)
{
	if (!user->locks)
		return;
	locks_unmap(user);
	locks_release(user, LOCKS_NONE);
	user->locks = NULL;
}

/* ---- the file's locks ------------------------------------------------------------------------ */

/* The mutex is held. */
static void assert_consistent(const struct locks *locks, const struct locks_user *user)
{
	assert((locks->writer == user) == (user->level >= LOCKS_RESERVED));
	assert(user->level == LOCKS_NONE || locks->readers > 0);
	assert(user->level != LOCKS_EXCLUSIVE || (locks->readers == 1 && locks->is_pending));
	assert(locks->writer || !locks->is_pending);
}

int locks_acquire(struct locks_user *user, enum locks_level level)
{
	struct locks *locks = user->locks;
	int error = 0;

	if (user->level >= level)
		return 0;
	assert(level != LOCKS_PENDING);
	assert(level == LOCKS_SHARED || user->level >= LOCKS_SHARED);
	pthread_mutex_lock(&locks->mutex);
	if (level == LOCKS_SHARED) {
		if (locks->is_pending) {
			error = -EBUSY;
		} else {
			locks->readers++;
			user->level = LOCKS_SHARED;
		}
	} else if (locks->writer && locks->writer != user) {
		error = -EBUSY;
	} else {
		locks->writer = user;
		user->level = LOCKS_RESERVED;
		if (level == LOCKS_EXCLUSIVE) {
			locks->is_pending = true;
			user->level = LOCKS_PENDING;
			if (locks->readers > 1)
				error = -EBUSY;
			else
				user->level = LOCKS_EXCLUSIVE;
		}
	}
	assert_consistent(locks, user);
	pthread_mutex_unlock(&locks->mutex);
	return error;
}

void locks_release(struct locks_user *user, enum locks_level level)
{
	struct locks *locks = user->locks;

	if (user->level <= level)
		return;
	assert(level <= LOCKS_SHARED);
	pthread_mutex_lock(&locks->mutex);
	if (locks->writer == user) {
		locks->writer = NULL;
		locks->is_pending = false;
	}
	if (level == LOCKS_NONE)
		locks->readers--;
	user->level = level;
	assert_consistent(locks, user);
	pthread_mutex_unlock(&locks->mutex);
}

bool locks_is_reserved(const struct locks_user *user)
{
	bool is_reserved;

	pthread_mutex_lock(&user->locks->mutex);
	is_reserved = user->locks->writer != NULL;
	pthread_mutex_unlock(&user->locks->mutex);
	return is_reserved;
}

/* ---- shared memory --------------------------------------------------------------------------- */

int locks_map(struct locks_user *user, unsigned region, size_t bytes, bool extend, void **ret_memory)
{
	struct locks *locks = user->locks;
	int error = 0;

	pthread_mutex_lock(&locks->mutex);
	if (!user->is_mapped) {
		user->is_mapped = true;
		locks->mapped++;
	}
	if (region >= locks->region_count && extend) {
		void **regions = realloc(locks->regions, (region + 1) * sizeof(*regions));

		if (!regions)
			error = -ENOMEM;
		else
			locks->regions = regions;
		while (!error && locks->region_count <= region) {
			regions[locks->region_count] = calloc(1, bytes);
			if (regions[locks->region_count])
				locks->region_count++;
			else
				error = -ENOMEM;
		}
	}
	if (!error)
		*ret_memory = region < locks->region_count ? locks->regions[region] : NULL;
	pthread_mutex_unlock(&locks->mutex);
	return error;
}

/* The mutex is held. */
static void release_slots(struct locks_user *user, unsigned mask)
{
	for (unsigned i = 0; i < LOCKS_SHM_SLOTS; i++) {
		if (user->shm_shared & mask & 1u << i)
			user->locks->slots[i].shared--;
		if (user->shm_exclusive & mask & 1u << i)
			user->locks->slots[i].is_exclusive = false;
	}
	user->shm_shared &= ~mask;
	user->shm_exclusive &= ~mask;
}

void locks_unmap(struct locks_user *user)
{
	struct locks *locks = user->locks;

	pthread_mutex_lock(&locks->mutex);
	release_slots(user, ~0u);
	if (user->is_mapped) {
		user->is_mapped = false;
		if (--locks->mapped == 0)
			forget_regions(locks);
	}
	pthread_mutex_unlock(&locks->mutex);
}

static unsigned mask_of(unsigned first, unsigned count)
{
	assert(count > 0 && first + count <= LOCKS_SHM_SLOTS);
	return ((1u << count) - 1) << first;
}

int locks_shm_acquire(struct locks_user *user, unsigned first, unsigned count, bool exclusive)
{
	struct locks *locks = user->locks;
	unsigned mask = mask_of(first, count), *own = exclusive ? &user->shm_exclusive : &user->shm_shared;
	int error = 0;

	pthread_mutex_lock(&locks->mutex);
	mask &= ~*own;
	for (unsigned i = 0; i < LOCKS_SHM_SLOTS; i++) {
		if (!(mask & 1u << i))
			continue;
		if (locks->slots[i].is_exclusive || (exclusive && locks->slots[i].shared > 0))
			error = -EBUSY;
	}
	for (unsigned i = 0; !error && i < LOCKS_SHM_SLOTS; i++) {
		if (!(mask & 1u << i))
			continue;
		if (exclusive)
			locks->slots[i].is_exclusive = true;
		else
			locks->slots[i].shared++;
		*own |= 1u << i;
	}
	pthread_mutex_unlock(&locks->mutex);
	return error;
}

void locks_shm_release(struct locks_user *user, unsigned first, unsigned count)
{
	pthread_mutex_lock(&user->locks->mutex);
	release_slots(user, mask_of(first, count));
	pthread_mutex_unlock(&user->locks->mutex);
}

void locks_barrier(struct locks_user *user)
{
	/* A mutex orders memory for all who take it, and is what SQLite's own files do. */
	pthread_mutex_lock(&user->locks->mutex);
	pthread_mutex_unlock(&user->locks->mutex);
}
