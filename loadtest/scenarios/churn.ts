import type { SubjectName } from '../subjects/subject.ts';
import { Cleanup } from '../support/cleanup.ts';
import { ANSWERING } from '../support/generator.ts';
import { cpuMs, memoryBytes, openFiles, PINNING, sleep } from '../support/process.ts';
import type { Cell, Result, Scenario, ScenarioOptions } from '../support/scenario.ts';
import { openSessions } from '../support/sessions.ts';
import type { Session } from '../support/sessions.ts';

/** Pairs being opened or closed at any moment. */
const LANES = 32;
const MESSAGE_BYTES = 128;
const MIB = 1 << 20;
/** Until the code of a server in JavaScript is compiled: its first pairs cost several times as much. */
const WARM_UP_MS = 2_000;
const SUBJECTS: readonly SubjectName[] = ['uws-echo', 'halfway', 'ws-relay'];

/**
 * Pairs that live for one message there and back: connect, accept, message, answer, Close both ways.
 * For the echo it is one connection instead of two and an offer, so a relay cannot come below 2.
 */
async function run(options: ScenarioOptions): Promise<Result> {
  const durationMs = options.isQuick ? 1_500 : 6_000;
  await using cleanup = new Cleanup();
  const { sessions, notes } = await openSessions(options, SUBJECTS, 0, cleanup);
  const measured = new Map<SubjectName, Churn>();
  for (const session of sessions) {
    options.progress(`churn through ${session.subject.name}`);
    measured.set(session.subject.name, await churnThrough(session, durationMs));
  }
  const echoUs = measured.get('uws-echo')?.cpuUs ?? Number.NaN;
  return {
    scenario: 'churn',
    command: 'npm run bench churn',
    about: `pairs opened, used once and closed, ${LANES} at a time; ${PINNING}`,
    columns: ['subject', 'pairs/s', 'CPU µs/pair', 'this/echo', 'memory grew MiB', 'files left'],
    rows: [...measured].map(([name, churned]): readonly Cell[] => [
      name,
      churned.pairsPerSec,
      churned.cpuUs,
      churned.cpuUs / echoUs,
      churned.grewBytes / MIB,
      churned.filesLeft,
    ]),
    notes,
  };
}

export const churn: Scenario = { name: 'churn', run };

interface Churn {
  readonly pairsPerSec: number;
  readonly cpuUs: number;
  readonly grewBytes: number;
  /** Descriptors of the server more than before, once everything is closed. */
  readonly filesLeft: number;
}

async function churnThrough(session: Session, durationMs: number): Promise<Churn> {
  const { subject } = session;
  const filesBefore = openFiles(subject.pid);
  await runLanes(session, WARM_UP_MS);
  const memoryBefore = memoryBytes(subject.pid).now;
  const cpuBeforeMs = cpuMs(subject.pid);
  const startMs = performance.now();
  const pairs = await runLanes(session, durationMs);
  const elapsedMs = performance.now() - startMs;
  const cpuUsed = cpuMs(subject.pid) - cpuBeforeMs;
  await sleep(200);
  return {
    pairsPerSec: (pairs * 1_000) / elapsedMs,
    cpuUs: (cpuUsed * 1_000) / pairs,
    grewBytes: memoryBytes(subject.pid).now - memoryBefore,
    filesLeft: openFiles(subject.pid) - filesBefore,
  };
}

/** Keeps every lane busy for `durationMs` and resolves with the number of pairs when the last one has closed. */
function runLanes({ subject, generator }: Session, durationMs: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const untilMs = performance.now() + durationMs;
    const openEnds = new Map<number, number>();
    let pairs = 0;
    let lanes = LANES;
    const off = generator.onEvent(event => {
      if (event.event === 'open') {
        const lane = event.id % ANSWERING;
        const answering = subject.answeringId(lane);
        const opened = (openEnds.get(lane) ?? 0) + 1;
        openEnds.set(lane, opened);
        if (opened < (answering === lane ? 1 : 2)) return;
        openEnds.delete(lane);
        generator.pair(lane, answering);
        const once = { traffic: 'once', sizeBytes: MESSAGE_BYTES, window: 1 } as const;
        generator.start({ first: lane, last: lane, ...once });
      } else if (event.event === 'done') {
        if (event.messages !== 1) reject(new Error(`Pair ${event.id} closed without its answer`));
        pairs += 1;
        if (performance.now() < untilMs) {
          subject.dialPair(generator, event.id);
          return;
        }
        lanes -= 1;
        if (lanes > 0) return;
        off();
        resolve(pairs);
      } else if (event.event === 'refused' || event.event === 'closed') {
        off();
        reject(new Error(`${subject.name} broke a pair: ${JSON.stringify(event)}`));
      }
    });
    for (let lane = 0; lane < LANES; lane += 1) subject.dialPair(generator, lane);
  });
}
