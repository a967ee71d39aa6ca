import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { hasProgram, startProcess } from '../support/process.ts';
import type { Result } from '../support/scenario.ts';
import { freePort } from './port.ts';

/** A redis-server of its own, on the core of the load, that keeps nothing. */
export interface RedisServer extends AsyncDisposable {
  readonly pid: number;
  readonly url: string;
  /** How often each command was called since the start, also from scripts; without the asking itself. */
  commandCalls(): Promise<ReadonlyMap<string, number>>;
}

/** The result of a scenario that needs Redis where there is none; otherwise undefined. */
export function leftOutWithoutRedis(scenario: string): Result | undefined {
  if (hasProgram('redis-server')) return undefined;
  return {
    scenario,
    command: `npm run bench ${scenario}`,
    about: 'left out: redis-server is not installed (apt-get install redis-server)',
    columns: [],
    rows: [],
    notes: [],
  };
}

export async function startRedis(): Promise<RedisServer> {
  const folder = mkdtempSync(join(tmpdir(), 'halfway-redis-'));
  const port = await freePort();
  const place = ['--port', String(port), '--bind', '127.0.0.1', '--dir', folder];
  const server = await startProcess({
    name: 'redis-server',
    command: ['redis-server', ...place, '--save', '', '--appendonly', 'no', '--logfile', ''],
    core: 'load',
    ready: line => (line.includes('Ready to accept connections') ? true : undefined),
  });
  // The ready check of the client would send INFO too, at times of its own.
  const client = new Redis({ port, host: '127.0.0.1', enableReadyCheck: false, protocol: 2 });
  let asked = 0;
  return {
    pid: server.pid,
    url: `redis://127.0.0.1:${port}`,
    async commandCalls() {
      const calls = callsOf(await client.info('commandstats'));
      // A question is not in its own answer, the earlier ones are.
      calls.set('info', (calls.get('info') ?? 0) - asked);
      asked += 1;
      return calls;
    },
    async [Symbol.asyncDispose]() {
      client.disconnect();
      await server[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true });
    },
  };
}

/** Lines are `cmdstat_client|setinfo:calls=2,usec=4,…`. */
function callsOf(info: string): Map<string, number> {
  const calls = new Map<string, number>();
  for (const [, name = '', count] of info.matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm)) {
    calls.set(name, Number(count));
  }
  return calls;
}
