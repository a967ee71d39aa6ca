import { connectPairs } from '../subjects/subject.ts';
import type { SubjectName } from '../subjects/subject.ts';
import { Cleanup } from '../support/cleanup.ts';
import { memoryBytes, PINNING, sleep } from '../support/process.ts';
import type { Cell, Result, Scenario, ScenarioOptions } from '../support/scenario.ts';
import { openSessions } from '../support/sessions.ts';
import type { Session } from '../support/sessions.ts';
import { percentilesOf } from '../support/statistics.ts';

/** Pairs that play ping-pong while another one floods. */
const CALM_PAIRS = 16;
const CALM = {
  first: 0,
  last: CALM_PAIRS - 1,
  traffic: 'pingpong',
  sizeBytes: 128,
  window: 1,
} as const;
const FLOODING = CALM_PAIRS;
const NEWCOMER = CALM_PAIRS + 1;
const SAMPLE_MS = 100;
const MIB = 1 << 20;
const SUBJECTS: readonly SubjectName[] = ['halfway', 'haproxy'];

interface Flood {
  readonly name: string;
  readonly sizeBytes: number;
  readonly isReaderStalled: boolean;
}

const FLOODS: readonly Flood[] = [
  { name: 'reader stalled, 1 KiB messages', sizeBytes: 1_024, isReaderStalled: true },
  { name: 'reader stalled, 64 KiB messages', sizeBytes: 65_536, isReaderStalled: true },
  { name: 'reader reading, 1 KiB messages', sizeBytes: 1_024, isReaderStalled: false },
  { name: 'reader reading, 64 KiB messages', sizeBytes: 65_536, isReaderStalled: false },
];

/** What one pair that writes without end does to the memory of the process and to everybody else. */
async function run(options: ScenarioOptions): Promise<Result> {
  const durationMs = options.isQuick ? 1_500 : 6_000;
  await using cleanup = new Cleanup();
  const { sessions, notes } = await openSessions(options, SUBJECTS, CALM_PAIRS + 1, cleanup);
  const rows: (readonly Cell[])[] = [];
  for (const session of sessions) {
    rows.push(await calm(session, durationMs));
    for (const flood of FLOODS) {
      options.progress(`${session.subject.name}: ${flood.name}`);
      rows.push(await floodWith(session, flood, durationMs));
    }
  }
  return {
    scenario: 'flood',
    command: 'npm run bench flood',
    about: `one pair floods for ${durationMs} ms, ${CALM_PAIRS} others play ping-pong; ${PINNING}`,
    columns: [
      'subject',
      'flood',
      'memory grew MiB',
      'others p50 ms',
      'others p99 ms',
      'others max ms',
      'new pair ms',
      'flood MiB/s',
    ],
    rows,
    notes: [
      ...notes,
      'wanted of halfway: memory grows by less than 64 MiB, p99 of the others below 20 ms',
    ],
  };
}

export const flood: Scenario = { name: 'flood', run };

/** The same process without a flood: what the rows below it are to be compared with. */
async function calm(session: Session, durationMs: number): Promise<readonly Cell[]> {
  const { generator, subject } = session;
  generator.start(CALM);
  await sleep(durationMs / 3);
  const { latencies } = await generator.drain();
  const { p50Ms, p99Ms, maxMs } = percentilesOf(latencies);
  return [subject.name, 'none', 0, p50Ms, p99Ms, maxMs, await newPairMs(session), '-'];
}

async function floodWith(
  session: Session,
  { name, sizeBytes, isReaderStalled }: Flood,
  durationMs: number,
): Promise<readonly Cell[]> {
  const { generator, subject } = session;
  const reader = subject.answeringId(FLOODING);
  const before = memoryBytes(subject.pid).now;
  const { bad, lost } = await generator.mark();
  generator.stall(reader, isReaderStalled);
  generator.start(CALM);
  generator.start({ first: FLOODING, last: FLOODING, traffic: 'stream', sizeBytes, window: 1 });
  const start = await generator.mark();
  let highest = before;
  let newcomerMs = Number.NaN;
  for (let passedMs = 0; passedMs < durationMs; passedMs += SAMPLE_MS) {
    await sleep(SAMPLE_MS);
    highest = Math.max(highest, memoryBytes(subject.pid).now);
    if (Number.isNaN(newcomerMs) && passedMs >= durationMs / 2)
      newcomerMs = await newPairMs(session);
  }
  const end = await generator.mark();
  generator.stall(reader, false);
  const drained = await generator.drain();
  if (drained.missing > 0 || drained.bad > bad || drained.lost > lost) {
    throw new Error(`${subject.name} lost something in a flood: ${JSON.stringify(drained)}`);
  }
  const { p50Ms, p99Ms, maxMs } = percentilesOf(end.latencies);
  const mibPerSec = (((end.bytes - start.bytes) / MIB) * 1e9) / (end.atNs - start.atNs);
  return [
    subject.name,
    name,
    (highest - before) / MIB,
    p50Ms,
    p99Ms,
    maxMs,
    newcomerMs,
    isReaderStalled ? '-' : mibPerSec,
  ];
}

/** How long a new pair takes from the first dial to both ends open. */
async function newPairMs({ subject, generator }: Session): Promise<number> {
  const startMs = performance.now();
  await connectPairs(subject, generator, { first: NEWCOMER, count: 1 });
  const passedMs = performance.now() - startMs;
  generator.drop(NEWCOMER);
  generator.drop(subject.answeringId(NEWCOMER));
  return passedMs;
}
