#include <string.h>

#include "fail.h"
#include "network.h"
#include "text.h"

#define DEFAULT_SOCKET "/run/fairway/agent.sock"
#define ATTACHMENTS "cni.dev/valid-attachments"

/* Oldest first; the same as in src/cni/request.ts. */
static const char *const versions[] = { "0.3.1", "0.4.0", "1.0.0", NEWEST_VERSION };
#define VERSIONS (sizeof(versions) / sizeof(*versions))

static _Noreturn void invalid(const char *field, const char *wanted, struct json value)
{
	fail(INVALID_CONFIGURATION, "Cannot use \"", field, "\": expected ", wanted, ", got ",
	     shown(value), NULL);
}

const char *network_version(struct json config)
{
	char asked[16];

	if (!json_string(json_member(config, "cniVersion"), asked, sizeof(asked)))
		return NULL;
	for (size_t i = 0; i < VERSIONS; i++)
		if (strcmp(asked, versions[i]) == 0)
			return versions[i];
	return NULL;
}

static void read_socket(struct network *network)
{
	struct json socket = json_member(network->config, "socket");
	char kind = json_kind(socket);

	if (kind == 0 || kind == 'n') {
		strcpy(network->socket, DEFAULT_SOCKET);
	} else if (kind == '"' && (size_t)(socket.end - socket.start) > SOCKET_PATH_SIZE + 1) {
		invalid("socket", "a path of at most 107 bytes", socket);
	} else if (!json_string(socket, network->socket, sizeof(network->socket)) ||
		   network->socket[0] != '/') {
		invalid("socket", "the absolute path of the agent's socket", socket);
	}
	strcpy(network->run_dir, network->socket);
	*strrchr(network->run_dir, '/') = '\0';
}

void network_read(struct network *network, struct json config)
{
	struct json name = json_member(config, "name");

	network->config = config;
	if (json_kind(config) != '{')
		fail(DECODING_FAILURE,
		     "Cannot read the network configuration: expected a JSON object, got ",
		     shown(config), NULL);
	network->version = network_version(config);
	if (network->version == NULL)
		fail(INCOMPATIBLE_VERSION,
		     "Cannot use cniVersion: expected one of 0.3.1, 0.4.0, 1.0.0, 1.1.0, got ",
		     shown(json_member(config, "cniVersion")), NULL);
	if (!json_string(name, network->name, sizeof(network->name)) ||
	    !is_identifier(network->name, NETWORK_NAME_MAX))
		invalid("name", "1 to 64 letters, digits, '_', '.' or '-', a letter or digit first",
			name);
	read_socket(network);
}

static size_t age_of(const char *version)
{
	size_t i = 0;

	while (strcmp(versions[i], version) != 0)
		i++;
	return i;
}

void network_require(const struct network *network, const char *command, const char *since)
{
	if (age_of(network->version) < age_of(since))
		fail(INCOMPATIBLE_VERSION, "Cannot ", command, ": expected cniVersion ", since,
		     " or newer, got ", network->version, NULL);
}

struct json network_valid_attachments(const struct network *network)
{
	struct json list = json_member(network->config, ATTACHMENTS);
	struct json name, entry = { NULL, NULL };

	if (json_kind(list) == 0)
		fail(INVALID_CONFIGURATION,
		     "Cannot collect garbage: \"" ATTACHMENTS "\" is missing", NULL);
	/* Go's encoder writes an empty list as null. */
	if (json_kind(list) == 'n')
		return list;
	if (json_kind(list) != '[')
		invalid(ATTACHMENTS, "a list", list);
	while (json_next(list, &name, &entry))
		if (json_kind(json_member(entry, "containerID")) != '"' ||
		    json_kind(json_member(entry, "ifname")) != '"')
			invalid(ATTACHMENTS,
				"objects with the strings \"containerID\" and \"ifname\"", entry);
	return list;
}

void network_print_versions(struct json config)
{
	static char answer_bytes[8192];
	struct text answer = TEXT(answer_bytes);
	struct json asked = json_member(config, "cniVersion");

	text_string(&answer, "{\"cniVersion\":");
	if (json_kind(asked) == '"' && asked.end - asked.start < 4096)
		text_bytes(&answer, asked.start, asked.end - asked.start);
	else
		text_string(&answer, "\"" NEWEST_VERSION "\"");
	text_string(&answer, ",\"supportedVersions\":[");
	for (size_t i = 0; i < VERSIONS; i++) {
		text_string(&answer, i == 0 ? "\"" : ",\"");
		text_string(&answer, versions[i]);
		text_string(&answer, "\"");
	}
	text_string(&answer, "]}\n");
	print(answer.bytes, answer.length);
}

bool is_identifier(const char *name, size_t max)
{
	static const char letters[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
	size_t length = strlen(name);

	return length > 0 && length <= max && strspn(name, letters) == length &&
	       strchr("_.-", name[0]) == NULL;
}
