import { CLOSE_CODE_LOST, OPCODES, parseClosePayload } from '../../protocol/frames.ts';
import type { PollFrame } from '../../protocol/poll-frames.ts';
import type { ControlChannel } from '../../relay/control-channel.ts';
import type { ControlSocket } from '../../relay/ports.ts';
import type { ControlSocketLimits } from '../control-socket.ts';
import type { Outbox } from '../outbox.ts';
import type { PollSession, SessionOwner } from './poll-session.ts';

/** A listener's control channel over a long-poll session: whole messages, which are small. */
export class ControlPollSocket implements ControlSocket, SessionOwner {
  readonly transport = 'poll';
  readonly #session: PollSession;
  readonly #outbox: Outbox;
  readonly #limits: ControlSocketLimits;
  #channel: ControlChannel | undefined;
  /** Of the message that has begun to arrive. */
  #parts: Uint8Array[] = [];
  #partsBytes = 0;
  #isBinary = false;
  /** Something arrived that cannot be followed any further. */
  #isDeaf = false;
  #isClosed = false;

  constructor(session: PollSession, outbox: Outbox, limits: ControlSocketLimits) {
    this.#session = session;
    this.#outbox = outbox;
    this.#limits = limits;
    session.ownedBy(this);
  }

  /** Hands itself to the core; before the first request. */
  open(open: (socket: ControlSocket) => ControlChannel): void {
    this.#channel = open(this);
  }

  send(text: string, body?: Uint8Array): boolean {
    if (this.#isClosed) return false;
    // Characters stand for bytes here: JSON is nearly always ASCII, and this is a safety limit.
    const bytes = text.length + (body?.length ?? 0);
    const { queueBytesMax } = this.#limits;
    // Bodies leave half of the room to messages without one: a body can go by rendezvous instead.
    const bytesMax = body === undefined ? queueBytesMax : queueBytesMax / 2;
    if (this.#session.outgoing.keptBytes + bytes > bytesMax) return false;
    this.#session.send(OPCODES.text, true, Buffer.from(text));
    if (body !== undefined) this.#session.send(OPCODES.binary, true, body);
    return true;
  }

  close(code: number, reason: string): void {
    this.#session.close(code, reason);
    // Not at once: the core is not to be called back from within its own call.
    this.#outbox.put(() => this.#closed(code));
  }

  arrived(): void {
    for (;;) {
      const frame = this.#session.incoming.read();
      if (frame === undefined) break;
      // What comes after the end is read all the same: its writer is to get at its Close.
      if (!this.#isDeaf && !this.#isClosed) this.#take(frame);
    }
    this.#session.hasRead();
  }

  acknowledged(): void {}

  lost(): void {
    this.#closed(CLOSE_CODE_LOST);
  }

  #take({ opcode, isFinal, payload }: PollFrame): void {
    if (opcode === OPCODES.close) {
      const { code } = parseClosePayload(payload);
      this.#session.close(code, '');
      this.#closed(code);
      return;
    }
    this.#partsBytes += payload.length;
    if (this.#partsBytes > this.#limits.messageBytesMax) {
      this.#isDeaf = true;
      this.#parts = [];
      this.#channel?.tooBig();
      return;
    }
    if (opcode !== OPCODES.continuation) this.#isBinary = opcode === OPCODES.binary;
    this.#parts.push(payload);
    if (!isFinal) return;
    const message = Buffer.concat(this.#parts);
    this.#parts = [];
    this.#partsBytes = 0;
    if (this.#isBinary) this.#channel?.binary(message);
    else this.#channel?.text(message.toString());
  }

  #closed(code: number): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#channel?.closed(code);
  }
}
