#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fail.h"
#include "network.h"
#include "text.h"

#define SHOWN_MAX 120

static const char *version = NEWEST_VERSION;

void fail_as_version(const char *asked)
{
	version = asked;
}

_Noreturn void fail(int code, ...)
{
	static char message_bytes[8192], object_bytes[6 * sizeof(message_bytes)];
	struct text message = TEXT(message_bytes), object = TEXT(object_bytes);
	const char *piece;
	va_list pieces;

	va_start(pieces, code);
	while ((piece = va_arg(pieces, const char *)) != NULL)
		text_string(&message, piece);
	va_end(pieces);
	text_string(&object, "{\"cniVersion\":\"");
	text_string(&object, version);
	text_string(&object, "\",\"code\":");
	text_number(&object, code);
	text_string(&object, ",\"msg\":");
	text_quoted(&object, message.bytes, message.length);
	text_string(&object, "}\n");
	print(object.bytes, object.length);
	exit(1);
}

/* Ends a long text between two characters. */
static const char *shortened(const char *bytes, size_t length)
{
	static char result[SHOWN_MAX + 1];
	size_t kept = length;

	if (length > SHOWN_MAX)
		for (kept = SHOWN_MAX - 3; (bytes[kept] & 0xc0) == 0x80; kept--)
			;
	memcpy(result, bytes, kept);
	strcpy(result + kept, length > SHOWN_MAX ? "..." : "");
	return result;
}

const char *shown(struct json value)
{
	if (value.start == NULL || (json_kind(value) == '"' && value.end - value.start == 2))
		return "nothing";
	return shortened(value.start, value.end - value.start);
}

const char *shown_string(const char *string)
{
	static char quoted_bytes[6 * SHOWN_MAX + 2];
	struct text quoted = TEXT(quoted_bytes);
	size_t length = strlen(string);

	if (length == 0)
		return "nothing";
	/* More is cut off anyway. */
	text_quoted(&quoted, string, length > SHOWN_MAX ? SHOWN_MAX : length);
	return shortened(quoted.bytes, quoted.length);
}

void print(const char *bytes, size_t length)
{
	while (length > 0) {
		ssize_t written = write(STDOUT_FILENO, bytes, length);

		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			_exit(1);
		bytes += written;
		length -= written;
	}
}
