/* The call of a container runtime: its CNI_* variables. */
#pragma once

#include "network.h"
#include "text.h"

struct call {
	const char *command;
	const char *container_id;
	const char *netns;
	const char *if_name;
	const char *args;
};

/* Absent variables are empty. */
void call_read(struct call *call);

/* The CNI version that the command came with; fails if there is no such command. */
const char *call_since(const struct call *call);

/* True for the commands that concern one attachment. */
bool call_has_attachment(const struct call *call);

/* Fails if the container's id or interface name is wrong: they name it also while the agent is down. */
void call_check_attachment(const struct call *call);

/* The body of a request to the agent, see src/cni/protocol.ts. */
void call_encode(const struct call *call, struct json config, struct text *request);
