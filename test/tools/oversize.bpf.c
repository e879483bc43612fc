// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Marks packets that are longer than DEVICE's MTU after segmentation. A packet filter sees a TCP
 * packet of up to 64 KB that has not been segmented yet, and not the length of its segments.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define TC_ACT_UNSPEC (-1)

SEC("tc") int oversize(struct __sk_buff *skb)
{
	__u32 length = 0;

	if (bpf_check_mtu(skb, DEVICE, &length, 0, BPF_MTU_CHK_SEGS) != 0)
		skb->mark |= MARK;
	return TC_ACT_UNSPEC;
}

char _license[] SEC("license") = "GPL";
