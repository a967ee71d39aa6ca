import type { JobErrorCode } from '../../jobs/error-codes.ts';
import type { Hello, Offer } from '../../jobs/messages.ts';
import type { AccountName } from '../account-name.ts';
import type { Handover } from '../executor/messages.ts';
import type { OpenedCredential } from '../ports.ts';

/** Why a session cannot be had: a code of the domain, and more about it for people. */
export interface SessionFault {
  readonly code: JobErrorCode;
  readonly message: string;
}

/** The session could not be made, or the account may not sign in. */
export class SignInError extends Error {
  readonly code: JobErrorCode;

  constructor({ code, message }: SessionFault) {
    super(message);
    this.name = 'SignInError';
    this.code = code;
  }
}

/** What the rules of sessions are asked about. Source: job-dispatch.md section 7.1. */
export interface SessionWish {
  readonly mode: Offer['mode'];
  /** Undefined: the connection has no credentials, or they could not be opened (which is told later). */
  readonly account: AccountName | undefined;
  readonly hasCredential: boolean;
  readonly reuseSession: boolean;
}

export interface LaunchRequest extends SessionWish {
  /** Only borrowed: whoever opened it wipes it. */
  readonly credential: OpenedCredential | undefined;
  /** Open for writing; only borrowed. */
  readonly files: { readonly log: number; readonly outcome: number };
  readonly handover: Handover;
}

export interface LaunchedExecutor {
  /** What waits for the executor, or is it. */
  readonly pid: number;
  /** The executor must say that it has it; undefined: any. */
  readonly uid: number | undefined;
  /** That process has ended. What it means if the executor had not said hello by then. */
  readonly ended: Promise<SessionFault>;
  /** The session was ended during the run. */
  readonly sessionEnded?: Promise<JobErrorCode>;
  /** The run is over: the session is signed out, or kept for the next. Safe to call twice. */
  release(): void;
}

/** Where runs get their sessions. Source: job-dispatch.md section 7.1, "session host interface". */
export interface SessionHost {
  readonly kind: 'process' | 'os-account' | 'simulated';
  /** Whether `SessionWish.account` makes a difference to `check`. */
  readonly looksAtAccounts: boolean;
  capacity(): Hello['capacity'];
  sessions(): Hello['sessions'];
  /** Undefined: as far as sessions go, the run may be taken now. */
  check(wish: SessionWish): SessionFault | undefined;
  /** Signs in and starts an executor. Rejects with `SignInError`. */
  launch(request: LaunchRequest): Promise<LaunchedExecutor>;
}
