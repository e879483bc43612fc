/**
 * The orders of a station and their answers: one JSON line in each direction over its standard input
 * and output. Hosts are address text; sizes are payload bytes.
 */
export interface Orders {
	/** Hashes the data of each connection until it ends, then answers with a TcpReceipt. */
	tcpServe: { order: { port: number }; answer: { port: number } };
	/** Sends pseudo-random bytes, closes its side, and waits for the receipt. */
	tcpSend: { order: TcpSend; answer: TcpResult };
	/** Echoes every datagram; counts numbered ones; answers "who" with the sender's address. */
	udpServe: { order: { port: number; fragmentable?: boolean }; answer: { port: number } };
	/** The numbered datagrams of one stream that the server on this port has received. */
	udpReport: { order: { port: number; stream: number }; answer: UdpReport };
	/** Sends one datagram of each size, each until it comes back unchanged. */
	udpExchange: { order: UdpExchange; answer: UdpExchangeResult };
	/** The address and port that a server sees for this station. */
	udpWho: {
		/** `connected`: as to a connected socket, an answer from elsewhere is none. */
		order: UdpTarget & { timeoutMs?: number; connected?: boolean };
		answer: { address: string; port: number };
	};
	/** Sends a numbered stream until udpStop. */
	udpStream: { order: UdpTarget & { rate: number; size?: number }; answer: { stream: number } };
	/** `echo`: the echoes that arrived, and when. */
	udpStop: {
		order: { stream: number };
		answer: { sent: number; returned: number; echo: UdpReport };
	};
	/** The echoes so far. */
	udpEcho: { order: { stream: number }; answer: UdpReport };
	/** Sends one datagram as given (base64) without waiting for an answer. */
	udpSend: { order: UdpTarget & { payload: string }; answer: { sent: number } };
	/** Sends a datagram from each of these source addresses, which must be bindable. */
	udpFlood: {
		order: UdpTarget & { sources: string[] };
		answer: { sent: number };
	};
	/** Accepts bulkStart, and sends at the same rate in return. */
	bulkServe: { order: { port: number }; answer: { port: number } };
	/** TCP in both directions until bulkStop. */
	bulkStart: { order: BulkTarget; answer: { stream: number } };
	/** Progress at this end, client or server. */
	bulkReport: { order: { stream: number }; answer: BulkProgress };
	bulkStop: { order: { stream: number }; answer: { stream: number } };
	/** Closes the server on a port. */
	close: { order: { port: number }; answer: { port: number } };
}

export interface UdpTarget {
	host: string;
	port: number;
	localAddress?: string;
	localPort?: number;
	/** IPv4 without DF: routers may fragment it. Default: with DF, as Linux sends UDP. */
	fragmentable?: boolean;
}

export interface BulkTarget {
	host: string;
	port: number;
	/** Bytes a second in each direction. Default 2,000,000. */
	rate?: number;
}

/** Times are milliseconds of the machine's monotonic clock. */
export interface BulkProgress {
	received: number;
	startMs: number;
	/** Length of a slot in milliseconds; slots begin at startMs and count bytes. */
	slotMs: number;
	slots: number[];
	/** The longest time without a byte, including a current one. */
	longestStallMs: number;
	stalledFromMs: number;
}

/** A period of loss, from the last arrival before it to the first after it. */
export interface Gap {
	/** Milliseconds of the machine's monotonic clock. */
	fromMs: number;
	toMs: number;
	lost: number;
}

export interface TcpSend extends UdpTarget {
	bytes: number;
	seed: number;
	/** Bytes a second; default: unlimited. */
	rate?: number;
	/** Time without progress after which it has failed. Default 30,000. */
	timeoutMs?: number;
}

export interface TcpReceipt {
	bytes: number;
	sha256: string;
	/** The client as the server saw it. */
	address: string;
	port: number;
	/** The address at which the server has the connection. */
	server: string;
}

export interface TcpResult extends TcpReceipt {
	/** True: the data arrived unchanged. */
	whole: boolean;
	milliseconds: number;
}

export interface UdpExchange extends UdpTarget {
	sizes: number[];
	seed: number;
	/** Time-out for one try of one datagram. Default 1000. */
	timeoutMs?: number;
	/** Default 3: path MTU discovery may cost the first. */
	tries?: number;
}

export interface UdpExchangeResult {
	/** Sizes that did not come back. */
	missing: number[];
	/** Sizes that came back changed. */
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
	/** Arrived after a higher number. */
	late: number;
	/** Source addresses and ports, "ADDRESS PORT". */
	senders: string[];
	/** The longest time between two arrivals. */
	longestPauseMs: number;
	/** The fifty longest, in order of time. A stream that never resumed has no end and is not included. */
	outages: Gap[];
}
