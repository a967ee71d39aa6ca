import { startEnds } from '../subjects/ends.ts';
import type { Ends } from '../subjects/ends.ts';
import { startHalfway } from '../subjects/halfway.ts';
import { startSocketIoRelay } from '../subjects/socket-io-relay.ts';
import type { EndLoad, EndTraffic } from '../ends/traffic.ts';
import { Cleanup } from '../support/cleanup.ts';
import { cpuMs, PINNING, sleep } from '../support/process.ts';
import { takesPart } from '../support/scenario.ts';
import type { Cell, Result, Scenario, ScenarioOptions } from '../support/scenario.ts';
import { median, percentilesOf, spread } from '../support/statistics.ts';

const MIB = 1 << 20;
const NS_PER_MS = 1e6;

interface PollCell {
  readonly name: string;
  readonly traffic: EndTraffic;
  readonly sizeBytes: number;
  readonly window: number;
}

const CELLS: readonly PollCell[] = [
  { name: '16 B, one at a time', traffic: 'pingpong', sizeBytes: 16, window: 1 },
  { name: '1 KiB, one at a time', traffic: 'pingpong', sizeBytes: 1_024, window: 1 },
  { name: '64 KiB, one at a time', traffic: 'pingpong', sizeBytes: 65_536, window: 1 },
  { name: '16 B, both ways', traffic: 'both', sizeBytes: 16, window: 1_024 },
  { name: '1 KiB, both ways', traffic: 'both', sizeBytes: 1_024, window: 1_024 },
  { name: '64 KiB, both ways', traffic: 'both', sizeBytes: 65_536, window: 64 },
  { name: '64 KiB, to the listener', traffic: 'there', sizeBytes: 65_536, window: 64 },
  { name: '64 KiB, to the sender', traffic: 'back', sizeBytes: 65_536, window: 64 },
];

type TransportName = 'websocket' | 'poll' | 'socket.io';

interface Transport {
  readonly name: TransportName;
  readonly serverPid: number;
  readonly ends: Ends;
}

interface Measured {
  readonly perSec: number;
  readonly serverUs: number;
  readonly endsUs: number;
  readonly roundTripsMs: readonly number[];
}

/**
 * One pair whose ends go to the relay by long-polling, beside one that goes by WebSockets through the same relay, and
 * beside socket.io's polling through a relay of its own. Both ends of each are one process of the library's own code.
 */
async function run(options: ScenarioOptions): Promise<Result> {
  const rounds = options.isQuick ? 1 : 3;
  const times = options.isQuick
    ? { warmUpMs: 300, windowMs: 700 }
    : { warmUpMs: 500, windowMs: 2_000 };
  await using cleanup = new Cleanup();
  const transports = await startTransports(options, cleanup);
  const measured = new Map<string, Measured[]>();
  for (let round = 0; round < rounds; round += 1) {
    for (const cell of CELLS) {
      for (const transport of transports) {
        options.progress(`round ${round + 1} of ${rounds}: ${cell.name}, ${transport.name}`);
        if (round === 0) await check(transport, cell);
        const key = `${cell.name}/${transport.name}`;
        const list = measured.get(key) ?? [];
        list.push(await measure(transport, cell, times));
        measured.set(key, list);
      }
    }
  }
  const of = (cell: PollCell, name: TransportName): Summary =>
    summaryOf(measured.get(`${cell.name}/${name}`) ?? []);
  return {
    scenario: 'poll',
    command: 'npm run bench poll',
    about: `one pair, both ends in one process of the library in question; ${PINNING}`,
    columns: [
      'cell',
      'transport',
      'messages/s',
      'MiB/s',
      'websocket/this',
      'this/socket.io',
      '± %',
      'server µs',
      'this/websocket',
      'ends µs',
      'this/websocket',
      'p50 ms',
      'p99 ms',
    ],
    rows: CELLS.flatMap(cell =>
      transports.map(({ name }): readonly Cell[] => {
        const own = of(cell, name);
        const webSocket = of(cell, 'websocket');
        return [
          cell.name,
          name,
          own.perSec,
          (own.perSec * cell.sizeBytes) / MIB,
          webSocket.perSec / own.perSec,
          own.perSec / of(cell, 'socket.io').perSec,
          own.spreadPercent,
          own.serverUs,
          own.serverUs / webSocket.serverUs,
          own.endsUs,
          own.endsUs / webSocket.endsUs,
          own.p50Ms,
          own.p99Ms,
        ];
      }),
    ),
    notes: [
      'Rates depend on what else the machine does; CPU of the relay and of both ends together, in',
      'microseconds per message, do not. Times are of round trips through the relay: two messages.',
      'Wanted of poll: more than socket.io in every row, and a third of websocket with 64 KiB both',
      'ways. One at a time, a message by HTTP is two requests of Node, whose own cost is the time.',
      `${rounds} rounds of ${times.windowMs} ms; every message was checked, bytes too in the first.`,
    ],
  };
}

export const poll: Scenario = { name: 'poll', run };

async function startTransports(
  options: ScenarioOptions,
  cleanup: Cleanup,
): Promise<readonly Transport[]> {
  const transports: Transport[] = [];
  if (takesPart(options, 'halfway')) {
    const halfway = cleanup.use(await startHalfway());
    for (const [index, kind] of (['websocket', 'poll'] as const).entries()) {
      const connectionString = halfway.connectionString(`hc${index}`);
      const ends = cleanup.use(await startEnds({ kind, target: connectionString, pairs: 1 }));
      transports.push({ name: kind, serverPid: halfway.pid, ends });
    }
  }
  if (takesPart(options, 'socket.io')) {
    const { pid, url } = cleanup.use(await startSocketIoRelay());
    const ends = cleanup.use(await startEnds({ kind: 'socket.io', target: url, pairs: 1 }));
    transports.push({ name: 'socket.io', serverPid: pid, ends });
  }
  return transports;
}

async function check({ name, ends }: Transport, cell: PollCell): Promise<void> {
  await ends.ask({ start: { ...loadOf(cell), check: true } });
  await sleep(150);
  await drain(name, ends);
}

async function measure(
  { name, serverPid, ends }: Transport,
  cell: PollCell,
  times: { readonly warmUpMs: number; readonly windowMs: number },
): Promise<Measured> {
  await ends.ask({ start: loadOf(cell) });
  await sleep(times.warmUpMs);
  const from = await ends.ask('mark');
  const [serverFromMs, endsFromMs] = [cpuMs(serverPid), cpuMs(ends.pid)];
  await sleep(times.windowMs);
  const to = await ends.ask('mark');
  const [serverToMs, endsToMs] = [cpuMs(serverPid), cpuMs(ends.pid)];
  await drain(name, ends);
  const messages = to.messages - from.messages;
  return {
    perSec: (messages * 1_000) / (to.atMs - from.atMs),
    serverUs: ((serverToMs - serverFromMs) * 1_000) / messages,
    endsUs: ((endsToMs - endsFromMs) * 1_000) / messages,
    roundTripsMs: to.roundTripsMs,
  };
}

async function drain(name: string, ends: Ends): Promise<void> {
  const { missing } = await ends.ask('drain');
  if (missing > 0) throw new Error(`${missing} messages of ${name} did not arrive`);
}

function loadOf({ traffic, sizeBytes, window }: PollCell): EndLoad {
  return { traffic, sizeBytes, window, check: false };
}

interface Summary {
  readonly perSec: number;
  readonly serverUs: number;
  readonly endsUs: number;
  readonly spreadPercent: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

function summaryOf(rounds: readonly Measured[]): Summary {
  const latencies = rounds
    .flatMap(round => round.roundTripsMs)
    .map((ms): readonly [number, number] => [ms * NS_PER_MS, 1]);
  const { p50Ms, p99Ms } =
    latencies.length === 0 ? { p50Ms: Number.NaN, p99Ms: Number.NaN } : percentilesOf(latencies);
  return {
    perSec: median(rounds.map(round => round.perSec)),
    serverUs: median(rounds.map(round => round.serverUs)),
    endsUs: median(rounds.map(round => round.endsUs)),
    spreadPercent: 100 * spread(rounds.map(round => round.perSec)),
    p50Ms,
    p99Ms,
  };
}
