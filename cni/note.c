#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"
#include "deadline.h"
#include "fail.h"
#include "note.h"

/* Of attachments without a record. */
#ifndef NOTES_MAX
#define NOTES_MAX 1000
#endif

/* ------------------------------------------------------ writing */

/* The run directory is at most a socket's path, the rest a file name: all of it fits. */
static void join(char path[PATH_MAX], const char *directory, const char *a, const char *b)
{
	struct text text = { .bytes = path, .size = PATH_MAX };

	text_string(&text, directory);
	text_string(&text, a);
	text_string(&text, b);
	text_bytes(&text, "", 1);
}

static _Noreturn void cannot_write(const char *path)
{
	int error = errno;

	fail(IO_FAILURE, "Cannot write ", path, ": ", strerror(error), NULL);
}

static bool write_all(int fd, const struct text *text)
{
	for (size_t done = 0; done < text->length;) {
		ssize_t written = write(fd, text->bytes + done, text->length - done);

		if (written < 0 && errno != EINTR)
			return false;
		if (written > 0)
			done += written;
	}
	return true;
}

static void write_note(struct note *note, const struct network *network, const char *name,
		       const struct text *text)
{
	char directory[PATH_MAX], aside[PATH_MAX];
	char pid_bytes[24];
	struct text pid = TEXT(pid_bytes);
	int fd;

	text_string(&pid, ".");
	text_number(&pid, getpid());
	text_bytes(&pid, "", 1);
	join(directory, network->run_dir, "/deletions", "");
	join(note->path, directory, "/", name);
	join(aside, note->path, pid.bytes, "");
	if (mkdir(directory, 0700) < 0 && errno != EEXIST)
		cannot_write(directory);
	fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		cannot_write(aside);
	if (!write_all(fd, text) || fsync(fd) < 0 || close(fd) < 0 ||
	    rename(aside, note->path) < 0) {
		int error = errno;

		unlink(aside);
		errno = error;
		cannot_write(note->path);
	}
	fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0)
		cannot_write(directory);
	close(fd);
}

static void encode_start(struct text *text, const struct network *network)
{
	text_string(text, "{\"at\":");
	text_number(text, call_started());
	text_string(text, ",\"network\":\"");
	text_string(text, network->name);
	text_string(text, "\"");
}

void note_deletion(struct note *note, const struct network *network, const struct call *call)
{
	char bytes[1024], name_bytes[NAME_MAX + 1];
	struct text text = TEXT(bytes), name = TEXT(name_bytes);

	encode_start(&text, network);
	text_string(&text, ",\"containerId\":\"");
	text_string(&text, call->container_id);
	text_string(&text, "\",\"ifName\":\"");
	text_string(&text, call->if_name);
	text_string(&text, "\"}");
	/* Ids contain no comma, and together they fit into a file name. */
	text_string(&name, network->name);
	text_string(&name, ",");
	text_string(&name, call->container_id);
	text_string(&name, ",");
	text_string(&name, call->if_name);
	text_bytes(&name, ".json", sizeof(".json"));
	write_note(note, network, name.bytes, &text);
}

void note_collection(struct note *note, const struct network *network, struct json valid)
{
	static char bytes[REQUEST_MAX];
	char name_bytes[NAME_MAX + 1];
	struct text text = TEXT(bytes), name = TEXT(name_bytes);

	encode_start(&text, network);
	text_string(&text, ",\"validAttachments\":");
	text_bytes(&text, valid.start, valid.end - valid.start);
	text_string(&text, "}");
	text_string(&name, network->name);
	text_bytes(&name, ".json", sizeof(".json"));
	write_note(note, network, name.bytes, &text);
}

void note_remove(const struct note *note)
{
	unlink(note->path);
}

/* ------------------------------------------------------ reading */

bool note_has_directory(const struct network *network)
{
	return access(network->run_dir, F_OK) == 0 || errno != ENOENT;
}

static bool is_string(struct json object, const char *name, const char *wanted)
{
	char value[256];

	return json_string(json_member(object, name), value, sizeof(value)) &&
	       strcmp(value, wanted) == 0;
}

/* A record that cannot be read may be that of this attachment. */
static bool may_record(const char *path, const struct network *network, const struct call *call)
{
	static char bytes[65536];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	ssize_t length;
	size_t wrong;
	struct json record;

	if (fd < 0)
		return errno != ENOENT;
	length = read(fd, bytes, sizeof(bytes));
	close(fd);
	if (length < 0)
		return true;
	record = json_read(bytes, length, &wrong);
	if (json_kind(record) != '{')
		return true;
	return is_string(record, "network", network->name) &&
	       is_string(record, "containerId", call->container_id) &&
	       is_string(record, "ifName", call->if_name);
}

/* The agent knows this attachment, or may know it. */
static bool is_recorded(const struct network *network, const struct call *call)
{
	char directory[PATH_MAX], path[PATH_MAX];
	bool found = false;
	struct dirent *entry;
	DIR *records;

	join(directory, network->run_dir, "/endpoints", "");
	records = opendir(directory);
	if (records == NULL)
		return errno != ENOENT;
	while (!found && (entry = readdir(records)) != NULL) {
		size_t length = strlen(entry->d_name);

		if (length < 5 || strcmp(entry->d_name + length - 5, ".json") != 0)
			continue;
		join(path, directory, "/", entry->d_name);
		found = may_record(path, network, call);
	}
	closedir(records);
	return found;
}

static bool has_room(const struct network *network)
{
	char directory[PATH_MAX];
	int count = 0;
	DIR *notes;

	join(directory, network->run_dir, "/deletions", "");
	notes = opendir(directory);
	if (notes == NULL)
		return true;
	while (readdir(notes) != NULL)
		count++;
	closedir(notes);
	return count < NOTES_MAX;
}

bool note_is_needed(const struct network *network, const struct call *call)
{
	return has_room(network) || is_recorded(network, call);
}
