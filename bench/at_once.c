// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Starts a program many times at once, as a container runtime starts its plugins, and measures each run.
 *
 *   at_once PROGRAM < LINES
 *
 * A line is a run: words NAME=VALUE for its environment, and last, after a tab, its standard input. For each run,
 * in the order of the lines, a line of output: its exit status, and the ms from before its start until it has ended.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RUNS 256
#define WORDS 16

struct one {
	char *words[WORDS + 1];
	int input;
	pid_t pid;
	int status;
	double began;
	double ended;
};

static struct one runs[RUNS];

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e3 + time.tv_nsec / 1e6;
}

static void fail(const char *what)
{
	fprintf(stderr, "Cannot %s: %s\n", what, strerror(errno));
	exit(1);
}

static void read_run(struct one *run, char *line)
{
	char *input = strchr(line, '\t');
	size_t length;
	int count = 0;
	if (input == NULL) {
		errno = EINVAL;
		fail("read a run");
	}
	*input++ = 0;
	length = strcspn(input, "\n");
	for (char *word = strtok(line, " "); word && count < WORDS; word = strtok(NULL, " "))
		run->words[count++] = strdup(word);
	run->input = memfd_create("input", MFD_CLOEXEC);
	if (run->input < 0 || write(run->input, input, length) != (ssize_t)length ||
	    lseek(run->input, 0, SEEK_SET) < 0)
		fail("keep the input of a run");
}

static void start(struct one *run, char *program)
{
	char *arguments[] = { program, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, run->input, 0);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", 1, 0);
	run->began = now();
	errno = posix_spawn(&run->pid, program, &actions, NULL, arguments, run->words);
	if (errno != 0)
		fail("start the program");
	posix_spawn_file_actions_destroy(&actions);
}

int main(int count, char **arguments)
{
	static char line[65536];
	int total = 0;
	if (count != 2) {
		fprintf(stderr, "Usage: at_once PROGRAM < LINES\n");
		return 2;
	}
	while (total < RUNS && fgets(line, sizeof(line), stdin))
		read_run(&runs[total++], line);
	for (int i = 0; i < total; i++)
		start(&runs[i], arguments[1]);
	for (int left = total; left > 0; left--) {
		int status;
		const pid_t pid = wait(&status);
		const double ended = now();
		for (int i = 0; i < total; i++) {
			if (runs[i].pid != pid)
				continue;
			runs[i].ended = ended;
			runs[i].status = WIFEXITED(status) ? WEXITSTATUS(status) : 255;
		}
	}
	for (int i = 0; i < total; i++)
		printf("%d %.3f\n", runs[i].status, runs[i].ended - runs[i].began);
	return 0;
}
