/* Classes of bytes in JSON. */
#pragma once

#include <stdbool.h>

static inline bool is_space(char byte)
{
	return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
}

static inline bool is_digit(char byte)
{
	return byte >= '0' && byte <= '9';
}

/* -1: none */
static inline int hex_digit(char byte)
{
	if (is_digit(byte))
		return byte - '0';
	if (byte >= 'a' && byte <= 'f')
		return byte - 'a' + 10;
	if (byte >= 'A' && byte <= 'F')
		return byte - 'A' + 10;
	return -1;
}
