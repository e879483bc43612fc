/*
 * Feeds cni/json.c with the documents on standard input, each preceded by its length (4 bytes, little
 * endian). A line for each: "-" if it is no JSON, else the document, put together anew from its pieces.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../cni/json.h"
#include "../../cni/text.h"

static void render(struct text *out, struct json value)
{
	struct json name = { NULL, NULL }, one = { NULL, NULL };
	char kind = json_kind(value);
	char *string = malloc(value.end - value.start + 1);
	const char *comma = "";

	if (kind == '"' && json_string(value, string, value.end - value.start + 1)) {
		text_quoted(out, string, strlen(string));
	} else if (kind != '{' && kind != '[') {
		text_bytes(out, value.start, value.end - value.start);
	} else {
		text_bytes(out, &kind, 1);
		for (; json_next(value, &name, &one); comma = ",") {
			text_string(out, comma);
			if (kind == '{') {
				text_bytes(out, name.start, name.end - name.start);
				text_string(out, ":");
			}
			render(out, one);
		}
		text_string(out, kind == '{' ? "}" : "]");
	}
	free(string);
}

int main(void)
{
	static char line[1 << 20];
	uint32_t length;

	while (fread(&length, sizeof(length), 1, stdin) == 1) {
		/* Of this length exactly, so that the sanitizer sees a byte too far. */
		char *document = malloc(length > 0 ? length : 1);
		struct text out = TEXT(line);
		struct json value;
		size_t wrong = 0;

		if (fread(document, 1, length, stdin) != length)
			return 1;
		value = json_read(document, length, &wrong);
		if (value.start == NULL && wrong <= length)
			text_string(&out, "-");
		else
			render(&out, value);
		printf("%.*s\n", (int)out.length, out.bytes);
		free(document);
	}
	return 0;
}
