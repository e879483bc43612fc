/*
 * What the agent is to remove when it is back: a file in RUN_DIR/deletions for each DEL, and one for each
 * network's last GC. src/cni/deletions.ts reads them.
 *
 * A note is complete or absent, also after a power failure: written under another name, synced, renamed. It
 * says when its call began, so that the agent spares what has been attached since.
 */
#pragma once

#include <limits.h>

#include "call.h"
#include "network.h"

struct note {
	char path[PATH_MAX];
};

/* False if no agent has run since the Node started: nothing is attached then. */
bool note_has_directory(const struct network *network);

/*
 * Always true for what the agent has a record of. Runtimes try a Pod again and again while the agent is down,
 * each time with another id and a DEL for the one before; notes of what has never been attached would
 * fill the memory that RUN_DIR is in. So only the first thousand are written: an interface that an ADD left
 * without a record vanishes with the Pod's namespace.
 */
bool note_is_needed(const struct network *network, const struct call *call);

/* These fail with a CNI error if the note cannot be written. */
void note_deletion(struct note *note, const struct network *network, const struct call *call);
void note_collection(struct note *note, const struct network *network, struct json valid);

void note_remove(const struct note *note);
