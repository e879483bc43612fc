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
	udpServe: { order: { port: number; fragmentable?: boolean }; answer: { port: number } };
	/** The numbered datagrams that the server on this port has got, of one stream. */
	udpReport: { order: { port: number; stream: number }; answer: UdpReport };
	/** One datagram of each size, each until it comes back whole. */
	udpExchange: { order: UdpExchange; answer: UdpExchangeResult };
	/** From which address and port a server sees this station. */
	udpWho: { order: UdpTarget & { timeoutMs?: number }; answer: { address: string; port: number } };
	/** A numbered stream, until udpStop. */
	udpStream: { order: UdpTarget & { rate: number; size?: number }; answer: { stream: number } };
	/** `echo`: what came back, and when. */
	udpStop: {
		order: { stream: number };
		answer: { sent: number; returned: number; echo: UdpReport };
	};
	/** What has come back so far. */
	udpEcho: { order: { stream: number }; answer: UdpReport };
	/** One datagram as given (base64), no answer waited for. */
	udpSend: { order: UdpTarget & { payload: string }; answer: { sent: number } };
	/** A datagram from each of these source addresses, which must be bindable. */
	udpFlood: {
		order: UdpTarget & { sources: string[] };
		answer: { sent: number };
	};
	/** Takes bulkStart, and sends as much in return. */
	bulkServe: { order: { port: number }; answer: { port: number } };
	/** TCP both ways, until bulkStop. */
	bulkStart: { order: BulkTarget; answer: { stream: number } };
	/** What this end has received; of the client or of the server. */
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
	/** IPv4 without DF: any router may cut it. Default: with DF, as Linux sends UDP. */
	fragmentable?: boolean;
}

export interface BulkTarget {
	host: string;
	port: number;
	/** Bytes a second each way. Default 2,000,000. */
	rate?: number;
}

/** Times are milliseconds of the machine's monotonic clock. */
export interface BulkProgress {
	received: number;
	startMs: number;
	/** Bytes in each so many milliseconds from startMs on. */
	slotMs: number;
	slots: number[];
	/** The longest time without a byte, the one that still lasts included. */
	longestStallMs: number;
	stalledFromMs: number;
}

/** A time in which packets were lost, from the last that came before to the first after. */
export interface Gap {
	/** Milliseconds of the machine's monotonic clock. */
	fromMs: number;
	toMs: number;
	lost: number;
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
	/** The longest time between two arrivals. */
	longestPauseMs: number;
	/** The fifty longest, in their order. What never came again has no end and is not among them. */
	outages: Gap[];
}
