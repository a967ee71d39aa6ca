import type { HttpResponse } from 'uWebSockets.js';
import type { HttpSender, Refused, RequestBody, ResponseHead } from '../relay/ports.ts';
import type { Outbox } from './outbox.ts';
import { endWithoutBody, writeRefusal } from './refusal-response.ts';

/**
 * One HTTP request on its uWebSockets.js response.
 *
 *     waiting ── start ──▶ answering ── end ──▶ over
 *     waiting ── respond or refuse ──▶ over
 *     any ── aborted (the sender went away) ──▶ over
 *
 * Once `over`, the response must not be touched: uWebSockets.js has freed it.
 */
type Phase = 'waiting' | 'answering' | 'over';

/** How many times the usual limit of held body bytes may be held while the answer waits for its reader. */
const HELD_WHILE_ANSWERING = 32;

export class UwsHttpSender implements HttpSender, RequestBody {
  readonly #response: HttpResponse;
  readonly #outbox: Outbox;
  readonly #isHead: boolean;
  readonly #bufferBytesMax: number;
  readonly #disarmTimeout: () => void;
  #phase: Phase = 'waiting';
  #hasBody = false;
  #isBodyComplete = false;
  #sink: ((chunk: Uint8Array, isLast: boolean) => void) | undefined;
  #held: Uint8Array[] = [];
  #heldBytes = 0;
  #isPaused = false;
  #isReading = false;
  /** The sender has not taken all of its answer yet, and the listener waits for that. */
  #isAnswerHeld = false;
  #drained: () => void = () => {};

  constructor(
    response: HttpResponse,
    outbox: Outbox,
    options: {
      readonly isHead: boolean;
      readonly bufferBytesMax: number;
      /** Switches off the time limit that uWebSockets.js arms for bodies and for slow readers. */
      readonly disarmTimeout: () => void;
      readonly onAborted: () => void;
    },
  ) {
    this.#response = response;
    this.#outbox = outbox;
    this.#isHead = options.isHead;
    this.#bufferBytesMax = options.bufferBytesMax;
    this.#disarmTimeout = options.disarmTimeout;
    response.onAborted(() => {
      this.#phase = 'over';
      this.#held = [];
      options.onAborted();
    });
  }

  get isOver(): boolean {
    return this.#phase === 'over';
  }

  /**
   * Starts taking the body. Must be called within the route's handler, or bytes are lost; what
   * arrives before `read` is kept, and reading from the socket stops over the limit. `onLate` is
   * called when the body did not come whole together with its head.
   */
  takeBody(onLate: () => void = () => {}): void {
    this.#hasBody = true;
    this.#response.onData((data, isLast) => {
      this.#isBodyComplete = isLast;
      if (!isLast) this.#disarmTimeout();
      // Reading goes on after an early answer, only to throw the rest away.
      if (this.#phase === 'over') return;
      const chunk = new Uint8Array(data);
      if (this.#isReading && this.#sink !== undefined && this.#held.length === 0) {
        this.#sink(chunk, isLast);
        return;
      }
      this.#hold(Buffer.from(chunk));
    });
    // Most bodies come together with their heads. For the others uWebSockets.js has armed its timer
    // when the route's handler returned.
    this.#outbox.put(() => {
      if (this.#phase === 'over' || this.#isBodyComplete) return;
      this.#disarmTimeout();
      onLate();
    });
  }

  read(sink: (chunk: Uint8Array, isLast: boolean) => void): void {
    this.#sink = sink;
  }

  pause(): void {
    this.#isReading = false;
    this.#pauseSocket();
  }

  resume(): void {
    this.#isReading = true;
    while (this.#isReading && this.#held.length > 0) {
      const chunk = this.#held.shift() ?? new Uint8Array(0);
      this.#heldBytes -= chunk.length;
      this.#sink?.(chunk, this.#isBodyComplete && this.#held.length === 0);
    }
    if (this.#isReading) this.#resumeSocket();
  }

  respond(head: ResponseHead, body: Uint8Array): void {
    // The body is lent, and the write is put off. Small buffers share memory, which spares the collector.
    const copy = body.length === 0 ? body : Buffer.from(body);
    this.#later(() => {
      this.#writeHead(head);
      if (head.bodyless)
        endWithoutBody(this.#response, this.#isHead ? head.contentLength : undefined);
      else this.#response.end(copy);
    });
  }

  refuse(refused: Refused): void {
    this.#later(() =>
      writeRefusal(this.#response, refused, {
        closeConnection: this.#hasBody && !this.#isBodyComplete,
        isHead: this.#isHead,
      }),
    );
  }

  start(head: ResponseHead, drained: () => void): void {
    if (this.#phase !== 'waiting') return;
    this.#phase = 'answering';
    this.#drained = drained;
    this.#response.onWritable(() => {
      this.#answerOn();
      if (this.#heldBytes > this.#bufferBytesMax) this.#pauseSocket();
      return true;
    });
    this.#response.cork(() => this.#writeHead(head));
  }

  write(chunk: Uint8Array): boolean {
    if (this.#phase !== 'answering') return true;
    let isTaken = true;
    this.#response.cork(() => {
      isTaken = this.#response.write(chunk);
    });
    if (isTaken) return true;
    this.#isAnswerHeld = true;
    // To wait until it can write, uWebSockets.js has polled the socket anew, for reading too.
    this.#isPaused = false;
    // A slow reader holds its listener back, whose silence is limited elsewhere.
    this.#disarmTimeout();
    return false;
  }

  end(): void {
    if (this.#phase !== 'answering') return;
    this.#phase = 'over';
    this.#resumeSocket();
    this.#response.cork(() => this.#response.end());
  }

  abort(): void {
    if (this.#phase === 'over') return;
    this.#phase = 'over';
    this.#response.close();
  }

  /**
   * Lets the listener go on. Writing nothing first sends what is left, or makes uWebSockets.js wait
   * until it can: after a pause it has forgotten to.
   */
  #answerOn(): void {
    this.#isAnswerHeld = false;
    this.#response.cork(() => {});
    this.#drained();
  }

  #later(write: () => void): void {
    this.#outbox.put(() => {
      if (this.#phase !== 'waiting') return;
      this.#phase = 'over';
      this.#held = [];
      this.#resumeSocket();
      this.#response.cork(write);
    });
  }

  #hold(chunk: Uint8Array): void {
    this.#held.push(chunk);
    this.#heldBytes += chunk.length;
    if (this.#heldBytes > this.#bufferBytesMax) this.#pauseSocket();
  }

  /**
   * Pausing stops uWebSockets.js from waiting until it can write as well. So while the sender reads
   * its answer slowly more of its upload is held, and only beyond that limit do both stand still.
   */
  #pauseSocket(): void {
    if (this.#isPaused || this.#isBodyComplete || this.#phase === 'over') return;
    const heldBytesMax = this.#bufferBytesMax * HELD_WHILE_ANSWERING;
    if (this.#isAnswerHeld && this.#heldBytes <= heldBytesMax) return;
    this.#isPaused = true;
    this.#response.pause();
  }

  #resumeSocket(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#response.resume();
    this.#disarmTimeout();
    if (this.#isAnswerHeld && this.#phase === 'answering') this.#answerOn();
  }

  #writeHead(head: ResponseHead): void {
    this.#response.writeStatus(`${head.status} ${head.reasonPhrase}`);
    for (const [name, value] of head.headers) {
      // uWebSockets.js writes a Date of its own with every answer and cannot be told not to.
      if (!isDate(name)) this.#response.writeHeader(name, value);
    }
  }
}

function isDate(name: string): boolean {
  return name.length === 4 && name.toLowerCase() === 'date';
}
