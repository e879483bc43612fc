/**
 * Every code that a CNI error object of Fairway can carry. 1 to 99 are the specification's,
 * 100 and above our own. The table in README.md of this folder is tested against this one.
 */
export const ErrorCode = {
	/** The configuration asks for a CNI version that Fairway does not speak, or a command that its version does not have. */
	INCOMPATIBLE_VERSION: 1,
	/** The configuration has a field that asks for what Fairway does not do. */
	UNSUPPORTED_FIELD: 2,
	/** CHECK of a container that is not attached. */
	UNKNOWN_CONTAINER: 3,
	/** A CNI_* variable is missing or unusable. */
	INVALID_ENVIRONMENT: 4,
	/** Standard input, the run directory or the agent's socket could not be read or written. */
	IO_FAILURE: 5,
	/** The configuration is not JSON, or is not an object. */
	DECODING_FAILURE: 6,
	/** The configuration is JSON with a missing or wrong value. */
	INVALID_CONFIGURATION: 7,
	/** The agent is down or not ready, or every address is taken: what is tried later may succeed. */
	TRY_AGAIN_LATER: 11,
	/** STATUS: ADD would fail now. */
	NOT_AVAILABLE: 50,
	/** The kernel refused an interface, address, neighbour or route; nothing of it is left. */
	KERNEL_REFUSED: 100,
	/** CHECK found something missing or changed. */
	CHECK_FAILED: 101,
	/** The data path could not be attached to the Pod's interface; nothing of it is left. */
	DATA_PATH: 102,
} as const;

export type ErrorCode = (typeof ErrorCode)[keyof typeof ErrorCode];

/** A failure with a CNI error code. `message` is one sentence, `details` may be several. */
export class CniError extends Error {
	override readonly name = "CniError";
	readonly code: ErrorCode;
	readonly details: string | undefined;

	constructor(code: ErrorCode, message: string, details?: string) {
		super(message);
		this.code = code;
		this.details = details;
	}
}

/** The error object of the specification. */
export interface ErrorObject {
	cniVersion: string;
	code: number;
	msg: string;
	details?: string;
}

export function errorObject(error: unknown, cniVersion: string): ErrorObject {
	if (error instanceof CniError) {
		const object = { cniVersion, code: error.code, msg: error.message };
		return error.details === undefined ? object : { ...object, details: error.details };
	}
	const message = error instanceof Error ? error.message : String(error);
	return { cniVersion, code: ErrorCode.IO_FAILURE, msg: message };
}
