/* The Node's agent, asked over its socket: one HTTP request per connection. */
#pragma once

#include "json.h"
#include "text.h"

/* The agent reads no longer request (`bodyMax` in src/api/server.ts). */
#define REQUEST_MAX (1 << 20)

/* HTTP status of an agent that listens and cannot answer yet. */
#define AGENT_STARTING 503

struct answer {
	int http_status;
	/* JSON, valid until the next request. */
	struct json body;
};

/*
 * Sends POST /cni and waits until the deadline at most. Returns 0 with the answer, else an errno:
 * that of the connection, ECONNRESET if the agent ended before it had answered, ETIMEDOUT, EPROTO.
 */
int agent_ask(const char *socket, const struct text *request, struct answer *answer);

/* What such an errno means, for a message. */
const char *agent_explain(int error);

/* Nothing listens, it ended while it was asked, or it only starts; not: it is there and slow. */
bool agent_is_down(int error, const struct answer *answer);
