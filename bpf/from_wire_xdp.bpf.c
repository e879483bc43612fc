// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* from_wire at XDP of a NIC: decapsulates before GRO, and redirects packets that GRO cannot merge
 * straight into the Pod. */
#define FAIRWAY_XDP
#define FAIRWAY_HOOK HOOK_FROM_WIRE_XDP
#include "lib/from_wire.h"

SEC("xdp.frags")
int from_wire_xdp(struct xdp_md *ctx)
{
	int result = established_receive(ctx);
	struct work *work;

	if (result != NOT_ESTABLISHED)
		return result;
	work = work_start();
	if (!work)
		return XDP_PASS;
	result = wire_receive(ctx, work);
	record(&work->verdict);
	return result;
}
