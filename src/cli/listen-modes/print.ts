import { OPCODES } from '../../protocol/frames.ts';
import type { ListenMode } from './listen-mode.ts';

/** Writes what came in; `text` for people, `fields` for programs. */
export type Print = (text: string, fields: object) => void;

/** A message or body that is longer is shown in parts of this size. */
const SHOWN_BYTES_MAX = 65_536;

/** Shows what senders send. Requests are answered with 204; WebSockets get no message back. */
export function printMode(print: Print): ListenMode {
  let senders = 0;
  return {
    accept: async offer => {
      senders += 1;
      const sender = senders;
      const channel = await offer.acceptChannel();
      const from = offer.remote?.address ?? 'unknown';
      print(`[${sender}] connected from ${from}`, { event: 'connected', sender, from });
      const parts = new PartCollector((bytes, isText) => {
        const text = isText ? bytes.toString('utf8') : `${bytes.length} bytes of binary`;
        const fields = isText ? { text } : { base64: bytes.toString('base64') };
        print(`[${sender}] ${text}`, { event: 'message', sender, ...fields });
      });
      channel.receive({
        fragment: (opcode, fin, payload) => parts.add(opcode, fin, payload),
        closed: (code, reason) => {
          const fields = { event: 'closed', sender, code, reason };
          print(`[${sender}] closed ${code} ${reason}`.trimEnd(), fields);
          channel.close(code, reason);
        },
        gone: code => {
          if (code === 1006) print(`[${sender}] lost`, { event: 'lost', sender });
        },
      });
    },
    answer: async ({ method, target, headers, body }) => {
      print(`${method} ${target}`, { event: 'request', method, target, headers });
      for await (const chunk of body) {
        const text = Buffer.from(chunk).toString('utf8');
        print(text.replace(/\n$/, ''), { event: 'body', text });
      }
      return { status: 204 };
    },
  };
}

/** Puts the fragments of a message together, up to a limit. */
class PartCollector {
  readonly #show: (bytes: Buffer, isText: boolean) => void;
  #parts: Buffer[] = [];
  #size = 0;
  #isText = true;

  constructor(show: (bytes: Buffer, isText: boolean) => void) {
    this.#show = show;
  }

  add(opcode: number, fin: boolean, payload: Buffer): void {
    if (opcode !== OPCODES.continuation) this.#isText = opcode === OPCODES.text;
    this.#parts.push(payload);
    this.#size += payload.length;
    if (!fin && this.#size < SHOWN_BYTES_MAX) return;
    this.#show(Buffer.concat(this.#parts), this.#isText);
    this.#parts = [];
    this.#size = 0;
  }
}
