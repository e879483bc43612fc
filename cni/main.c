/*
 * fairway-cni, which a container runtime executes for each Pod.
 *
 *  1 reads the configuration on standard input     2 answers VERSION
 *  3 checks what it needs itself; all else is the agent's, which checks the whole call
 *  4 asks the agent and prints its answer
 *  5 without an agent: notes DEL and GC for later, fails for others
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"
#include "call.h"
#include "deadline.h"
#include "fail.h"
#include "network.h"
#include "note.h"
#include "text.h"

static char input_bytes[REQUEST_MAX + 1], request_bytes[REQUEST_MAX];

/* ------------------------------------------------------ 1 */

static void read_input(struct text *input)
{
	static const char cannot[] = "Cannot read standard input: ";

	for (;;) {
		struct pollfd wanted = { .fd = STDIN_FILENO, .events = POLLIN };
		ssize_t done;

		if (poll(&wanted, 1, deadline_left()) == 0)
			fail(IO_FAILURE, cannot, "it does not end", NULL);
		done = read(STDIN_FILENO, input->bytes + input->length,
			    input->size - input->length);
		if (done == 0)
			return;
		if (done < 0 && errno != EINTR)
			fail(IO_FAILURE, cannot, strerror(errno), NULL);
		if (done > 0)
			input->length += done;
		if (input->length == input->size)
			fail(IO_FAILURE, cannot, "expected at most 1048576 bytes, got more", NULL);
	}
}

static struct json parse_input(const struct text *input, bool may_be_empty)
{
	char number_bytes[24];
	struct text number = TEXT(number_bytes);
	size_t wrong = 0;
	struct json config = json_read(input->bytes, input->length, &wrong);

	if (config.start != NULL)
		return config;
	if (may_be_empty && strspn(input->bytes, " \t\r\n") == input->length)
		return json_read("{}", 2, &wrong);
	text_number(&number, wrong);
	text_bytes(&number, "", 1);
	fail(DECODING_FAILURE,
	     "Cannot read the network configuration: expected JSON: wrong at byte ", number.bytes,
	     NULL);
}

/* ------------------------------------------------------ 4 */

/* {"status": 0 or 1, "body": what to print, if anything} */
static int print_answer(const struct answer *answer)
{
	struct json status = json_member(answer->body, "status");
	struct json body = json_member(answer->body, "body");
	static char said[4096];

	if (answer->http_status == 200 && json_kind(status) == '0') {
		if (body.start != NULL) {
			print(body.start, body.end - body.start);
			print("\n", 1);
		}
		return *status.start == '0' && status.end - status.start == 1 ? 0 : 1;
	}
	if (!json_string(json_member(answer->body, "error"), said, sizeof(said)))
		strcpy(said, "the answer is not an agent's");
	fail(TRY_AGAIN_LATER, "Cannot get an answer from the agent: ", said, NULL);
}

static _Noreturn void fail_without_agent(const struct network *network, const struct call *call,
					 int error)
{
	int code = strcmp(call->command, "STATUS") == 0 ? NOT_AVAILABLE : TRY_AGAIN_LATER;

	if (error == 0)
		fail(code, "Cannot ask the agent: it is starting", NULL);
	fail(code, "Cannot reach the agent at ", network->socket, ": ", agent_explain(error), NULL);
}

/* ------------------------------------------------------ 5 */

/*
 * Pods must be able to end while the agent is down. No note is missed: the agent is asked once more after it
 * has been written, and reads the notes after it starts to listen and before each ADD.
 */
static int work_later(const struct network *network, const struct call *call, struct json valid,
		      const struct text *request)
{
	bool is_deletion = strcmp(call->command, "DEL") == 0;
	struct answer answer;
	struct note note;
	int error;

	if (!note_has_directory(network) || (is_deletion && !note_is_needed(network, call)))
		return 0;
	if (is_deletion)
		note_deletion(&note, network, call);
	else
		note_collection(&note, network, valid);
	error = agent_ask(network->socket, request, &answer);
	if (agent_is_down(error, &answer))
		return 0;
	if (error != 0)
		fail_without_agent(network, call, error);
	if (answer.http_status == 200)
		note_remove(&note);
	return print_answer(&answer);
}

int main(void)
{
	struct text input = TEXT(input_bytes), request = TEXT(request_bytes);
	struct json config, valid = { NULL, NULL };
	struct network network;
	struct answer answer;
	struct call call;
	const char *since;
	int error;

	deadline_start();
	call_read(&call);
	read_input(&input);
	config = parse_input(&input, strcmp(call.command, "VERSION") == 0);
	if (strcmp(call.command, "VERSION") == 0) {
		network_print_versions(config);
		return 0;
	}
	if (network_version(config) != NULL)
		fail_as_version(network_version(config));

	since = call_since(&call);
	network_read(&network, config);
	network_require(&network, call.command, since);
	if (strcmp(call.command, "GC") == 0)
		valid = network_valid_attachments(&network);
	if (call_has_attachment(&call))
		call_check_attachment(&call);

	call_encode(&call, config, &request);
	if (request.full)
		fail(IO_FAILURE,
		     "Cannot ask the agent: expected a request of at most 1048576 bytes, got more",
		     NULL);
	error = agent_ask(network.socket, &request, &answer);
	if ((strcmp(call.command, "DEL") == 0 || strcmp(call.command, "GC") == 0) &&
	    agent_is_down(error, &answer))
		return work_later(&network, &call, valid, &request);
	if (error != 0 || answer.http_status == AGENT_STARTING)
		fail_without_agent(&network, &call, error);
	return print_answer(&answer);
}
