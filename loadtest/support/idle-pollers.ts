import { connect, type Socket } from 'node:net';
import type { Halfway } from '../subjects/halfway.ts';

const OK = Buffer.from('HTTP/1.1 200 ');
const HEAD_END = Buffer.from('\r\n\r\n');
/** A batch without frames: its header alone (src/protocol/LONG-POLL.md). */
const EMPTY_BATCH_BYTES = 28;
/** Openings at a time: more would only wait in the server's queue. */
const OPENING_MAX = 100;

/**
 * Long-poll listeners that do nothing: over one connection each they open a session and poll, and poll again when they
 * are answered. As little of HTTP as that takes, so that thousands of them cost the load's core less than the relay.
 */
export class IdlePollers implements AsyncDisposable {
  readonly #halfway: Halfway;
  readonly #paths: readonly string[];
  readonly #sockets: Socket[] = [];
  /** Polls that were answered. */
  answers = 0;
  /** Answers with a frame: somebody wanted something of the listener. */
  batches = 0;
  /** What went wrong; empty in the end, or the run is worth nothing. */
  readonly faults: string[] = [];

  /** `paths`: of listening, as `Halfway.listenPath` gives them; listeners are spread over them. */
  constructor(halfway: Halfway, paths: readonly string[]) {
    this.#halfway = halfway;
    this.#paths = paths;
  }

  /** Opens so many. Each polls on until the end. */
  async open(count: number): Promise<void> {
    let next = 0;
    const openers = Array.from({ length: OPENING_MAX }, async () => {
      while (next < count) {
        const path = this.#paths[next % this.#paths.length] ?? '';
        next += 1;
        await this.#openOne(path);
      }
    });
    await Promise.all(openers);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.faults.length = 0;
    for (const socket of this.#sockets) socket.removeAllListeners('close').destroy();
  }

  #openOne(path: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const socket = connect(this.#halfway.port, '127.0.0.1').setNoDelay(true);
      this.#sockets.push(socket);
      let session: string | undefined;
      let polls = 0;
      let ack = 0;
      let received: Buffer = Buffer.alloc(0);
      const poll = (): void => {
        polls += 1;
        const query = `turn=${polls}&ack=${ack}&credit=1048576`;
        socket.write(`GET ${session}?${query} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
      };
      socket.write(
        `POST ${path}&sb-hc-transport=poll HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n`,
      );
      socket.on('error', reject);
      socket.on('close', () => {
        this.faults.push('a connection was closed');
        reject(new Error('The relay closed the connection of a listener'));
      });
      socket.on('data', chunk => {
        received = received.length === 0 ? chunk : Buffer.concat([received, chunk]);
        const answer = wholeAnswer(received);
        if (answer === undefined) return;
        received = Buffer.alloc(0);
        if (session === undefined) {
          session = /^location: (\S+)/im.exec(answer.head)?.[1];
          if (session === undefined) reject(new Error(`A listener was refused: ${answer.head}`));
          else resolve();
        } else if (answer.isOk) {
          this.answers += 1;
          if (answer.body.length > EMPTY_BATCH_BYTES) {
            this.batches += 1;
            // A control message is one frame.
            ack += 1;
          }
        } else this.faults.push(answer.head);
        if (session !== undefined) poll();
      });
    });
  }
}

interface Answer {
  readonly isOk: boolean;
  readonly head: string;
  readonly body: Buffer;
}

function wholeAnswer(bytes: Buffer): Answer | undefined {
  const headEnd = bytes.indexOf(HEAD_END);
  if (headEnd === -1) return undefined;
  const head = bytes.toString('latin1', 0, headEnd);
  const body = bytes.subarray(headEnd + HEAD_END.length);
  const length = Number(/^content-length: (\d+)/im.exec(head)?.[1] ?? 0);
  if (body.length < length) return undefined;
  return { isOk: bytes.subarray(0, OK.length).equals(OK), head, body };
}
