#include <stdlib.h>
#include <string.h>

#include "call.h"
#include "fail.h"

#define CONTAINER_ID_MAX 128
#define IF_NAME_MAX 15

static const struct command {
	const char *name;
	const char *since;
	bool has_attachment;
} commands[] = {
	{ "ADD", "0.3.1", true },     { "DEL", "0.3.1", true }, { "CHECK", "0.4.0", true },
	{ "STATUS", "1.1.0", false }, { "GC", "1.1.0", false },
};

static _Noreturn void invalid(const char *variable, const char *wanted, const char *value)
{
	fail(INVALID_ENVIRONMENT, "Cannot use ", variable, ": expected ", wanted, ", got ",
	     shown_string(value), NULL);
}

static const char *variable(const char *name)
{
	const char *value = getenv(name);

	return value != NULL ? value : "";
}

void call_read(struct call *call)
{
	call->command = variable("CNI_COMMAND");
	call->container_id = variable("CNI_CONTAINERID");
	call->netns = variable("CNI_NETNS");
	call->if_name = variable("CNI_IFNAME");
	call->args = variable("CNI_ARGS");
}

static const struct command *command_of(const struct call *call)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		if (strcmp(call->command, commands[i].name) == 0)
			return &commands[i];
	invalid("CNI_COMMAND", "ADD, DEL, CHECK, STATUS, GC or VERSION", call->command);
}

const char *call_since(const struct call *call)
{
	return command_of(call)->since;
}

bool call_has_attachment(const struct call *call)
{
	return command_of(call)->has_attachment;
}

/* Narrower than the kernel, which allows quotes and control characters; iproute2 does not. */
static bool is_interface_name(const char *name)
{
	size_t length = strlen(name);

	return length > 0 && length <= IF_NAME_MAX && strcmp(name, ".") != 0 &&
	       strcmp(name, "..") != 0 &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
			    "_.@,+-") == length;
}

void call_check_attachment(const struct call *call)
{
	if (!is_identifier(call->container_id, CONTAINER_ID_MAX))
		invalid("CNI_CONTAINERID",
			"1 to 128 letters, digits, '_', '.' or '-', a letter or digit first",
			call->container_id);
	if (!is_interface_name(call->if_name))
		invalid("CNI_IFNAME", "an interface name of 1 to 15 characters", call->if_name);
}

static void encode_field(struct text *request, const char *name, const char *value)
{
	text_string(request, name);
	text_quoted(request, value, strlen(value));
}

void call_encode(const struct call *call, struct json config, struct text *request)
{
	encode_field(request, "{\"command\":", call->command);
	encode_field(request, ",\"containerId\":", call->container_id);
	encode_field(request, ",\"netns\":", call->netns);
	encode_field(request, ",\"ifName\":", call->if_name);
	encode_field(request, ",\"args\":", call->args);
	text_string(request, ",\"config\":");
	text_bytes(request, config.start, config.end - config.start);
	text_string(request, "}");
}
