/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The checksum of SCTP packets whose ports change: a CRC32c of the whole packet (RFC 9260, appendix A).
 *
 * A CRC is linear: two packets of one length whose first four bytes differ by D have CRCs that differ by
 * D * x^(8 * length) mod P, whatever is behind those bytes. So nothing else is read. The power is a product
 * of at most sixteen factors, one for each bit of the length; each costs some 40 ns.
 */
#ifndef FAIRWAY_SCTP_H
#define FAIRWAY_SCTP_H

#include "packet.h"

/* Polynomials have the coefficient of x^0 in bit 31. */
#define CRC32C_POLYNOMIAL 0x82f63b78
#define SCTP_CHECKSUM 8
#define SCTP_LENGTH_BITS 16

/* x^(8 * 2^k) mod P */
static const __u32 crc_powers[SCTP_LENGTH_BITS] = {
	0x00800000, 0x00008000, 0x82f63b78, 0x6ea2d55c, 0x18b8ea18, 0x510ac59a,
	0xb82be955, 0xb8fdb1e7, 0x88e56f72, 0x74c360a4, 0xe4172b16, 0x0d65762a,
	0x35d73a62, 0x28461564, 0xbf455269, 0xe2ea32dc,
};

struct crc_shift {
	__u32 crc;
	__u32 length;
};

static long crc_shift_by(__u32 bit, struct crc_shift *shift)
{
	__u32 factor, crc = shift->crc, product = 0;
	int i;

	if (bit >= SCTP_LENGTH_BITS || !(shift->length >> bit & 1))
		return 0;
	factor = crc_powers[bit];
	for (i = 0; i < 32; i++) {
		product ^= -(factor >> 31) & crc;
		factor <<= 1;
		crc = crc >> 1 ^ (-(crc & 1) & CRC32C_POLYNOMIAL);
	}
	shift->crc = product;
	return 0;
}

/*
 * Corrects the checksum of an SCTP packet for `change`: its ports before ^ after, as on the wire. A
 * sender that leaves the checksum to the NIC has written 0, which is kept. A first fragment lacks a part of what its
 * checksum covers: such a packet is lost at its receiver.
 */
#define sctp_checksum FOR_HOOK(sctp_checksum)
stage int sctp_checksum(context *ctx, const struct packet *packet, __u32 change)
{
	struct crc_shift shift = { .crc = change };
	__u32 checksum;

	if (!packet)
		return -1;
	if (packet->flags & PACKET_FRAGMENT)
		return 0;
	shift.length = packet->length - (packet->l4 - packet->l3);
	if (load(ctx, packet->l4 + SCTP_CHECKSUM, &checksum, sizeof(checksum)))
		return -1;
	if (!checksum)
		return 0;
	bpf_loop(SCTP_LENGTH_BITS, crc_shift_by, &shift, 0);
	/* On the wire its low byte comes first. */
	checksum ^= shift.crc;
	return store_summed(ctx, packet->l4 + SCTP_CHECKSUM, &checksum, sizeof(checksum));
}

#endif
