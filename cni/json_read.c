/* Checks a JSON text as a whole. */
#include <string.h>

#include "json.h"
#include "json_byte.h"
#include "text.h"

struct reader {
	const char *at, *end;
	int depth;
};

static bool read_value(struct reader *r);

static char peek(const struct reader *r)
{
	return r->at < r->end ? *r->at : '\0';
}

static bool take(struct reader *r, char byte)
{
	if (r->at >= r->end || *r->at != byte)
		return false;
	r->at++;
	return true;
}

static void skip_space(struct reader *r)
{
	while (r->at < r->end && is_space(*r->at))
		r->at++;
}

static bool read_digits(struct reader *r)
{
	if (!is_digit(peek(r)))
		return false;
	while (is_digit(peek(r)))
		r->at++;
	return true;
}

static bool read_number(struct reader *r)
{
	take(r, '-');
	if (!take(r, '0') && !read_digits(r))
		return false;
	if (take(r, '.') && !read_digits(r))
		return false;
	if (peek(r) != 'e' && peek(r) != 'E')
		return true;
	r->at++;
	if (!take(r, '+'))
		take(r, '-');
	return read_digits(r);
}

static bool read_word(struct reader *r, const char *word)
{
	while (*word != '\0')
		if (!take(r, *word++))
			return false;
	return true;
}

static bool read_escape(struct reader *r)
{
	if (take(r, 'u')) {
		for (int i = 0; i < 4; i++, r->at++)
			if (hex_digit(peek(r)) < 0)
				return false;
		return true;
	}
	if (peek(r) == '\0' || strchr("\"\\/bfnrt", *r->at) == NULL)
		return false;
	r->at++;
	return true;
}

static bool read_string(struct reader *r)
{
	if (!take(r, '"'))
		return false;
	while (r->at < r->end) {
		size_t width = utf8_length(r->at, r->end - r->at);

		if (take(r, '"'))
			return true;
		if ((unsigned char)*r->at < 0x20 || width == 0)
			return false;
		if (*r->at != '\\') {
			r->at += width;
			continue;
		}
		r->at++;
		if (!read_escape(r))
			return false;
	}
	return false;
}

static bool read_member(struct reader *r)
{
	if (!read_string(r))
		return false;
	skip_space(r);
	return take(r, ':') && read_value(r);
}

static bool read_container(struct reader *r, bool (*read_one)(struct reader *r), char last)
{
	bool empty = true;

	r->at++;
	if (++r->depth > JSON_DEPTH)
		return false;
	for (;; empty = false) {
		skip_space(r);
		if (empty && take(r, last))
			break;
		if (!read_one(r))
			return false;
		skip_space(r);
		if (take(r, last))
			break;
		if (!take(r, ','))
			return false;
	}
	r->depth--;
	return true;
}

static bool read_value(struct reader *r)
{
	skip_space(r);
	switch (peek(r)) {
	case '{':
		return read_container(r, read_member, '}');
	case '[':
		return read_container(r, read_value, ']');
	case '"':
		return read_string(r);
	case 't':
		return read_word(r, "true");
	case 'f':
		return read_word(r, "false");
	case 'n':
		return read_word(r, "null");
	default:
		return read_number(r);
	}
}

struct json json_read(const char *text, size_t length, size_t *wrong)
{
	struct reader r = { .at = text, .end = text + length };
	struct json value;

	skip_space(&r);
	value.start = r.at;
	if (read_value(&r)) {
		value.end = r.at;
		skip_space(&r);
		if (r.at == r.end)
			return value;
	}
	*wrong = r.at - text;
	return (struct json){ NULL, NULL };
}
