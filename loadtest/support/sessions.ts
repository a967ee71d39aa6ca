import { startHalfway } from '../subjects/halfway.ts';
import { startHaproxy } from '../subjects/haproxy.ts';
import { connectPairs } from '../subjects/subject.ts';
import type { Subject, SubjectName } from '../subjects/subject.ts';
import { startUwsEcho } from '../subjects/uws-echo.ts';
import { startWsRelay } from '../subjects/ws-relay.ts';
import { startGenerator } from './generator.ts';
import type { Generator } from './generator.ts';
import type { Cleanup } from './cleanup.ts';
import { hasProgram } from './process.ts';
import { takesPart } from './scenario.ts';
import type { ScenarioOptions } from './scenario.ts';

/** A subject and a generator of its own with all pairs open: idle until told to start. */
export interface Session {
  readonly subject: Subject;
  readonly generator: Generator;
}

const STARTS: Record<SubjectName, () => Subject | Promise<Subject>> = {
  'uws-echo': startUwsEcho,
  halfway: startHalfway,
  haproxy: () => startHaproxy('http'),
  'haproxy-tcp': () => startHaproxy('tcp'),
  'ws-relay': startWsRelay,
};

/**
 * Starts the subjects that take part, with `pairs` pairs through each. A subject whose program is
 * not installed is left out, and a note says so. `cleanup` ends everything.
 */
export async function openSessions(
  options: ScenarioOptions,
  names: readonly SubjectName[],
  pairs: number,
  cleanup: Cleanup,
): Promise<{ readonly sessions: readonly Session[]; readonly notes: readonly string[] }> {
  const sessions: Session[] = [];
  const notes: string[] = [];
  for (const name of names) {
    if (!takesPart(options, name)) continue;
    if (name.startsWith('haproxy') && !hasProgram('haproxy')) {
      notes.push(`${name} left out: HAProxy is not installed (apt-get install haproxy)`);
      continue;
    }
    options.progress(`starting ${name}`);
    const subject = cleanup.use(await STARTS[name]());
    const generator = cleanup.use(startGenerator());
    await subject.prepare(generator);
    await connectPairs(subject, generator, { first: 0, count: pairs });
    sessions.push({ subject, generator });
  }
  return { sessions, notes };
}
