import { ANSWERING } from '../support/generator.ts';
import type { Generator } from '../support/generator.ts';

/** A server under measurement, and the way to lay connections through it. */
export interface Subject extends AsyncDisposable {
  readonly name: SubjectName;
  /** Known once `prepare` is done. */
  readonly pid: number;
  /** Whatever must stand before the first pair: a listener, a server behind the proxy. Called once. */
  prepare(generator: Generator): Promise<void>;
  /**
   * Makes the generator open both ends of a pair: the origin under this id, the answering end under
   * `answeringId`. For an echo both ends are one socket.
   */
  dialPair(generator: Generator, id: number): void;
  answeringId(id: number): number;
}

export type SubjectName = 'halfway' | 'uws-echo' | 'haproxy' | 'haproxy-tcp' | 'ws-relay';

/** Also what takes part in scenarios that lay no pairs by the generator. */
export type ParticipantName = SubjectName | 'socket.io';

/** Opens pairs under the origin ids from `first` to `first + count - 1`. */
export async function connectPairs(
  subject: Pick<Subject, 'dialPair' | 'answeringId'>,
  generator: Generator,
  { first, count }: { readonly first: number; readonly count: number },
): Promise<void> {
  const ids = Array.from({ length: count }, (_, index) => first + index);
  const opened = generator.opened(ids.flatMap(id => [id, subject.answeringId(id)]));
  for (const id of ids) subject.dialPair(generator, id);
  await opened;
  for (const id of ids) generator.pair(id, subject.answeringId(id));
}

/** For subjects whose pairs have two sockets. */
export function separateAnsweringId(id: number): number {
  return ANSWERING + id;
}
