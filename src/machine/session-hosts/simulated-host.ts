import { homedir } from 'node:os';
import * as v from 'valibot';
import { isJobErrorCode, JOB_ERRORS, type JobErrorCode } from '../../jobs/error-codes.ts';
import { isSameAccount, parseAccountName, type AccountName } from '../account-name.ts';
import { outsideEnvironment } from '../executor/command-job.ts';
import { executorProgram } from '../executor-program.ts';
import { notStarted } from './process-host.ts';
import {
  SignInError,
  type LaunchedExecutor,
  type LaunchRequest,
  type SessionFault,
  type SessionHost,
  type SessionWish,
} from './session-host.ts';
import { spawnExecutor } from './spawn-executor.ts';

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const code = v.custom<JobErrorCode>(value => typeof value === 'string' && isJobErrorCode(value));
const state = v.picklist(['active', 'locked', 'disconnected']);

/** A computer that is not there: who may sign in, and who is. */
export const simulatedTableSchema = v.object({
  /** Desktop systems allow one session. */
  system: v.optional(v.picklist(['desktop', 'server']), 'server'),
  capacity: v.optional(v.object({ unattended: count, attended: count }), {
    unattended: 1,
    attended: 1,
  }),
  /** Undefined: everybody, with any password. */
  users: v.optional(
    v.array(
      v.object({
        name: v.string(),
        /** Undefined: any. */
        password: v.optional(v.string()),
        isLockedOut: v.optional(v.boolean()),
        mayLogOn: v.optional(v.boolean()),
        mayUseRemoteSessions: v.optional(v.boolean()),
      }),
    ),
  ),
  /** Of people. */
  sessions: v.optional(v.array(v.object({ user: v.string(), state })), []),
  sessionsMax: v.optional(count),
  /** Somebody records a job, or runs one, at the computer itself. */
  isRecording: v.optional(v.boolean()),
  isRunningLocally: v.optional(v.boolean()),
  hasRemoteSessions: v.optional(v.boolean(), true),
  mayMakeSessions: v.optional(v.boolean(), true),
  /** Every sign-in fails with it. */
  signInFault: v.optional(code),
});
export type SimulatedTable = v.InferInput<typeof simulatedTableSchema>;

interface Session {
  readonly user: AccountName;
  state: v.InferOutput<typeof state>;
  /** The run that has it; undefined: nobody. */
  endSession?: ((code: JobErrorCode) => void) | undefined;
}

/**
 * A table in place of sessions: every rule of sessions and every code of signing in can be had with it on
 * any system. Executors are processes of the service's own account. Source: job-dispatch.md section 7.1.
 */
export class SimulatedHost implements SessionHost {
  readonly kind = 'simulated';
  readonly looksAtAccounts = true;
  readonly #read: () => SimulatedTable;
  /** Made for runs, in use or kept for the next. */
  readonly #own: Session[] = [];

  /** `read` is asked anew each time, so that the table may change. */
  constructor(read: () => SimulatedTable) {
    this.#read = read;
  }

  capacity() {
    return this.#table().capacity;
  }

  sessions() {
    const own = this.#own.map(({ user, state: now }) => ({ user: nameOf(user), state: now }));
    return [...this.#table().sessions, ...own];
  }

  check(wish: SessionWish): SessionFault | undefined {
    const table = this.#table();
    if (table.isRunningLocally === true) return fault('LocalPlaybackOrRecordingOngoing');
    if (table.isRecording === true) return fault('ExistingRecordingSession');
    const found = wish.mode === 'attended' ? this.#attended(wish) : this.#unattended(wish);
    return found === undefined ? undefined : fault(found);
  }

  async launch(request: LaunchRequest): Promise<LaunchedExecutor> {
    const { account, credential, mode, reuseSession } = request;
    const problem = this.#signIn(account, credential?.password);
    if (problem !== undefined) throw new SignInError(fault(problem));
    const user = account ?? { user: 'anybody', domain: undefined };
    const session = this.#sessionFor(user, mode);
    const sessionEnded = new Promise<JobErrorCode>(resolve => {
      session.endSession = resolve;
    });
    const { pid, ended } = await spawnExecutor(executorProgram(), request, {
      env: outsideEnvironment(),
      cwd: homedir(),
    });
    const release = (): void => {
      session.endSession = undefined;
      const isKept = reuseSession && mode === 'unattended';
      if (!isKept && this.#own.includes(session)) this.#own.splice(this.#own.indexOf(session), 1);
    };
    return { pid, uid: undefined, ended: ended.then(notStarted), sessionEnded, release };
  }

  /** As if the system ended the session of a user's run. */
  endSession(user: string, ended: JobErrorCode): void {
    const account = parseAccountName(user);
    for (const session of this.#own) {
      if (account !== undefined && isSameAccount(session.user, account))
        session.endSession?.(ended);
    }
  }

  #attended({ account }: SessionWish): JobErrorCode | undefined {
    const sessions = this.#sessionsOf(account);
    if (sessions.length === 0) return 'AttendedUserNotLoggedIn';
    const hasActive = sessions.some(session => session.state === 'active');
    return hasActive ? undefined : 'AttendedUserSessionNotActive';
  }

  #unattended({ account, reuseSession }: SessionWish): JobErrorCode | undefined {
    const { system, sessions, sessionsMax = Infinity } = this.#table();
    const kept = this.#own.filter(({ endSession }) => endSession === undefined);
    const isReused =
      reuseSession &&
      account !== undefined &&
      kept.some(({ user }) => isSameAccount(user, account));
    if (isReused) return undefined;
    const [theirs] = this.#sessionsOf(account);
    if (theirs !== undefined && account !== undefined) return UNATTENDED_CODES[theirs.state];
    if (system === 'desktop' && sessions.length + this.#own.length > 0) {
      return 'Win10AlreadyHasActiveSession';
    }
    return sessions.length + this.#own.length >= sessionsMax ? 'TooManyActiveSessions' : undefined;
  }

  #signIn(
    account: AccountName | undefined,
    password: Buffer | undefined,
  ): JobErrorCode | undefined {
    const table = this.#table();
    if (!table.mayMakeSessions) return 'UIFlowServiceNoRdpPermissions';
    if (!table.hasRemoteSessions) return 'RDPIsNotEnabled';
    if (account !== undefined && table.users !== undefined) {
      const user = table.users.find(({ name }) => isNamed(account, name));
      if (user === undefined) return 'WindowsIdentityIncorrect';
      if (user.isLockedOut === true) return 'AccountLockedOut';
      const isRight = user.password === undefined || password?.equals(Buffer.from(user.password));
      if (isRight !== true) return 'SessionCreationInvalidCredentials';
      if (user.mayLogOn === false) return 'LogonTypeNotGranted';
      if (user.mayUseRemoteSessions === false) return 'RdpPermissionNotGranted';
    }
    return table.signInFault;
  }

  #sessionFor(user: AccountName, mode: SessionWish['mode']): Session {
    const kept = this.#own.find(
      session => session.endSession === undefined && isSameAccount(session.user, user),
    );
    if (kept !== undefined) return kept;
    const session: Session = { user, state: 'locked' };
    // An attended run has a session already: that of its user.
    if (mode === 'unattended') this.#own.push(session);
    return session;
  }

  /** Of the user, or of anybody when it is not known who. */
  #sessionsOf(account: AccountName | undefined) {
    return this.sessions().filter(({ user }) => account === undefined || isNamed(account, user));
  }

  #table() {
    return v.parse(simulatedTableSchema, this.#read());
  }
}

const UNATTENDED_CODES = {
  active: 'SessionExistsForTheUserWhenUnattended',
  locked: 'UnattendedUserSessionLocked',
  disconnected: 'UnattendedUserSessionDisconnected',
} as const;

function fault(found: JobErrorCode): SessionFault {
  return { code: found, message: JOB_ERRORS[found].text };
}

function isNamed(account: AccountName, name: string): boolean {
  const other = parseAccountName(name);
  return other !== undefined && isSameAccount(account, other);
}

function nameOf({ user, domain }: AccountName): string {
  return domain === undefined ? user : `${domain}\\${user}`;
}
