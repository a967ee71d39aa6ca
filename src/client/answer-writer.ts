import { formatResponse } from '../protocol/control-messages.ts';
import { OPCODES } from '../protocol/frames.ts';
import type { Answer } from './answer.ts';
import type { AnswerStart } from './answer-start.ts';
import type { FrameChannel } from './frame-channel.ts';

/** Longest fragment that is written at once. */
const PIECE_BYTES_MAX = 65_536;

/** The JSON message that begins an answer. */
export function responseText(requestId: string, answer: Answer, body: boolean): string {
  return formatResponse({
    requestId,
    statusCode: answer.status,
    ...(answer.reason === undefined ? {} : { statusDescription: answer.reason }),
    responseHeaders: answer.headers ?? {},
    body,
  });
}

/** Writes one answer to the rendezvous of its request. The owner of the channel's events calls `drained` and `abort`. */
export class AnswerWriter {
  readonly #channel: FrameChannel;
  /** Whether the channel has gone, and with it whoever wanted this. */
  #isAborted = false;
  #onDrained: (() => void) | undefined;

  constructor(channel: FrameChannel) {
    this.#channel = channel;
  }

  /**
   * Writes all of an answer and closes. One that breaks off breaks the channel, so that its sender
   * sees no end, and rejects; one that nobody wants any more ends quietly.
   */
  async write(
    requestId: string,
    answer: Answer,
    start: Pick<AnswerStart, 'bytes' | 'rest'>,
  ): Promise<void> {
    const hasBody = answer.body !== undefined;
    try {
      await this.#send(OPCODES.text, true, Buffer.from(responseText(requestId, answer, hasBody)));
      if (hasBody) await this.#body(start);
      this.#channel.close(1000, 'Normal Closure');
    } catch (error) {
      if (this.#isAborted) return;
      this.#channel.destroy();
      throw error;
    }
  }

  drained(): void {
    this.#onDrained?.();
    this.#onDrained = undefined;
  }

  /** The channel has gone: nothing waits any more. */
  abort(): void {
    this.#isAborted = true;
    this.drained();
  }

  /** One message in fragments. An empty one ends it, because only the end of the source tells which was the last. */
  async #body({ bytes, rest }: Pick<AnswerStart, 'bytes' | 'rest'>): Promise<void> {
    let opcode: number = OPCODES.binary;
    const pieces = async (chunk: Buffer): Promise<void> => {
      for (let at = 0; at < chunk.length; at += PIECE_BYTES_MAX) {
        await this.#send(opcode, false, chunk.subarray(at, at + PIECE_BYTES_MAX));
        opcode = OPCODES.continuation;
      }
    };
    await pieces(bytes);
    for (let next = await rest.next(); next.done !== true; next = await rest.next()) {
      if (this.#isAborted) {
        await rest.return?.();
        return;
      }
      await pieces(next.value);
    }
    await this.#send(opcode, true, Buffer.alloc(0));
  }

  /** Waits while the channel is full. */
  async #send(opcode: number, fin: boolean, payload: Uint8Array): Promise<void> {
    if (this.#isAborted || this.#channel.send(opcode, fin, payload)) return;
    await new Promise<void>(resolve => {
      this.#onDrained = resolve;
    });
  }
}
