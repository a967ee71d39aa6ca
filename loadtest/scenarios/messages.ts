import { check, measure } from '../support/measure.ts';
import type { Load, Measurement } from '../support/measure.ts';
import { Cleanup } from '../support/cleanup.ts';
import { PINNING } from '../support/process.ts';
import type { Cell, Result, Scenario, ScenarioOptions } from '../support/scenario.ts';
import { openSessions } from '../support/sessions.ts';
import { median, percentilesOf, spread } from '../support/statistics.ts';
import type { SubjectName } from '../subjects/subject.ts';

const PAIRS = 64;

interface MessageCell {
  readonly name: string;
  readonly sizeBytes: number;
  readonly window: number;
  /** At most so many times the CPU of the echo: what the relay is held to. */
  readonly echoRatioMax: number;
}

const CELLS: readonly MessageCell[] = [
  { name: '16 B, one at a time', sizeBytes: 16, window: 1, echoRatioMax: 0.95 },
  { name: '1 KiB, one at a time', sizeBytes: 1_024, window: 1, echoRatioMax: 0.95 },
  { name: '16 B, 16 in flight', sizeBytes: 16, window: 16, echoRatioMax: 0.5 },
  { name: '128 B, 16 in flight', sizeBytes: 128, window: 16, echoRatioMax: 0.5 },
  { name: '1 KiB, 16 in flight', sizeBytes: 1_024, window: 16, echoRatioMax: 0.5 },
  { name: '16 KiB, 4 in flight', sizeBytes: 16_384, window: 4, echoRatioMax: 1 },
  { name: '64 KiB, 4 in flight', sizeBytes: 65_536, window: 4, echoRatioMax: 1 },
];

const SUBJECTS: readonly SubjectName[] = [
  'uws-echo',
  'halfway',
  'haproxy',
  'haproxy-tcp',
  'ws-relay',
];

/**
 * CPU per forwarded message. A forward is one message relayed one way; for the echo it is one
 * message sent back. All servers run at once, one of them busy: rounds go through the subjects cell
 * by cell, so that a slow minute of the machine meets them all, and each number is a median.
 */
async function run(options: ScenarioOptions): Promise<Result> {
  const rounds = options.isQuick ? 1 : 5;
  const times = options.isQuick
    ? { warmUpMs: 200, windowMs: 1_000 }
    : { warmUpMs: 300, windowMs: 1_500 };
  await using cleanup = new Cleanup();
  const { sessions, notes } = await openSessions(options, SUBJECTS, PAIRS, cleanup);

  const measured = new Map<string, Measurement[]>();
  for (let round = 0; round < rounds; round += 1) {
    for (const cell of CELLS) {
      options.progress(`round ${round + 1} of ${rounds}: ${cell.name}`);
      for (const session of sessions) {
        const load = loadOf(cell);
        if (round === 0) await check(session, load, 150);
        const key = `${cell.name}/${session.subject.name}`;
        const list = measured.get(key) ?? [];
        list.push(await measure(session, load, times));
        measured.set(key, list);
      }
    }
  }

  const present = sessions.map(session => session.subject.name);
  const of = (cell: MessageCell, name: SubjectName): Summary =>
    summaryOf(measured.get(`${cell.name}/${name}`) ?? []);
  return {
    scenario: 'messages',
    command: 'npm run bench messages',
    about: `CPU microseconds of the server per forwarded message, ${PAIRS} pairs; ${PINNING}`,
    columns: [
      'cell',
      ...present,
      'halfway/echo',
      'wanted',
      '/haproxy',
      '/haproxy-tcp',
      'ws/halfway',
      '± %',
      'halfway msg/s',
      'generator µs',
      'p99 ms',
    ],
    rows: CELLS.map((cell): readonly Cell[] => {
      const halfway = of(cell, 'halfway');
      const subjects = present.map(name => of(cell, name).serverUs);
      const comparison = [
        halfway.serverUs / of(cell, 'uws-echo').serverUs,
        `<= ${cell.echoRatioMax}`,
        halfway.serverUs / of(cell, 'haproxy').serverUs,
        halfway.serverUs / of(cell, 'haproxy-tcp').serverUs,
        of(cell, 'ws-relay').serverUs / halfway.serverUs,
        halfway.spreadPercent,
        halfway.messagesPerSec,
        halfway.generatorUs,
        halfway.p99Ms,
      ];
      return [[cell.name], subjects, comparison].flat();
    }),
    notes: [...notes, `${rounds} rounds of ${times.windowMs} ms; contents were compared before.`],
  };
}

export const messages: Scenario = { name: 'messages', run };

interface Summary {
  readonly serverUs: number;
  readonly generatorUs: number;
  readonly messagesPerSec: number;
  readonly spreadPercent: number;
  readonly p99Ms: number;
}

function summaryOf(rounds: readonly Measurement[]): Summary {
  const latencies = rounds.flatMap(round => round.latencies);
  return {
    serverUs: median(rounds.map(round => round.serverUs)),
    generatorUs: median(rounds.map(round => round.generatorUs)),
    messagesPerSec: median(rounds.map(round => round.messagesPerSec)),
    spreadPercent: 100 * spread(rounds.map(round => round.serverUs)),
    p99Ms: latencies.length === 0 ? Number.NaN : percentilesOf(latencies).p99Ms,
  };
}

function loadOf(cell: MessageCell): Load {
  const { sizeBytes, window } = cell;
  return { traffic: 'pingpong', pairs: PAIRS, sizeBytes, window };
}
