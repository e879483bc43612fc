/*
 * Reads JSON (RFC 8259) where it lies: a value is a piece of the text. The text is checked once, as a whole;
 * everything after that may rely on it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Lists and objects inside each other, at most. */
#define JSON_DEPTH 100

/* From the first byte to behind the last one; both NULL: none. */
struct json {
	const char *start, *end;
};

/*
 * The one value that the text consists of, UTF-8, with white space around it. None if it is anything else;
 * *wrong is then the offset of the first byte that cannot stand there, or the length of a text that
 * ends too early.
 */
struct json json_read(const char *text, size_t length, size_t *wrong);

/* '{', '[', '"', 't', 'f', 'n', '0' for a number, 0 for none. */
char json_kind(struct json value);

/*
 * Goes on to the next value of a list or an object. `value` is the one before, none at the start; `name`
 * gets its name in an object. False at the end, or if the container is neither.
 */
bool json_next(struct json container, struct json *name, struct json *value);

/* The last member of this name, as JSON.parse has it; none if there is none or it is no object. */
struct json json_member(struct json object, const char *name);

/* Decodes a string. False if it is none, has a NUL in it, or does not fit with its closing NUL. */
bool json_string(struct json value, char *out, size_t size);
