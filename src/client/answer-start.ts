import type { CancelTimer, Clock } from '../base/clock.ts';
import { CONTROL_BODY_BYTES_MAX } from '../protocol/control-messages.ts';
import type { AnswerBody } from './answer.ts';

/** How long an answer is held back in the hope that all of it fits the control channel. */
export const HOLD_MS = 200;

export type Chunks = AsyncIterator<Buffer, unknown, undefined>;

/** What came of a body so far. */
export interface AnswerStart {
  readonly bytes: Buffer;
  readonly isWhole: boolean;
  readonly rest: Chunks;
}

/** The body piece by piece, whatever it is. */
export async function* chunksOf(body: AnswerBody | undefined): AsyncGenerator<Buffer> {
  if (body === undefined) return;
  if (typeof body === 'string') yield Buffer.from(body);
  else if (body instanceof Uint8Array) yield bufferOf(body);
  else {
    for await (const chunk of body) {
      yield typeof chunk === 'string' ? Buffer.from(chunk) : bufferOf(chunk);
    }
  }
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Takes chunks until they end, are too many for the control channel, or take too long. */
export async function collect(chunks: Chunks, clock: Clock): Promise<AnswerStart> {
  const taken: Buffer[] = [];
  let size = 0;
  let cancel: CancelTimer | undefined;
  const late = new Promise<'late'>(resolve => {
    cancel = clock.after(HOLD_MS, () => resolve('late'));
  });
  try {
    for (;;) {
      const next = chunks.next();
      const result = await Promise.race([next, late]);
      if (result === 'late') {
        // It may fail before anybody asks `rest` for it.
        next.catch(() => undefined);
        return { bytes: Buffer.concat(taken), isWhole: false, rest: startingWith(next, chunks) };
      }
      if (result.done === true) return { bytes: Buffer.concat(taken), isWhole: true, rest: chunks };
      taken.push(result.value);
      size += result.value.length;
      if (size > CONTROL_BODY_BYTES_MAX) {
        return { bytes: Buffer.concat(taken), isWhole: false, rest: chunks };
      }
    }
  } finally {
    cancel?.();
  }
}

async function* startingWith(
  pending: Promise<IteratorResult<Buffer, unknown>>,
  chunks: Chunks,
): AsyncGenerator<Buffer> {
  try {
    for (let result = await pending; result.done !== true; result = await chunks.next()) {
      yield result.value;
    }
  } finally {
    await chunks.return?.();
  }
}
