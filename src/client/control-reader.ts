import { parseServiceMessage, type ServiceMessage } from '../protocol/control-messages.ts';
import { OPCODES } from '../protocol/frames.ts';

export type Accept = Extract<ServiceMessage, { readonly type: 'accept' }>;
export type Request = Extract<ServiceMessage, { readonly type: 'request' }>;

export interface ControlEvents {
  /** A sender waits for a connection. */
  readonly onAccept: (accept: Accept) => void;
  /** A request in full, with its body when it has one. */
  readonly onRequest: (request: Request, body: Buffer) => void;
  /** A request that waits at an address. */
  readonly onRequestPointer: (address: string) => void;
}

/** The relay's own limit for either is 64 KiB; more means that this is no relay. */
const MESSAGE_BYTES_MAX = 1_048_576;
const NOTHING = Buffer.alloc(0);

/** Puts the messages of a control channel together and hands them on. */
export class ControlReader {
  readonly #events: ControlEvents;
  #parts: Buffer[] = [];
  #size = 0;
  #isText = true;
  /** The request whose body is the next message. */
  #bodyless: Request | undefined;

  constructor(events: ControlEvents) {
    this.#events = events;
  }

  /** Takes a fragment. False: the message is longer than any that a relay sends. */
  take(opcode: number, fin: boolean, payload: Buffer): boolean {
    if (opcode !== OPCODES.continuation) this.#isText = opcode === OPCODES.text;
    this.#size += payload.length;
    if (this.#size > MESSAGE_BYTES_MAX) return false;
    this.#parts.push(payload);
    if (!fin) return true;
    const [first = NOTHING] = this.#parts;
    const message = this.#parts.length === 1 ? first : Buffer.concat(this.#parts);
    this.#parts = [];
    this.#size = 0;
    if (this.#isText) this.#text(message.toString('utf8'));
    else this.#body(message);
    return true;
  }

  #text(text: string): void {
    this.#bodyless = undefined;
    const message = parseServiceMessage(text);
    // What cannot be read is perhaps of a newer relay; its sender is told by the relay.
    if (message.type === 'accept') this.#events.onAccept(message);
    else if (message.type === 'requestPointer') this.#events.onRequestPointer(message.address);
    else if (message.type === 'request') {
      if (message.body) this.#bodyless = message;
      else this.#events.onRequest(message, NOTHING);
    }
  }

  #body(bytes: Buffer): void {
    const request = this.#bodyless;
    this.#bodyless = undefined;
    if (request !== undefined) this.#events.onRequest(request, bytes);
  }
}
