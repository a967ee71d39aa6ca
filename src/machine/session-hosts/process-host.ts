import { homedir, userInfo } from 'node:os';
import { isSameAccount, parseAccountName } from '../account-name.ts';
import { outsideEnvironment } from '../executor/command-job.ts';
import { executorProgram } from '../executor-program.ts';
import {
  SignInError,
  type LaunchedExecutor,
  type LaunchRequest,
  type SessionFault,
  type SessionHost,
} from './session-host.ts';
import { spawnExecutor } from './spawn-executor.ts';

/**
 * Runs everything as the account of the service, which counts as signed in. A connection with credentials
 * of another account is turned away; no password is checked.
 */
export class ProcessHost implements SessionHost {
  readonly kind = 'process';
  readonly looksAtAccounts = false;
  readonly #capacity: { readonly unattended: number; readonly attended: number };

  constructor(capacity: { readonly unattended: number; readonly attended: number }) {
    this.#capacity = capacity;
  }

  capacity() {
    return this.#capacity;
  }

  sessions() {
    return [{ user: userInfo().username, state: 'active' as const }];
  }

  check(): SessionFault | undefined {
    return undefined;
  }

  async launch(request: LaunchRequest): Promise<LaunchedExecutor> {
    const { username } = userInfo();
    const { credential, account } = request;
    if (credential !== undefined) {
      const own = parseAccountName(username);
      if (account === undefined || own === undefined || !isSameAccount(account, own)) {
        throw new SignInError({
          code: 'WindowsIdentityIncorrect',
          message: `This machine runs jobs as "${username}" only: use a connection of that account, or the session host os-account`,
        });
      }
    }
    const { pid, ended } = await spawnExecutor(executorProgram(), request, {
      env: outsideEnvironment(),
      cwd: homedir(),
    });
    return { pid, uid: process.geteuid?.(), ended: ended.then(notStarted), release: () => {} };
  }
}

/** An executor that ended before it said hello. */
export function notStarted({
  code,
  signal,
  said,
}: {
  readonly code: number | undefined;
  readonly signal: string | undefined;
  readonly said: string;
}): SessionFault {
  const how = signal ?? `exit code ${code ?? '?'}`;
  return {
    code: 'AgentHasNotStarted',
    message: `The executor ended before it began (${how}): ${said.trim().slice(-1_000)}`,
  };
}
