/* CNI's error object, and the end of the process with status 1. */
#pragma once

#include "json.h"

/* The same codes as in src/cni/errors.ts, whose table in src/cni/README.md describes them. */
enum {
	INCOMPATIBLE_VERSION = 1,
	INVALID_ENVIRONMENT = 4,
	IO_FAILURE = 5,
	DECODING_FAILURE = 6,
	INVALID_CONFIGURATION = 7,
	TRY_AGAIN_LATER = 11,
	NOT_AVAILABLE = 50,
};

/* `cniVersion` of the error object from now on; the newest until then. A string that lives on. */
void fail_as_version(const char *version);

/* Prints the error object, its message made of these strings up to NULL. */
__attribute__((sentinel)) _Noreturn void fail(int code, ...);

/* What a message says of a wrong value; the first is valid until the next call. */
const char *shown(struct json value);
const char *shown_string(const char *string);

/* Writes all of it to standard output. */
void print(const char *bytes, size_t length);
