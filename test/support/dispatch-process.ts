import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from './ports.ts';
import { RestCaller } from './relay-machine.ts';
import { until, within } from './within.ts';

const MAIN = join(import.meta.dirname, '../../src/main.ts');
/** A process starts with a compiler of its own, on a machine that does other things, too. */
const START_MS = 30_000;

export const API_TOKEN = 'hwt_token-of-the-first-administrator-of-tests';

const CONFIG = {
  namespaces: [{ name: 'tests', hosts: [], authorizationRules: [], hybridConnections: [] }],
  drainDelayMs: 0,
  drainTimeoutMs: 2_000,
};

const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** `halfway serve` or `halfway dev` as a process of its own, at one port over all its lives. */
export interface DispatchProcess extends AsyncDisposable {
  readonly origin: string;
  readonly adminUrl: string;
  readonly admin: RestCaller;
  /** What `--data` names; there from the first start. */
  readonly dataFolder: string;
  /** Of its present life; undefined: it was never started. */
  readonly pid: () => number | undefined;
  /** Of all its lives. */
  readonly output: () => string;
  /** Resolves when its ports accept; rejects when it ends before. */
  start(): Promise<void>;
  kill(): Promise<void>;
  /** SIGTERM; resolves with its exit code. */
  drain(): Promise<number | null>;
}

export interface DispatchProcessOptions {
  readonly command: 'serve' | 'dev';
  /** Besides ports and folders. */
  readonly argv?: readonly string[];
  /** Of Node itself. */
  readonly execArgv?: readonly string[];
  /** In place of `--data`: where it keeps records. */
  readonly store?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** In place of `API_TOKEN`; null: none is given. */
  readonly apiToken?: string | null;
}

/** It is not started yet. Its folder, which `--data` names, ends with it. */
export async function dispatchProcess(options: DispatchProcessOptions): Promise<DispatchProcess> {
  const folder = mkdtempSync(join(tmpdir(), 'halfway-dispatch-'));
  const config = join(folder, 'relay.json');
  writeFileSync(config, JSON.stringify(CONFIG));
  const [port, adminPort] = [await freePort(), await freePort()];
  const origin = `http://127.0.0.1:${port}`;
  const adminUrl = `http://127.0.0.1:${adminPort}`;
  const { apiToken = API_TOKEN, execArgv = [] } = options;
  const dataFolder = join(folder, 'data');
  const chunks: string[] = [];
  let child: ChildProcess | undefined;
  const argv = [
    options.command,
    ...(options.command === 'serve' ? ['--config', config, '--dispatch'] : []),
    ...(options.store ?? ['--data', dataFolder]),
    '--host',
    '127.0.0.1',
    '--port',
    String(port),
    '--admin-port',
    String(adminPort),
    ...(options.argv ?? []),
  ];
  const ended = async (): Promise<number | null> => {
    if (child === undefined) return null;
    if (child.exitCode === null && child.signalCode === null) {
      await within('the end of the server', once(child, 'exit'), START_MS);
    }
    return child.exitCode;
  };
  const kill = async (): Promise<void> => {
    child?.kill('SIGKILL');
    await ended();
  };
  return {
    origin,
    adminUrl,
    admin: new RestCaller(origin, apiToken ?? ''),
    dataFolder,
    pid: () => child?.pid,
    output: () => chunks.join(''),
    kill,
    async start() {
      const before = chunks.length;
      const started = spawn(process.execPath, [...execArgv, '--import', 'tsx', MAIN, ...argv], {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: {
          PATH: process.env['PATH'],
          ...(apiToken === null ? {} : { HALFWAY_API_TOKEN: apiToken }),
          ...options.env,
        },
      });
      child = started;
      running.add(started);
      started.once('exit', () => running.delete(started));
      // Ends it when this process is killed and can do nothing any more: the watcher's pipe closes.
      const watch = spawn('sh', ['-c', 'cat > /dev/null; kill -9 "$0"', String(started.pid)], {
        stdio: ['pipe', 'ignore', 'ignore'],
      });
      watch.unref();
      started.once('exit', () => watch.kill('SIGKILL'));
      for (const stream of [started.stdout, started.stderr]) {
        stream.on('data', (chunk: Buffer) => chunks.push(chunk.toString()));
      }
      const says = (): string => chunks.slice(before).join('');
      await until(
        'the server listens',
        () => says().includes('"listening"') || started.exitCode !== null,
        START_MS,
      );
      if (started.exitCode !== null) throw new Error(`The server has ended: ${says()}`);
    },
    async drain() {
      child?.kill('SIGTERM');
      return ended();
    },
    async [Symbol.asyncDispose]() {
      await kill();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
