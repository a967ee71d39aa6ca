import type { Generator } from '../support/generator.ts';

/** A server under measurement, and the way to lay connections through it. */
export interface Subject extends AsyncDisposable {
  readonly name: SubjectName;
  readonly pid: number;
  /**
   * Opens both ends of `count` pairs at the generator: origins 0 to count - 1, the answering end of
   * each `ANSWERING` above it. For an echo both ends are one socket.
   */
  connectPairs(generator: Generator, count: number): Promise<void>;
}

export type SubjectName = 'halfway' | 'uws-echo' | 'haproxy' | 'haproxy-tcp' | 'ws-relay';
