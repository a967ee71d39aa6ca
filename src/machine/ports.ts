import type { OpeningFault } from '../crypto/open-envelope.ts';
import type { JobErrorCode } from '../jobs/error-codes.ts';
import type {
  Cancel,
  Hello,
  Offer,
  OfferAnswer,
  Progress,
  Renewed,
  Result,
} from '../jobs/messages.ts';

// The seam within the machine service: one half speaks with the control plane and holds the keys
// (registration, tokens, listener, REST), the other carries out runs (journal, executors, sessions).

/** One attempt of a run; everything that is reported names it. */
export interface Attempt {
  readonly runId: string;
  readonly attempt: number;
  readonly fence: number;
}

/** Why a report was not taken. */
export class ReportError extends Error {
  /** `Unreachable`: no answer, or one that was not the control plane's; it may have been taken. */
  readonly code: JobErrorCode | 'Unreachable';
  /** The same report would be answered the same again: do not repeat it. */
  readonly isFinal: boolean;

  constructor(code: JobErrorCode | 'Unreachable', isFinal: boolean, options?: ErrorOptions) {
    super(`The report was not taken: ${code}`, options);
    this.name = 'ReportError';
    this.code = code;
    this.isFinal = isFinal;
  }
}

export interface LogChunk extends Attempt {
  /** Where it begins in this attempt's log, in bytes. */
  readonly offset: number;
  /** Of the plain bytes, in lower-case hex. */
  readonly sha256: string;
  /** Plain: compressing them for the way is the reporter's. At most `limits.chunkBytes`. */
  readonly bytes: Uint8Array;
}

export interface LogAnswer {
  /** False: there is a gap before it; send from `nextOffset` on. */
  readonly isTaken: boolean;
  readonly nextOffset: number;
  /** As much is kept as may be: send no more. */
  readonly isTruncated: boolean;
}

/**
 * Reports to the control plane, each as one request with a time limit of its own: the caller repeats.
 * Every method rejects with `ReportError` and nothing else; `LeaseLost` is final. Implemented by the
 * service half, over REST.
 */
export interface RunReporter {
  /** `instance`: of this process of the service, as in its hello. */
  start(
    about: Attempt & { readonly instance: string; readonly agentVersion: string },
  ): Promise<Renewed>;
  renew(about: Attempt, isLaunched: boolean): Promise<Renewed>;
  startInterrupted(about: Attempt): Promise<void>;
  result(result: Result): Promise<void>;
  progress(progress: Progress): Promise<void>;
  log(chunk: LogChunk): Promise<LogAnswer>;
}

/** An account to sign in with. Whoever takes it wipes `password` when done. */
export interface OpenedCredential {
  /** As the connection has it; any of the forms of job-dispatch.md section 6. */
  readonly user: string;
  /** May be empty. */
  readonly domain?: string;
  readonly password: Buffer;
}

/** Why sealed things stay shut; no sign-in is tried then. */
export class OpeningError extends Error {
  readonly code: OpeningFault;

  constructor(code: OpeningFault) {
    super(`The sealed credentials or inputs stay shut: ${code}`);
    this.name = 'OpeningError';
    this.code = code;
  }
}

/**
 * Opens what is sealed to this machine or its group, bound to the machine's own configuration.
 * Rejects with `OpeningError`. Implemented by the service half, which has the keys. That a version is
 * not older than one seen before is checked by the caller, from its journal.
 */
export interface CredentialOpener {
  /** Called only for offers that have both `connection` and `credential`. */
  open(offer: Offer): Promise<OpenedCredential>;
  /** All `sealedInputs` of the offer by name; whoever takes them wipes them. */
  openInputs(offer: Offer): Promise<Readonly<Record<string, Buffer>>>;
}

/** What the control plane makes of an entry of the journal that it was told in a hello. */
export type Standing = 'current' | 'over' | 'lost';

/** A run that this machine has in hand, for people. Nothing of it is secret. */
export interface RunInHand extends Attempt {
  readonly state: Hello['journal'][number]['state'];
  readonly mode: Offer['mode'];
  readonly jobRef: string;
  /** Wall clock. */
  readonly acceptedAtMs: number;
}

/** Where jobs come in. Implemented by the execution half; `openJobDoor` makes it. */
export interface JobDoor {
  /**
   * Answers an offer whose signature was checked. Asked again it gives the same answer. Does not
   * reject; settles after at most a few writes to disk, long before the job is done.
   */
  offer(offer: Offer): Promise<OfferAnswer>;
  /** Unknown runs are passed over. Renewals bring the same word, so losing it does no harm. */
  cancel(cancel: Cancel): void;
  /** For a hello. */
  journal(): Hello['journal'];
  sessions(): Hello['sessions'];
  capacity(): Hello['capacity'];
  /** Of the hello's answer. */
  standings(standings: readonly { readonly runId: string; readonly standing: Standing }[]): void;
  runs(): readonly RunInHand[];
  /** While true every new offer is refused with `MachineInMaintenance`; runs in hand go on. */
  setDraining(isDraining: boolean): void;
  /** Takes up what the last process of the service left. Once, before the first offer and hello. */
  recover(): Promise<void>;
  /** Lets go without ending anything: executors go on and are taken up by the next process. */
  close(): Promise<void>;
}
