#include <string.h>

#include "text.h"

void text_bytes(struct text *text, const char *bytes, size_t length)
{
	if (text->full || length > text->size - text->length) {
		text->full = true;
		return;
	}
	memcpy(text->bytes + text->length, bytes, length);
	text->length += length;
}

void text_string(struct text *text, const char *string)
{
	text_bytes(text, string, strlen(string));
}

void text_number(struct text *text, unsigned long long number)
{
	char digits[20];
	size_t first = sizeof(digits);

	do {
		digits[--first] = '0' + number % 10;
		number /= 10;
	} while (number > 0);
	text_bytes(text, digits + first, sizeof(digits) - first);
}

void text_quoted(struct text *text, const char *bytes, size_t length)
{
	static const char hex[] = "0123456789abcdef";

	text_string(text, "\"");
	for (size_t i = 0; i < length;) {
		unsigned char byte = bytes[i];
		size_t width = utf8_length(bytes + i, length - i);

		if (byte == '"' || byte == '\\') {
			text_string(text, "\\");
			text_bytes(text, bytes + i, 1);
		} else if (byte < 0x20) {
			char escaped[6] = { '\\', 'u', '0', '0', hex[byte >> 4], hex[byte & 15] };

			text_bytes(text, escaped, sizeof(escaped));
		} else if (width == 0) {
			text_string(text, "\xef\xbf\xbd");
		} else {
			text_bytes(text, bytes + i, width);
		}
		i += width > 0 ? width : 1;
	}
	text_string(text, "\"");
}

size_t utf8_length(const char *text, size_t length)
{
	const unsigned char *bytes = (const unsigned char *)text;
	size_t width = bytes[0] < 0x80 ? 1 : bytes[0] < 0xe0 ? 2 : bytes[0] < 0xf0 ? 3 : 4;

	if (width == 1)
		return 1;
	if (bytes[0] < 0xc2 || bytes[0] > 0xf4 || width > length)
		return 0;
	for (size_t i = 1; i < width; i++)
		if ((bytes[i] & 0xc0) != 0x80)
			return 0;
	/* Longer than needed, a surrogate, or beyond U+10FFFF. */
	if ((bytes[0] == 0xe0 && bytes[1] < 0xa0) || (bytes[0] == 0xed && bytes[1] > 0x9f) ||
	    (bytes[0] == 0xf0 && bytes[1] < 0x90) || (bytes[0] == 0xf4 && bytes[1] > 0x8f))
		return 0;
	return width;
}
