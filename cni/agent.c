#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent.h"
#include "deadline.h"

#define ANSWER_MAX (1 << 20)

#define SAID(number) #number
#define AS_STRING(number) SAID(number)

static bool wait_for(int fd, short events)
{
	struct pollfd wanted = { .fd = fd, .events = events };
	int ready;

	do
		ready = poll(&wanted, 1, deadline_left());
	while (ready < 0 && errno == EINTR);
	return ready > 0;
}

/* A connect to a socket whose queue is full waits as long as a send does (unix(7)). */
static int connect_in_time(int fd, const char *path)
{
	int left = deadline_left();
	struct timeval time = { .tv_sec = left / 1000, .tv_usec = left % 1000 * 1000 + 1 };
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	/* network.c has checked its length. */
	strcpy(address.sun_path, path);
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof(time)) < 0)
		return errno;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return 0;
	return errno == EAGAIN ? ETIMEDOUT : errno;
}

static int send_all(int fd, const struct text *text)
{
	for (size_t sent = 0; sent < text->length;) {
		ssize_t done;

		if (!wait_for(fd, POLLOUT))
			return ETIMEDOUT;
		done = send(fd, text->bytes + sent, text->length - sent,
			    MSG_NOSIGNAL | MSG_DONTWAIT);
		if (done >= 0)
			sent += done;
		else if (errno != EAGAIN && errno != EINTR)
			return errno;
	}
	return 0;
}

static int receive_all(int fd, struct text *text)
{
	for (;;) {
		ssize_t done;

		if (text->length == text->size)
			return EPROTO;
		if (!wait_for(fd, POLLIN))
			return ETIMEDOUT;
		done = recv(fd, text->bytes + text->length, text->size - text->length,
			    MSG_DONTWAIT);
		if (done == 0)
			return 0;
		if (done > 0)
			text->length += done;
		else if (errno != EAGAIN && errno != EINTR)
			return errno;
	}
}

/* "HTTP/1.1 200 OK", headers, an empty line, JSON until the end of the connection. */
static int read_answer(const struct text *text, struct answer *answer)
{
	const char *body = memmem(text->bytes, text->length, "\r\n\r\n", 4);
	const char *end = text->bytes + text->length;
	size_t wrong;

	if (body == NULL)
		return text->length < 5 || memcmp(text->bytes, "HTTP/", 5) == 0 ? ECONNRESET
										: EPROTO;
	body += 4;
	if (body - text->bytes < 16 || memcmp(text->bytes, "HTTP/1.", 7) != 0 ||
	    strspn(text->bytes + 9, "0123456789") != 3)
		return EPROTO;
	answer->http_status = (text->bytes[9] - '0') * 100 + (text->bytes[10] - '0') * 10 +
			      (text->bytes[11] - '0');
	answer->body = json_read(body, end - body, &wrong);
	if (answer->body.start != NULL)
		return 0;
	/* All that has come is right, but it is not all. */
	return body + wrong == end ? ECONNRESET : EPROTO;
}

/* HTTP/1.0: the agent closes the connection behind its answer, and does not send it in chunks. */
static int exchange(int fd, const char *socket, const struct text *request, struct answer *answer)
{
	static char head_bytes[256], received_bytes[ANSWER_MAX];
	struct text head = TEXT(head_bytes), received = TEXT(received_bytes);
	int error = connect_in_time(fd, socket);

	if (error != 0)
		return error;
	text_string(&head,
		    "POST /cni HTTP/1.0\r\nhost: fairway\r\ncontent-type: application/json\r\n"
		    "content-length: ");
	text_number(&head, request->length);
	text_string(&head, "\r\n\r\n");
	error = send_all(fd, &head);
	if (error == 0)
		error = send_all(fd, request);
	/* It may have answered before it had read all. */
	if (error == 0 || error == EPIPE)
		error = receive_all(fd, &received);
	return error != 0 ? error : read_answer(&received, answer);
}

int agent_ask(const char *path, const struct text *request, struct answer *answer)
{
	int error, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return errno;
	error = exchange(fd, path, request, answer);
	close(fd);
	return error;
}

const char *agent_explain(int error)
{
	switch (error) {
	case ENOENT:
		return "no such socket (is the agent running, and with this --run-dir?)";
	case ECONNREFUSED:
		return "connection refused (the agent has ended)";
	case EACCES:
	case EPERM:
		return "permission denied (the socket belongs to root)";
	case ECONNRESET:
	case EPIPE:
		return "the agent closed the connection without an answer";
	case ETIMEDOUT:
		return "no answer within " AS_STRING(TIMEOUT_MS) " ms";
	case EPROTO:
		return "the answer is not an agent's";
	default:
		return strerror(error);
	}
}

bool agent_is_down(int error, const struct answer *answer)
{
	return error == ENOENT || error == ECONNREFUSED || error == ECONNRESET || error == EPIPE ||
	       (error == 0 && answer->http_status == AGENT_STARTING);
}
