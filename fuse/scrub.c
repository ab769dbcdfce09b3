/* SPDX-License-Identifier: MIT */
#include "scrub.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../src/report.h"

#define FINDINGS_MAX 1000u /* that are kept; more are counted */
#define RATE_MIN     65536u
#define COMMAND_MAX  64u

struct scrub {
	struct mojo_store *store; /* borrowed */
	pthread_mutex_t lock;     /* guards what follows */
	struct report_scrub report;
	bool has_thread; /* to be joined */
	bool stop;
	pthread_t thread;
	uint64_t rate;
};

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

int scrub_new(struct mojo_store *store, struct scrub **ret_scrub)
{
	struct scrub *scrub = calloc(1, sizeof(*scrub));

	if (!scrub)
		return -ENOMEM;
	scrub->store = store;
	pthread_mutex_init(&scrub->lock, NULL);
	*ret_scrub = scrub;
	return 0;
}

void scrub_free(struct scrub *scrub)
{
	if (!scrub)
		return;
	pthread_mutex_lock(&scrub->lock);
	scrub->stop = true;
	pthread_mutex_unlock(&scrub->lock);
	if (scrub->has_thread)
		pthread_join(scrub->thread, NULL);
	report_scrub_free(&scrub->report);
	pthread_mutex_destroy(&scrub->lock);
	free(scrub);
}

/* ---- the thread ----------------------------------------------------------------------------- */

/* Without memory for it a finding is counted only. */
static void on_finding(void *arg, const struct mojo_finding *finding)
{
	struct scrub *scrub = arg;
	struct report_scrub *report = &scrub->report;
	struct mojo_finding copy = *finding, *grown;

	pthread_mutex_lock(&scrub->lock);
	report->errors++;
	if (report->count < FINDINGS_MAX) {
		grown = realloc(report->findings, (report->count + 1) * sizeof(*grown));
		if (grown)
			report->findings = grown;
		copy.text = strdup(finding->text);
		copy.path = finding->path ? strdup(finding->path) : NULL;
		if (grown && copy.text) {
			report->findings[report->count++] = copy;
		} else {
			free((char *)(uintptr_t)copy.text);
			free((char *)(uintptr_t)copy.path);
		}
	}
	pthread_mutex_unlock(&scrub->lock);
}

static bool on_progress(void *arg, const char *what, uint64_t done, uint64_t total)
{
	struct scrub *scrub = arg;
	bool goes_on;

	(void)what;
	pthread_mutex_lock(&scrub->lock);
	scrub->report.pages_read = done;
	scrub->report.pages_total = total;
	goes_on = !scrub->stop;
	pthread_mutex_unlock(&scrub->lock);
	return goes_on;
}

static void *run(void *arg)
{
	struct scrub *scrub = arg;
	struct mojo_check_options options = {
		.bytes_per_second = scrub->rate,
		.finding = on_finding,
		.progress = on_progress,
		.arg = scrub,
	};
	struct mojo_check_result result;
	int error = mojo_scrub(scrub->store, &options, &result);

	pthread_mutex_lock(&scrub->lock);
	scrub->report.state = !error                ? REPORT_SCRUB_DONE
			      : error == -ECANCELED ? REPORT_SCRUB_STOPPED
						    : REPORT_SCRUB_FAILED;
	if (!error) /* what was an estimate before */
		scrub->report.pages_total = scrub->report.pages_read;
	scrub->report.ended_ns = now_ns();
	pthread_mutex_unlock(&scrub->lock);
	return NULL;
}

/* ---- asking --------------------------------------------------------------------------------- */

static int start(struct scrub *scrub, uint64_t rate)
{
	int error;

	if (scrub->report.state == REPORT_SCRUB_RUNNING)
		return -EBUSY;
	if (scrub->has_thread) /* it has ended, or is about to return */
		pthread_join(scrub->thread, NULL);
	report_scrub_free(&scrub->report);
	scrub->report = (struct report_scrub){ .state = REPORT_SCRUB_RUNNING, .started_ns = now_ns() };
	scrub->stop = false;
	scrub->rate = rate;
	error = pthread_create(&scrub->thread, NULL, run, scrub);
	scrub->has_thread = !error;
	if (error)
		scrub->report.state = REPORT_SCRUB_FAILED;
	return error ? -EAGAIN : 0;
}

int scrub_command(struct scrub *scrub, const char *text, size_t length)
{
	char command[COMMAND_MAX], *end;
	uint64_t rate = 0;
	bool is_stop;
	int error = 0;

	if (length >= sizeof(command))
		return -EINVAL;
	memcpy(command, text, length);
	command[length] = '\0';
	is_stop = strcmp(command, "stop") == 0;
	if (strncmp(command, "start ", 6) == 0) {
		errno = 0;
		rate = strtoull(command + 6, &end, 10);
		if (command[6] < '0' || command[6] > '9' || *end || errno || rate < RATE_MIN)
			return -EINVAL;
	} else if (!is_stop && strcmp(command, "start") != 0) {
		return -EINVAL;
	}
	pthread_mutex_lock(&scrub->lock);
	if (is_stop)
		scrub->stop = true;
	else
		error = start(scrub, rate);
	pthread_mutex_unlock(&scrub->lock);
	return error;
}

int scrub_report(struct scrub *scrub, size_t limit, char **ret_text)
{
	int error;

	pthread_mutex_lock(&scrub->lock);
	error = report_scrub_to_json(&scrub->report, limit, ret_text);
	pthread_mutex_unlock(&scrub->lock);
	return error;
}
