import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { signToken } from '../../src/auth/sign-token.ts';
import type { StatusReport, WorkerStatus } from '../../src/transports/status-report.ts';
import { ROOT_KEY } from './relay.ts';
import { until, within } from './within.ts';

const MAIN = join(import.meta.dirname, '../../src/main.ts');
/** Several processes start, each with a compiler of its own, on a machine that does other things, too. */
const START_MS = 30_000;

/** `halfway serve --workers` as a process of its own, with all its workers. */
export interface WorkerRelay extends AsyncDisposable {
  readonly pid: number;
  readonly port: number;
  readonly adminUrl: string;
  readonly wsUrl: string;
  readonly output: () => string;
  token(path?: string): string;
  status(): Promise<StatusReport>;
  workers(): Promise<readonly WorkerStatus[]>;
  /** Value of one line of /metrics; 0 when it is not there. */
  metric(series: string): Promise<number>;
  signal(name: NodeJS.Signals): void;
  /** Exit code, or the signal that ended it. */
  readonly end: Promise<number | string>;
}

export interface WorkerRelayRun {
  readonly output: () => string;
  readonly end: Promise<number | string>;
}

const CONFIG = {
  namespaces: [
    {
      name: 'tests',
      authorizationRules: [
        { name: 'root', rights: ['Listen', 'Send', 'Manage'], primaryKey: ROOT_KEY },
      ],
      hybridConnections: [{ name: 'hyco' }],
    },
  ],
  drainDelayMs: 0,
  drainTimeoutMs: 1_000,
};

/** A file with a secret that is good for a mesh. */
export function secretFile(): string {
  const file = join(mkdtempSync(join(tmpdir(), 'halfway-secret-')), 'secret');
  writeFileSync(file, 'a mesh secret for tests only'.replaceAll(' ', '-').repeat(2));
  process.once('exit', () => rmSync(dirname(file), { recursive: true, force: true }));
  return file;
}

/** Runs it to wherever it gets. */
export function runServe(argv: readonly string[]): WorkerRelayRun & {
  readonly pid: number;
  readonly signal: (name: NodeJS.Signals) => void;
} {
  const folder = mkdtempSync(join(tmpdir(), 'halfway-workers-'));
  const config = join(folder, 'relay.json');
  writeFileSync(config, JSON.stringify(CONFIG));
  const child = spawn(
    process.execPath,
    ['--import', 'tsx', MAIN, 'serve', '--config', config, '--host', '127.0.0.1', ...argv],
    { stdio: ['ignore', 'pipe', 'pipe'], env: { PATH: process.env['PATH'] } },
  );
  const chunks: string[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => chunks.push(chunk.toString()));
  }
  return {
    pid: child.pid ?? 0,
    output: () => chunks.join(''),
    signal: name => void child.kill(name),
    end: new Promise(resolve => {
      child.once('exit', (code, signal) => {
        rmSync(folder, { recursive: true });
        resolve(code ?? signal ?? 'nothing');
      });
    }),
  };
}

export async function startWorkerRelay(argv: readonly string[] = []): Promise<WorkerRelay> {
  const ports = ['--port', '0', '--admin-port', '0', '--node-id', 'box'];
  const run = runServe([...ports, '--workers', '2', ...argv]);
  let isRunning = true;
  void run.end.then(() => {
    isRunning = false;
  });
  const listening = (): string | undefined =>
    run
      .output()
      .split('\n')
      .find(line => line.includes('"msg":"listening"') && line.endsWith('}'));
  await until('listening', () => listening() !== undefined || !isRunning, START_MS);
  const line = listening();
  if (line === undefined) throw new Error(`It did not start: ${run.output()}`);
  const { port, adminPort, tls } = JSON.parse(line);
  const adminUrl = `http://127.0.0.1:${adminPort}`;
  const status = async (): Promise<StatusReport> => {
    const response = await fetch(`${adminUrl}/status`, { headers: { Accept: 'application/json' } });
    const report: StatusReport = JSON.parse(await response.text());
    return report;
  };
  return {
    ...run,
    port,
    adminUrl,
    wsUrl: `ws${tls === true ? 's' : ''}://127.0.0.1:${port}`,
    token: (path = 'hyco') =>
      signToken({
        audience: `http://127.0.0.1/${path}`,
        keyName: 'root',
        key: ROOT_KEY,
        expiresAtSec: Math.floor(Date.now() / 1000) + 3_600,
      }),
    status,
    workers: async () => (await status()).workers ?? [],
    async metric(series) {
      const text = await (await fetch(`${adminUrl}/metrics`)).text();
      const found = text.split('\n').find(one => one.startsWith(`${series} `));
      return found === undefined ? 0 : Number(found.slice(series.length + 1));
    },
    [Symbol.asyncDispose]: async () => {
      if (!isRunning) return;
      // The second signal ends workers and all at once.
      run.signal('SIGTERM');
      run.signal('SIGINT');
      await within('the end of the workers', run.end);
    },
  };
}

/** Whether such a process still runs; one that ended and has not been collected by its parent does not. */
export function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
