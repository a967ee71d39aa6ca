import { formatResponse } from '../../protocol/control-messages.ts';
import { OPCODES } from '../../protocol/frames.ts';
import type { Answer } from './answer.ts';
import type { AnswerStart } from './answer-start.ts';
import type { FrameSocket } from './frame-socket.ts';

/** The JSON message that begins an answer. */
export function responseText(requestId: string, answer: Answer, body: boolean): string {
  return formatResponse({
    requestId,
    statusCode: answer.status,
    ...(answer.reason === undefined ? {} : { statusDescription: answer.reason }),
    responseHeaders: answer.headers,
    body,
  });
}

/** Writes one answer to the rendezvous of its request. The owner of the socket's events calls `drained` and `abort`. */
export class AnswerWriter {
  readonly #socket: FrameSocket;
  /** Whether the socket has gone, and with it whoever wanted this. */
  #isAborted = false;
  #onDrained: (() => void) | undefined;

  constructor(socket: FrameSocket) {
    this.#socket = socket;
  }

  /**
   * Writes all of an answer and closes. One that breaks off breaks the socket, so that its sender sees no end, and
   * rejects; one that nobody wants any more ends quietly.
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
      this.#socket.close(1000, 'Normal Closure');
    } catch (error) {
      if (this.#isAborted) return;
      this.#socket.destroy();
      throw error;
    }
  }

  drained(): void {
    this.#onDrained?.();
    this.#onDrained = undefined;
  }

  /** The socket has gone: nothing waits any more. */
  abort(): void {
    this.#isAborted = true;
    this.drained();
  }

  /** One message in fragments. An empty one ends it, because only the end of the source tells which was the last. */
  async #body({ bytes, rest }: Pick<AnswerStart, 'bytes' | 'rest'>): Promise<void> {
    let opcode: number = OPCODES.binary;
    if (bytes.length > 0) {
      await this.#send(opcode, false, bytes);
      opcode = OPCODES.continuation;
    }
    for (let next = await rest.next(); next.done !== true; next = await rest.next()) {
      if (this.#isAborted) {
        await rest.return?.();
        return;
      }
      if (next.value.length === 0) continue;
      await this.#send(opcode, false, next.value);
      opcode = OPCODES.continuation;
    }
    await this.#send(opcode, true, Buffer.alloc(0));
  }

  /** Waits while the socket is full. */
  async #send(opcode: number, fin: boolean, payload: Uint8Array): Promise<void> {
    if (this.#isAborted || this.#socket.send(opcode, fin, payload)) return;
    await new Promise<void>(resolve => {
      this.#onDrained = resolve;
    });
  }
}
