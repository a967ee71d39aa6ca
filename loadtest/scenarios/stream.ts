import type { SubjectName } from '../subjects/subject.ts';
import { Cleanup } from '../support/cleanup.ts';
import { check, measure } from '../support/measure.ts';
import type { Measurement } from '../support/measure.ts';
import { PINNING } from '../support/process.ts';
import type { Cell, Result, Scenario, ScenarioOptions } from '../support/scenario.ts';
import { openSessions } from '../support/sessions.ts';
import { median } from '../support/statistics.ts';

const PAIRS = 8;
const MIB = 1 << 20;
const SIZES_BYTES = [1_024, 16_384, 65_536, MIB] as const;
const SUBJECTS: readonly SubjectName[] = ['uws-echo', 'halfway', 'haproxy', 'ws-relay'];

/** One direction as fast as it goes. The echo sends every byte back, which no relay does: the others have it easier. */
async function run(options: ScenarioOptions): Promise<Result> {
  const rounds = options.isQuick ? 1 : 3;
  const times = { warmUpMs: 300, windowMs: options.isQuick ? 700 : 2_000 };
  await using cleanup = new Cleanup();
  const { sessions, notes } = await openSessions(options, SUBJECTS, PAIRS, cleanup);
  const rows: (readonly Cell[])[] = [];
  for (const sizeBytes of SIZES_BYTES) {
    const load = { traffic: 'stream', pairs: PAIRS, sizeBytes, window: 1 } as const;
    const measured = new Map<SubjectName, Measurement[]>();
    for (let round = 0; round < rounds; round += 1) {
      options.progress(`round ${round + 1} of ${rounds}: messages of ${sizeBytes} bytes`);
      for (const session of sessions) {
        if (round === 0) await check(session, { ...load, traffic: 'pingpong' }, 150);
        const list = measured.get(session.subject.name) ?? [];
        list.push(await measure(session, load, times));
        measured.set(session.subject.name, list);
      }
    }
    rows.push(...rowsOf(sizeBytes, measured));
  }
  return {
    scenario: 'stream',
    command: 'npm run bench stream',
    about: `bulk in one direction through ${PAIRS} pairs; ${PINNING}`,
    columns: ['message bytes', 'subject', 'CPU µs/MiB', 'halfway/this', 'MiB/s', 'server load'],
    rows,
    notes,
  };
}

export const stream: Scenario = { name: 'stream', run };

function rowsOf(
  sizeBytes: number,
  measured: ReadonlyMap<SubjectName, readonly Measurement[]>,
): readonly (readonly Cell[])[] {
  const perMib = (name: SubjectName): number =>
    (median((measured.get(name) ?? []).map(each => each.serverUs)) * MIB) / sizeBytes;
  return [...measured].map(([name, list]) => [
    sizeBytes,
    name,
    perMib(name),
    perMib('halfway') / perMib(name),
    (median(list.map(each => each.messagesPerSec)) * sizeBytes) / MIB,
    median(list.map(each => each.serverLoad)),
  ]);
}
