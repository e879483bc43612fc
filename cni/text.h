/* A text of limited length, UTF-8, that is put together piece by piece. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct text {
	char *bytes;
	size_t length;
	size_t size;
	/* A piece did not fit and was left out, with all that followed. */
	bool full;
};

#define TEXT(array) { .bytes = (array), .size = sizeof(array) }

void text_bytes(struct text *text, const char *bytes, size_t length);
void text_string(struct text *text, const char *string);
void text_number(struct text *text, unsigned long long number);

/* A JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD. */
void text_quoted(struct text *text, const char *bytes, size_t length);

/* The length of the UTF-8 character (RFC 3629) at `bytes`, or 0 if there is none. */
size_t utf8_length(const char *bytes, size_t length);
