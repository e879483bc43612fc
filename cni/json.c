/* 1 steps through a checked text   2 strings */
#include <string.h>

#include "json.h"
#include "json_byte.h"
#include "text.h"

/* ------------------------------------------------------ 1 */

static const char *after_space(const char *at)
{
	while (is_space(*at))
		at++;
	return at;
}

static const char *after_string(const char *at)
{
	for (at++; *at != '"'; at++)
		if (*at == '\\')
			at++;
	return at + 1;
}

/* `end`: of the text around it, since a number that is the whole text has no byte behind it. */
static const char *after_value(const char *at, const char *end)
{
	int depth = 0;

	for (;;) {
		if (*at == '"') {
			at = after_string(at);
		} else if (*at == '{' || *at == '[') {
			depth++;
			at++;
		} else if (*at == '}' || *at == ']') {
			depth--;
			at++;
		} else if (depth > 0) {
			at++;
			continue;
		} else {
			while (at < end && !is_space(*at) && strchr(",]}", *at) == NULL)
				at++;
		}
		if (depth == 0)
			return at;
	}
}

char json_kind(struct json value)
{
	if (value.start == NULL)
		return 0;
	return *value.start == '-' || is_digit(*value.start) ? '0' : *value.start;
}

bool json_next(struct json container, struct json *name, struct json *value)
{
	char kind = json_kind(container);
	const char *at;

	if (kind != '{' && kind != '[')
		return false;
	at = after_space(value->start == NULL ? container.start + 1 : value->end);
	if (*at == ',')
		at = after_space(at + 1);
	if (*at == '}' || *at == ']')
		return false;
	if (kind == '{') {
		name->start = at;
		name->end = after_string(at);
		at = after_space(after_space(name->end) + 1);
	}
	value->start = at;
	value->end = after_value(at, container.end);
	return true;
}

struct json json_member(struct json object, const char *wanted)
{
	struct json found = { NULL, NULL }, name = found, value = found;
	char text[64];

	if (json_kind(object) != '{')
		return found;
	while (json_next(object, &name, &value))
		if (json_string(name, text, sizeof(text)) && strcmp(text, wanted) == 0)
			found = value;
	return found;
}

/* ------------------------------------------------------ 2 */

static unsigned int hex4(const char *at)
{
	unsigned int code = 0;

	for (int i = 0; i < 4; i++)
		code = code << 4 | hex_digit(at[i]);
	return code;
}

static void put_code_point(struct text *out, unsigned int code)
{
	char bytes[4];
	size_t width = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
	static const unsigned char first[] = { 0, 0x00, 0xc0, 0xe0, 0xf0 };

	for (size_t i = width; i-- > 1; code >>= 6)
		bytes[i] = 0x80 | (code & 0x3f);
	bytes[0] = first[width] | code;
	text_bytes(out, bytes, width);
}

/* `at`: behind "\u". Returns where it goes on. */
static const char *decode_code_point(const char *at, struct text *out)
{
	unsigned int code = hex4(at), low;

	at += 4;
	if ((code & 0xfc00) == 0xd800 && at[0] == '\\' && at[1] == 'u') {
		low = hex4(at + 2);
		if ((low & 0xfc00) == 0xdc00) {
			put_code_point(out, 0x10000 + ((code & 0x3ff) << 10) + (low & 0x3ff));
			return at + 6;
		}
	}
	/* Half a surrogate pair is no character. */
	put_code_point(out, (code & 0xf800) == 0xd800 ? 0xfffd : code);
	return at;
}

bool json_string(struct json value, char *bytes, size_t size)
{
	struct text out = { .bytes = bytes, .size = size };
	static const char names[] = "bfnrt", controls[] = "\b\f\n\r\t";

	if (json_kind(value) != '"')
		return false;
	for (const char *at = value.start + 1; at < value.end - 1;) {
		const char *control;

		if (*at != '\\') {
			text_bytes(&out, at++, 1);
			continue;
		}
		at++;
		if (*at == 'u') {
			at = decode_code_point(at + 1, &out);
			continue;
		}
		control = strchr(names, *at);
		text_bytes(&out, control != NULL ? &controls[control - names] : at, 1);
		at++;
	}
	if (memchr(out.bytes, '\0', out.length) != NULL)
		return false;
	text_bytes(&out, "", 1);
	return !out.full;
}
