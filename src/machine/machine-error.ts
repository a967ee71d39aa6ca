import type { JobErrorCode } from '../jobs/error-codes.ts';

/**
 * Why something with the machine's own things cannot go on; messages are for people and say what to do.
 *
 * - `State`: the state folder, or a file in it, is not as it must be.
 * - `NotRegistered`: there is no registration here, or the control plane does not know it any more.
 * - `Refused`: what came from outside is not taken: a password, a key, a tenant.
 * - `Busy`: another process of the service uses the state folder.
 */
export type MachineFault = 'State' | 'NotRegistered' | 'Refused' | 'Busy';

export class MachineError extends Error {
  override readonly name = 'MachineError';
  readonly fault: MachineFault;
  /** The domain's code, where there is one for it. */
  readonly code: JobErrorCode | undefined;

  constructor(
    fault: MachineFault,
    message: string,
    details: { readonly code?: JobErrorCode; readonly cause?: unknown } = {},
  ) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.fault = fault;
    this.code = details.code;
  }
}

/** Whether an error of the operating system has this code, as `ENOENT`. */
export function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}

/** The text of whatever was thrown. */
export function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
