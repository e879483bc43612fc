// Loads the addon from build/Release and passes it the BpfError class.
import { createRequire } from "node:module";

export class BpfError extends Error {
	/**
	 * @param {string} message
	 * @param {number} errno
	 * @param {string} code
	 */
	constructor(message, errno, code) {
		super(message);
		this.name = "BpfError";
		this.errno = errno;
		this.code = code;
	}
}

function load() {
	const require = createRequire(import.meta.url);
	try {
		return require("../build/Release/fairway.node");
	} catch (cause) {
		throw new Error(
			`Cannot load the native addon: expected build/Release/fairway.node (npm install builds it), ${cause.message}`,
			{ cause },
		);
	}
}

export const {
	BpfObject,
	BpfMap,
	BpfProgram,
	BpfLink,
	RingBuffer,
	PacketSender,
	clsact,
	possibleCpus,
	supportsTcx,
	flock,
	trimMemory,
	sendDatagram,
	runSteps,
	runStepsNow,
	libbpfVersion,
} = load().initialize(BpfError);
