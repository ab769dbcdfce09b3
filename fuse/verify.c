/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../sqlite/judge.h"
#include "verify.h"

struct wish {
	struct wish *next;
	uint32_t version;
};

struct verify {
	struct tree *tree; /* borrowed */
	mojo_event_fn *event;
	void *event_arg; /* borrowed */
	pthread_t thread;
	atomic_bool ending;

	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t wanted;
	struct wish *first, **last; /* owned */
};

static void look(struct verify *verify, uint32_t version)
{
	struct settle_options options = {
		.event = verify->event,
		.event_arg = verify->event_arg,
		.cancel = &verify->ending,
	};
	enum mojo_verdict verdict;
	char text[256];
	int error = judge_version(tree_store(verify->tree), version, &options, &verdict);

	if (!error && verdict == MOJO_VERDICT_GOOD)
		tree_verified(verify->tree, version);
	if (!error || error == -ECANCELED || error == -ENOENT)
		return;
	snprintf(text, sizeof(text), "version %u could not be verified: %s", version, strerror(-error));
	verify->event(verify->event_arg, MOJO_WARNING, text);
}

static void *work(void *arg)
{
	struct verify *verify = arg;

	pthread_mutex_lock(&verify->lock);
	while (!atomic_load(&verify->ending)) {
		struct wish *wish = verify->first;

		if (!wish) {
			pthread_cond_wait(&verify->wanted, &verify->lock);
			continue;
		}
		verify->first = wish->next;
		if (!verify->first)
			verify->last = &verify->first;
		pthread_mutex_unlock(&verify->lock);
		look(verify, wish->version);
		free(wish);
		pthread_mutex_lock(&verify->lock);
	}
	pthread_mutex_unlock(&verify->lock);
	return NULL;
}

int verify_new(struct tree *tree, mojo_event_fn *event, void *arg, struct verify **ret_verify)
{
	struct verify *verify = calloc(1, sizeof(*verify));
	int error;

	if (!verify)
		return -ENOMEM;
	verify->tree = tree;
	verify->event = event;
	verify->event_arg = arg;
	verify->last = &verify->first;
	atomic_init(&verify->ending, false);
	pthread_mutex_init(&verify->lock, NULL);
	pthread_cond_init(&verify->wanted, NULL);
	error = pthread_create(&verify->thread, NULL, work, verify);
	if (error) {
		pthread_cond_destroy(&verify->wanted);
		pthread_mutex_destroy(&verify->lock);
		free(verify);
		return -error;
	}
	*ret_verify = verify;
	return 0;
}

void verify_free(struct verify *verify)
{
	if (!verify)
		return;
	pthread_mutex_lock(&verify->lock);
	atomic_store(&verify->ending, true);
	pthread_cond_signal(&verify->wanted);
	pthread_mutex_unlock(&verify->lock);
	pthread_join(verify->thread, NULL);
	while (verify->first) {
		struct wish *wish = verify->first;

		verify->first = wish->next;
		free(wish);
	}
	pthread_cond_destroy(&verify->wanted);
	pthread_mutex_destroy(&verify->lock);
	free(verify);
}

int verify_version(struct verify *verify, uint32_t version)
{
	struct mojo_version_info info;
	struct wish *wish;
	int error;

	if (tree_is_read_only(verify->tree))
		return -EROFS;
	error = tree_version(verify->tree, version, &info);
	if (error)
		return error;
	wish = malloc(sizeof(*wish));
	if (!wish)
		return -ENOMEM;
	*wish = (struct wish){ .next = NULL, .version = version };
	pthread_mutex_lock(&verify->lock);
	*verify->last = wish;
	verify->last = &wish->next;
	pthread_cond_signal(&verify->wanted);
	pthread_mutex_unlock(&verify->lock);
	return 0;
}
