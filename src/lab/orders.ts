/**
 * What a station is asked to do, and what it answers: a JSON line each way over its standard
 * input and output. Hosts are address text; sizes are bytes of payload.
 */
export interface Orders {
	/** Hashes what each connection brings until its end, then answers with a TcpReceipt. */
	tcpServe: { order: { port: number }; answer: { port: number } };
	/** Sends pseudo-random bytes, ends, and waits for the receipt. */
	tcpSend: { order: TcpSend; answer: TcpResult };
	/** Sends every datagram back; counts numbered ones; answers "who" with the sender's address. */
	udpServe: { order: { port: number }; answer: { port: number } };
	/** The numbered datagrams that the server on this port has got, of one stream. */
	udpReport: { order: { port: number; stream: number }; answer: UdpReport };
	/** One datagram of each size, each until it comes back whole. */
	udpExchange: { order: UdpExchange; answer: UdpExchangeResult };
	/** From which address and port a server sees this station. */
	udpWho: { order: UdpTarget & { timeoutMs?: number }; answer: { address: string; port: number } };
	/** A numbered stream, until udpStop. */
	udpStream: { order: UdpTarget & { rate: number; size?: number }; answer: { stream: number } };
	udpStop: { order: { stream: number }; answer: { sent: number; returned: number } };
	/** One datagram as given (base64), no answer waited for. */
	udpSend: { order: UdpTarget & { payload: string }; answer: { sent: number } };
	/** A datagram from each of these source addresses, which must be bindable. */
	udpFlood: {
		order: UdpTarget & { sources: string[] };
		answer: { sent: number };
	};
	/** Closes the server on a port. */
	close: { order: { port: number }; answer: { port: number } };
}

export interface UdpTarget {
	host: string;
	port: number;
	localAddress?: string;
	localPort?: number;
}

export interface TcpSend extends UdpTarget {
	bytes: number;
	seed: number;
	/** Bytes a second; default: as fast as it goes. */
	rate?: number;
	timeoutMs?: number;
}

export interface TcpReceipt {
	bytes: number;
	sha256: string;
	/** The client as the server saw it. */
	address: string;
	port: number;
}

export interface TcpResult extends TcpReceipt {
	/** What arrived is what was sent. */
	whole: boolean;
	milliseconds: number;
}

export interface UdpExchange extends UdpTarget {
	sizes: number[];
	seed: number;
	/** For one try of one datagram. Default 1000. */
	timeoutMs?: number;
	/** Default 3: the first may be what path MTU discovery costs. */
	tries?: number;
}

export interface UdpExchangeResult {
	/** Sizes that did not come back. */
	missing: number[];
	/** Sizes that came back with other content. */
	corrupt: number[];
	/** Sizes that needed more than one try. */
	retried: number[];
}

export interface UdpReport {
	received: number;
	/** Highest number + 1. */
	expected: number;
	/** The first hundred numbers that never came. */
	missing: number[];
	duplicates: number;
	/** Came after a higher number. */
	late: number;
	/** Source addresses and ports, "ADDRESS PORT". */
	senders: string[];
}
