/** What is used of the npm package raw-socket, which has no types of its own. */
declare module "raw-socket" {
	export interface Socket {
		/** `done` gets the errno's text where sendto failed. */
		send(
			buffer: Buffer,
			offset: number,
			length: number,
			address: string,
			done: (error: Error | null, bytes: number) => void,
		): this;
		/** `value`: an int. Throws what setsockopt says. */
		setOption(level: number, option: number, value: number): void;
		pauseRecv(): this;
		close(): this;
		/** What `send` calls when the socket can be written to: sendto at once; throws its errno's text. */
		readonly wrap: {
			send(
				buffer: Buffer,
				offset: number,
				length: number,
				address: string,
				done: (bytes: number) => void,
			): void;
		};
		on(event: "error", listener: (error: Error) => void): this;
		on(event: "close", listener: () => void): this;
	}
	const raw: {
		AddressFamily: { IPv4: number; IPv6: number };
		createSocket(options: { protocol: number; addressFamily: number }): Socket;
	};
	export default raw;
}
