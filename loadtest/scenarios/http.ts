import autocannon from 'autocannon';
import { startHalfway } from '../subjects/halfway.ts';
import type { Halfway } from '../subjects/halfway.ts';
import { startUwsEcho } from '../subjects/uws-echo.ts';
import { Cleanup } from '../support/cleanup.ts';
import { cpuMs, PINNING, startProcess, typescriptProgram } from '../support/process.ts';
import { takesPart } from '../support/scenario.ts';
import type { Cell, Result, Scenario, ScenarioOptions } from '../support/scenario.ts';
import { median } from '../support/statistics.ts';

const CONNECTIONS = 64;
const CELLS = [
  { name: 'GET', method: 'GET', body: undefined },
  { name: 'POST 1 KiB', method: 'POST', body: 'x'.repeat(1_024) },
] as const;

interface Target {
  readonly name: string;
  readonly pid: number;
  readonly url: string;
}

interface Measured {
  readonly cpuUs: number;
  readonly perSec: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** Requests through a listener, beside requests to uWebSockets.js itself. */
async function run(options: ScenarioOptions): Promise<Result> {
  const rounds = options.isQuick ? 1 : 3;
  const durationSec = options.isQuick ? 1 : 3;
  await using cleanup = new Cleanup();
  const targets: Target[] = [];
  if (takesPart(options, 'uws-echo')) {
    const { pid, port } = cleanup.use(await startUwsEcho());
    targets.push({ name: 'uws', pid, url: `http://127.0.0.1:${port}/hc1` });
  }
  if (takesPart(options, 'halfway')) {
    const { pid, port } = await startWithListener(cleanup);
    targets.push({ name: 'halfway', pid, url: `http://127.0.0.1:${port}/hc1` });
  }
  const rows: (readonly Cell[])[] = [];
  for (const cell of CELLS) {
    const measured = new Map<string, Measured[]>();
    for (let round = 0; round < rounds; round += 1) {
      options.progress(`round ${round + 1} of ${rounds}: ${cell.name}`);
      for (const target of targets) {
        const list = measured.get(target.name) ?? [];
        list.push(await cannon(target, cell, durationSec));
        measured.set(target.name, list);
      }
    }
    const cpuUs = (name: string): number =>
      median((measured.get(name) ?? []).map(each => each.cpuUs));
    for (const [name, list] of measured) {
      rows.push([
        cell.name,
        name,
        cpuUs(name),
        cpuUs(name) / cpuUs('uws'),
        median(list.map(each => each.perSec)),
        median(list.map(each => each.p50Ms)),
        median(list.map(each => each.p99Ms)),
      ]);
    }
  }
  return {
    scenario: 'http',
    command: 'npm run bench http',
    about: `autocannon, ${CONNECTIONS} connections, a listener that answers inline; ${PINNING}`,
    columns: ['request', 'subject', 'CPU µs/request', 'this/uws', 'requests/s', 'p50 ms', 'p99 ms'],
    rows,
    notes: [
      'Against uWebSockets.js autocannon is the limit, and with the relay it shares its core with',
      'the listener: compare CPU per request, not requests per second.',
    ],
  };
}

export const http: Scenario = { name: 'http', run };

async function startWithListener(cleanup: Cleanup): Promise<Halfway> {
  const halfway = cleanup.use(await startHalfway());
  cleanup.use(
    await startProcess({
      name: 'http-listener',
      command: typescriptProgram('servers/http-listener.ts', [
        `ws://127.0.0.1:${halfway.port}${halfway.listenPath('hc1')}`,
      ]),
      core: 'load',
      ready: line => (line.includes('ready') ? true : undefined),
    }),
  );
  return halfway;
}

async function cannon(
  target: Target,
  cell: (typeof CELLS)[number],
  durationSec: number,
): Promise<Measured> {
  const { method, body } = cell;
  const common = { url: target.url, connections: CONNECTIONS, method } as const;
  await autocannon({ ...common, duration: 1, ...(body === undefined ? {} : { body }) });
  const cpuBefore = cpuMs(target.pid);
  const result = await autocannon({
    ...common,
    duration: durationSec,
    ...(body === undefined ? {} : { body }),
  });
  const cpuUsed = cpuMs(target.pid) - cpuBefore;
  const answered = result.requests.total;
  if (result.errors > 0 || result.non2xx > 0 || answered === 0) {
    throw new Error(
      `${target.name} failed ${result.errors} requests and refused ${result.non2xx} of ${answered}`,
    );
  }
  return {
    cpuUs: (cpuUsed * 1_000) / answered,
    perSec: answered / result.duration,
    p50Ms: result.latency.p50,
    p99Ms: result.latency.p99,
  };
}
