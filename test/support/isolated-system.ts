import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { within } from './within.ts';

/** This computer with system folders of its own, where an installer may do to them what it does. */
export interface IsolatedSystem extends AsyncDisposable {
  /** To put before a program that is to run there. */
  readonly behind: readonly string[];
  /** Runs a program there as root to its end; its standard output. Rejects when it fails. */
  run(argv: readonly string[], input?: string): Promise<string>;
  /** What the service manager was asked, a line each. */
  asked(): Promise<readonly string[]>;
}

/**
 * In a mount namespace: /etc and /usr/local/bin may be written to, /var/lib and /run begin empty, and nothing of that is
 * seen outside or stays. `systemctl` enables units for real, in files, and writes down everything else.
 */
const SET_UP = `
  set -e
  base=$1
  [ -x /usr/bin/systemctl ] || { echo 'there is no systemctl: apt-get install systemd' >&2; exit 1; }
  mount -t tmpfs tmpfs "$base"
  for folder in etc usr/local/bin; do
    upper=$base/$folder/upper work=$base/$folder/work
    mkdir -p "$upper" "$work"
    mount -t overlay overlay -o "lowerdir=/$folder,upperdir=$upper,workdir=$work" "/$folder"
  done
  for folder in /var/lib /run; do mount -t tmpfs -o mode=755 tmpfs "$folder"; done
  mkdir -p /run/systemd/system "$base/bin"
  cat >"$base/bin/systemctl" <<'END'
#!/bin/sh
echo "$@" >>/run/asked
case $1 in enable | disable | is-enabled) exec /usr/bin/systemctl --root=/ "$@" ;; esac
END
  chmod 755 "$base" "$base/bin" "$base/bin/systemctl"
  echo ready
  exec cat
`;

/** Fails with what to do about it where it cannot be made. */
export async function isolatedSystem(): Promise<IsolatedSystem> {
  const base = mkdtempSync(join(tmpdir(), 'halfway-system-'));
  const args = ['--mount', '--propagation', 'private', 'sh', '-c', SET_UP, 'sh', base];
  const child = spawn('unshare', args, { stdio: 'pipe' });
  const chunks: string[] = [];
  child.stderr.on('data', (chunk: Buffer) => chunks.push(chunk.toString()));
  const ended = once(child, 'exit').catch(() => undefined);
  const first = await within(
    'a mount namespace',
    Promise.race([once(child.stdout, 'data').then(() => 'ready'), ended]),
  );
  if (first !== 'ready') {
    rmSync(base, { recursive: true });
    throw new Error(
      'This test makes a mount namespace with overlays: run it as root (sudo npm test), with util-linux installed ' +
        `(apt-get install util-linux): ${chunks.join('')}`,
    );
  }
  const behind = ['nsenter', `--mount=/proc/${child.pid}/ns/mnt`, '--'];
  const run = async (argv: readonly string[], input = ''): Promise<string> => {
    const [program = '', ...rest] = [...behind, ...argv];
    const env = { PATH: `${base}/bin:${process.env['PATH']}` };
    const running = promisify(execFile)(program, rest, { cwd: '/', env });
    running.child.stdin?.on('error', () => undefined);
    running.child.stdin?.end(input);
    return (await running).stdout;
  };
  return {
    behind,
    run,
    asked: async () => (await run(['cat', '/run/asked'])).trimEnd().split('\n'),
    async [Symbol.asyncDispose]() {
      // The mounts end with the last process in them.
      child.stdin.end();
      await ended;
      rmSync(base, { recursive: true, force: true });
    },
  };
}
