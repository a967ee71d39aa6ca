import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';

/** An account of the system, for a test; removed with its files. */
export interface TestAccount extends Disposable {
  readonly name: string;
  readonly password: string;
  readonly uid: number;
}

/** Fails with what to do about it: these tests make accounts, and do not pass unless they ran. */
export function requireRoot(): void {
  if (process.getuid?.() === 0) return;
  throw new Error('Tests of accounts make accounts with useradd: run them as root (sudo npm test)');
}

/** `setUp`: programs and arguments to run when it is there; `%` stands for its name. */
export function makeAccount(
  options: {
    readonly password?: string;
    readonly shell?: string;
    readonly setUp?: readonly (readonly string[])[];
  } = {},
): TestAccount {
  requireRoot();
  const name = `hw${randomBytes(5).toString('hex')}`;
  const password = options.password ?? `${randomBytes(12).toString('base64url')} "ä`;
  run(['useradd', '--create-home', '--shell', options.shell ?? '/bin/sh', name]);
  run(['chpasswd'], `${name}:${password}\n`);
  for (const line of options.setUp ?? []) run(line.map(word => (word === '%' ? name : word)));
  const uid = Number(run(['id', '-u', name]));
  return {
    name,
    password,
    uid,
    [Symbol.dispose]: () => void run(['userdel', '--remove', '--force', name]),
  };
}

function run([program = '', ...args]: readonly string[], input = ''): string {
  return execFileSync(program, args, {
    input,
    encoding: 'utf8',
    stdio: ['pipe', 'pipe', 'ignore'],
  });
}
