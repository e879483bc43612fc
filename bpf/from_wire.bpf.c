// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* from_wire at TC ingress of a NIC: behind GRO, and alone where XDP cannot be. */
#define FAIRWAY_HOOK HOOK_FROM_WIRE
#include "lib/wire.h"

SEC("tc")
int from_wire(struct __sk_buff *ctx)
{
	struct work *work = work_start();
	int result;

	if (!work)
		return TC_ACT_UNSPEC;
	result = wire_receive(ctx, work, &work->verdict);
	record(&work->verdict);
	return result;
}
