import { execFile } from 'node:child_process';
import { parseAccountName, systemNames } from '../account-name.ts';
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

const SYSTEM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
/** Whom PAM takes for an ordinary caller, where the system has nobody of that name. */
const NOBODY_UID = 65_534;
const NOBODY_NAME = 'nobody';

/**
 * Signs in for real: `su` opens a login session of the account through PAM, with the password on a pipe,
 * and the executor runs in it. `su` asks nobody who is root, so a service that is root starts it as the
 * account `nobody`; any other account starts it as itself. Unattended runs with credentials only.
 * What `su` and PAM say is the only thing they tell; it is read in English (LC_ALL=C).
 */
export class OsAccountHost implements SessionHost {
  readonly kind = 'os-account';
  readonly looksAtAccounts = false;
  readonly #unattended: number;

  constructor(capacity: { readonly unattended: number }) {
    this.#unattended = capacity.unattended;
  }

  capacity() {
    return { unattended: this.#unattended, attended: 0 };
  }

  sessions() {
    return [];
  }

  check({ mode, hasCredential }: SessionWish): SessionFault | undefined {
    if (mode === 'attended') {
      return {
        code: 'AttendedUserNotLoggedIn',
        message: 'This machine has no sessions of people: attended runs cannot be taken',
      };
    }
    if (hasCredential) return undefined;
    return {
      code: 'UnattendedUnsupportedWithOldConnection',
      message: 'This machine signs in with the credentials of the connection, and it has none',
    };
  }

  async launch(request: LaunchRequest): Promise<LaunchedExecutor> {
    const { credential } = request;
    if (credential === undefined) throw new SignInError(invalid('there are no credentials'));
    const account = await findAccount(credential.user, credential.domain);
    // A line is all that `su` reads; and no password is none, though PAM might take it.
    if (
      credential.password.length === 0 ||
      /[\0\r\n]/.test(credential.password.toString('latin1'))
    ) {
      throw new SignInError(invalid('the password is empty, or has more than one line'));
    }
    const command = executorProgram().map(quoted).join(' ');
    const line = Buffer.concat([credential.password, Buffer.from('\n')]);
    try {
      const { pid, ended } = await spawnExecutor(
        // A shell whose language is known, unless the account has one that lets nobody in. Where PAM asked for no
        // password it is still in the pipe, which goes no further than the shell.
        ['su', '-s', '/bin/sh', '-c', `exec ${command} </dev/null`, '-', account.name],
        request,
        {
          env: { PATH: SYSTEM_PATH, LC_ALL: 'C' },
          cwd: '/',
          secret: line,
          ...(await ordinaryCaller()),
        },
      );
      return {
        pid,
        uid: account.uid,
        ended: ended.then(async end => {
          const isLocked = await hasLockedPassword(account.name);
          return faultOf(end, { shell: account.shell, isLocked });
        }),
        release: () => {},
      };
    } finally {
      line.fill(0);
    }
  }
}

/** What an ended `su` means; pure. */
export function faultOf(
  end: {
    readonly code: number | undefined;
    readonly signal: string | undefined;
    readonly said: string;
  },
  account: { readonly shell: string; readonly isLocked: boolean },
): SessionFault {
  const { said } = end;
  const known = SAYINGS.find(([saying]) => saying.test(said));
  if (account.isLocked && known?.[1] === 'SessionCreationInvalidCredentials') {
    return { code: 'AccountLockedOut', message: 'The password of the account is locked' };
  }
  if (known !== undefined) return { code: known[1], message: known[2] };
  if (/\/(?:nologin|false)$/.test(account.shell)) {
    return { code: 'LogonTypeNotGranted', message: `The account has no shell (${account.shell})` };
  }
  return notStarted(end);
}

const SAYINGS = [
  [
    /must be (?:suid|run from|setuid)|cannot set (?:groups|user id)/i,
    'UIFlowServiceNoRdpPermissions',
    'The service may not sign in other accounts: "su" has no rights (is NoNewPrivileges set?)',
  ],
  [
    /user .* does not exist|Unknown (?:id|user)/i,
    'WindowsIdentityIncorrect',
    'There is no such account at the machine',
  ],
  [
    /account has expired|account expired|account is locked|locked due to/i,
    'AccountLockedOut',
    'The account is locked or has expired',
  ],
  [
    /required to change your password|password has expired|token manipulation|new one required/i,
    'SessionCreationInvalidCredentials',
    'The password has expired: set a new one, and enter it in the connection',
  ],
  [/This account is currently not available/i, 'LogonTypeNotGranted', 'The account has no shell'],
  [
    /^(?:Password: )?su: (?:Permission denied|Module is unknown)/im,
    'LogonTypeNotGranted',
    'The account may not sign in at the machine',
  ],
  [
    /su: (?:Authentication failure|Sorry|incorrect password)/i,
    'SessionCreationInvalidCredentials',
    'User name or password is wrong; correct the connection',
  ],
  [/su: cannot open session/i, 'SessionCreationError', 'The session could not be opened'],
] as const;

async function findAccount(
  user: string,
  domain: string | undefined,
): Promise<{ readonly name: string; readonly uid: number; readonly shell: string }> {
  const parsed = parseAccountName(user, domain);
  for (const name of parsed === undefined ? [] : systemNames(parsed)) {
    const found = await lookUp(name);
    if (found !== undefined) return found;
  }
  throw new SignInError({
    code: 'WindowsIdentityIncorrect',
    message: 'There is no such account at the machine',
  });
}

/** In all sources of accounts that the system has. */
async function lookUp(name: string) {
  const { code, out } = await run('getent', ['passwd', name]);
  const [found = '', , uid = '', , , , shell = ''] = out.trimEnd().split(':');
  // By number they can be asked for too; that is no name.
  const isOfThatName = code === 0 && found !== '' && !/^\d+$/.test(name);
  return isOfThatName ? { name: found, uid: Number(uid), shell } : undefined;
}

/** Only root is told. */
async function hasLockedPassword(name: string): Promise<boolean> {
  if (process.getuid?.() !== 0) return false;
  const { out } = await run('passwd', ['--status', name]);
  return /^\S+ L/.test(out);
}

async function ordinaryCaller(): Promise<{ readonly uid?: number; readonly gid?: number }> {
  if (process.getuid?.() !== 0) return {};
  const { out } = await run('getent', ['passwd', NOBODY_NAME]);
  const [, , uid = NOBODY_UID, gid = NOBODY_UID] = out.split(':');
  return { uid: Number(uid), gid: Number(gid) };
}

function run(
  program: string,
  args: readonly string[],
): Promise<{ readonly code: number; readonly out: string }> {
  return new Promise(resolve => {
    const env = { PATH: SYSTEM_PATH, LC_ALL: 'C' };
    execFile(program, args, { env, timeout: 30_000 }, (error, out) => {
      resolve({ code: error === null ? 0 : 1, out });
    });
  });
}

function invalid(why: string): SessionFault {
  return { code: 'SessionCreationInvalidCredentials', message: `Nobody can sign in: ${why}` };
}

/** As one word of a shell. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
