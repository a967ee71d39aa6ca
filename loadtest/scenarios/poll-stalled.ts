import { startEnds } from '../subjects/ends.ts';
import { startHalfway } from '../subjects/halfway.ts';
import { Cleanup } from '../support/cleanup.ts';
import { memoryBytes, PINNING, sleep } from '../support/process.ts';
import type { Cell, Result, Scenario, ScenarioOptions } from '../support/scenario.ts';

const MIB = 1 << 20;
const SIZE_BYTES = 65_536;
const TRANSPORTS = ['websocket', 'poll'] as const;

/**
 * Senders write as long as their library lets them, to listeners that have stopped reading: what piles up where. Then
 * the listeners read on, and all that was taken has to arrive.
 */
async function run(options: ScenarioOptions): Promise<Result> {
  const pairs = options.isQuick ? 4 : 16;
  const stallMs = options.isQuick ? 2_000 : 10_000;
  const rows: (readonly Cell[])[] = [];
  for (const kind of TRANSPORTS) {
    options.progress(`${pairs} stalled pairs by ${kind}`);
    await using cleanup = new Cleanup();
    const halfway = cleanup.use(await startHalfway());
    const target = halfway.connectionString('hc0');
    const ends = cleanup.use(await startEnds({ kind, target, pairs }));
    const serverBefore = memoryBytes(halfway.pid).now;
    const endsBefore = memoryBytes(ends.pid).now;
    await ends.ask({ stall: { sizeBytes: SIZE_BYTES } });
    await sleep(stallMs);
    const { missing } = await ends.ask('mark');
    await sleep(stallMs);
    const later = await ends.ask('mark');
    const serverGrew = memoryBytes(halfway.pid).peak - serverBefore;
    const endsGrew = memoryBytes(ends.pid).peak - endsBefore;
    const drained = await ends.ask('drain');
    if (drained.missing > 0) throw new Error(`${drained.missing} messages of ${kind} were lost`);
    rows.push([
      kind,
      pairs,
      (missing * SIZE_BYTES) / MIB / pairs,
      (later.missing * SIZE_BYTES) / MIB / pairs,
      serverGrew / MIB / pairs,
      endsGrew / MIB / pairs,
    ]);
  }
  return {
    scenario: 'poll-stalled',
    command: 'npm run bench poll-stalled',
    about: `messages of 64 KiB to listeners that do not read, for ${(2 * stallMs) / 1_000} s; ${PINNING}`,
    columns: [
      'transport',
      'pairs',
      'MiB taken/pair',
      'at the end',
      'relay MiB/pair',
      'both ends MiB/pair',
    ],
    rows,
    notes: [
      'Taken is what the senders could give to their library in half of the time, and in all of it:',
      'the same, when back-pressure reaches them. Memory is the highest of the process above what it',
      'had before; garbage that was not collected yet is in it.',
    ],
  };
}

export const pollStalled: Scenario = { name: 'poll-stalled', run };
