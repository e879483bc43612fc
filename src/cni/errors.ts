/**
 * Every code of Fairway's CNI error objects. 1 to 99 are defined by the specification, 100 and above by
 * Fairway. A test compares the table in this folder's README.md with this one.
 */
export const ErrorCode = {
	/** The configuration asks for a CNI version that Fairway does not support, or a command that its version lacks. */
	INCOMPATIBLE_VERSION: 1,
	/** The configuration has a field that asks for something that Fairway does not do. */
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
	/**
	 * The agent is down or not ready, the Pod or its policies are not known, or all addresses are taken: a later
	 * try may succeed.
	 */
	TRY_AGAIN_LATER: 11,
	/** STATUS: ADD would fail now. */
	NOT_AVAILABLE: 50,
	/** The kernel refused an interface, address, neighbour or route; nothing is left behind. */
	KERNEL_REFUSED: 100,
	/** CHECK found something missing or changed. */
	CHECK_FAILED: 101,
	/** The data path could not be attached to the Pod's interface; nothing is left behind. */
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
