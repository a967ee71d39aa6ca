import type { Counters, Generator, Traffic } from './generator.ts';
import { cpuMs, sleep } from './process.ts';

/** What is measured: a session, or anything else with pairs open at a generator. */
export interface Measured {
  readonly subject: {
    readonly name: string;
    readonly pid: number;
    /** Further processes whose time counts. */
    readonly otherPids?: readonly number[];
  };
  readonly generator: Generator;
}

export interface Measurement {
  /** CPU time of the server's processes per message it forwarded (or echoed). */
  readonly serverUs: number;
  /** The same of the generator, for the same messages. */
  readonly generatorUs: number;
  readonly messagesPerSec: number;
  /** Share of one core that the server used. */
  readonly serverLoad: number;
  readonly latencies: Counters['latencies'];
}

export interface Load {
  readonly traffic: Traffic;
  readonly pairs: number;
  readonly sizeBytes: number;
  readonly window: number;
}

/**
 * Runs the load for `warmUpMs`, measures over `windowMs`, stops, and waits until the last message
 * has arrived. Throws when one is missing, doubled or malformed, or a socket was lost.
 */
export async function measure(
  session: Measured,
  load: Load,
  times: { readonly warmUpMs: number; readonly windowMs: number },
): Promise<Measurement> {
  const { subject, generator } = session;
  const { pairs, ...traffic } = load;
  const before = await generator.mark();
  generator.start({ first: 0, last: pairs - 1, ...traffic });
  await sleep(times.warmUpMs);
  const from = await sample(session);
  await sleep(times.windowMs);
  const to = await sample(session);
  verify(subject.name, load, before, await generator.drain());

  const messages = to.counters.messages - from.counters.messages;
  const elapsedMs = (to.counters.atNs - from.counters.atNs) / 1e6;
  return {
    serverUs: ((to.serverMs - from.serverMs) * 1_000) / messages,
    generatorUs: ((to.generatorMs - from.generatorMs) * 1_000) / messages,
    messagesPerSec: (messages * 1_000) / elapsedMs,
    serverLoad: (to.serverMs - from.serverMs) / elapsedMs,
    latencies: to.counters.latencies,
  };
}

/** Sends numbered messages for a moment and compares every byte that arrives. */
export async function check(session: Measured, load: Load, durationMs: number): Promise<void> {
  const { pairs, ...traffic } = load;
  const before = await session.generator.mark();
  session.generator.start({ first: 0, last: pairs - 1, ...traffic, check: true });
  await sleep(durationMs);
  verify(session.subject.name, load, before, await session.generator.drain());
}

function verify(name: string, load: Load, before: Counters, after: Counters): void {
  const bad = after.bad - before.bad;
  const lost = after.lost - before.lost;
  const messages = after.messages - before.messages;
  if (after.missing === 0 && bad === 0 && lost === 0 && messages > 0) return;
  throw new Error(
    `${name} did not forward faithfully (${load.traffic}, ${load.sizeBytes} bytes, window ${load.window}): ` +
      `${messages} messages arrived, ${after.missing} missing, ${bad} bad, ${lost} sockets lost`,
  );
}

async function sample(session: Measured): Promise<{
  readonly counters: Counters;
  readonly serverMs: number;
  readonly generatorMs: number;
}> {
  const counters = await session.generator.mark();
  const { pid, otherPids = [] } = session.subject;
  return {
    counters,
    serverMs: [pid, ...otherPids].reduce((sum, each) => sum + cpuMs(each), 0),
    generatorMs: cpuMs(session.generator.pid),
  };
}
