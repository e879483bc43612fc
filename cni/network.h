/* The network configuration on standard input. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/un.h>

#include "json.h"

#define NEWEST_VERSION "1.1.0"
#define NETWORK_NAME_MAX 64
/* sun_path with its closing NUL (unix(7)). */
#define SOCKET_PATH_SIZE sizeof(((struct sockaddr_un *)0)->sun_path)

struct network {
	/* The whole text, unchanged: the agent reads what is not read here. */
	struct json config;
	/* One of the supported versions. */
	const char *version;
	char name[NETWORK_NAME_MAX + 1];
	/* The agent's socket, and the directory that it is in. */
	char socket[SOCKET_PATH_SIZE];
	char run_dir[SOCKET_PATH_SIZE];
};

/* The supported version that the configuration asks for, NULL if there is none. */
const char *network_version(struct json config);

/* Fails with a CNI error if one of these fields is wrong. */
void network_read(struct network *network, struct json config);

/* Fails if the command came with a later version than the configuration's. */
void network_require(const struct network *network, const char *command, const char *since);

/* GC's list of attachments that exist; fails if there is none or it is broken. */
struct json network_valid_attachments(const struct network *network);

/* The answer to VERSION. */
void network_print_versions(struct json config);

/* 1 to `max` letters, digits, '_', '.' or '-', a letter or digit first. */
bool is_identifier(const char *name, size_t max);
