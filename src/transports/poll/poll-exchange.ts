import type { HttpResponse } from 'uWebSockets.js';
import type { Clock } from '../../base/clock.ts';
import { IdleTimer } from '../../base/idle-timer.ts';
import { writePollBatch, type PollBatch } from '../../protocol/poll-frames.ts';
import type { PollProgress } from '../../protocol/poll-session.ts';
import { REFUSALS } from '../../protocol/refusals.ts';
import type { Refused } from '../../relay/ports.ts';
import type { Outbox } from '../outbox.ts';
import { endWithoutBody } from '../refusal-response.ts';
import { BodyBuffer } from './body-buffer.ts';
import { POLL_BATCH_BYTES_MAX } from './poll-sessions.ts';

export interface PollExchangeOptions {
  readonly clock: Clock;
  readonly outbox: Outbox;
  /** Switches uWebSockets.js's own time limit off: bodies may trickle, we have limits of our own. */
  readonly disarmTimeout: (response: HttpResponse) => void;
  /** Time that so much of a body as `BODY_PROGRESS_BYTES` may take, or its rest. */
  readonly bodyTimeoutMs: number;
}

/** A body that brings less than this in its time is one that trickles. */
const BODY_PROGRESS_BYTES = 16_384;

/**
 * Where batches are put together: what cannot go out at once uWebSockets.js copies, so that one place does for all, and
 * nobody has to find a megabyte for each answer.
 */
const scratch = new Uint8Array(POLL_BATCH_BYTES_MAX);

/** One request to a session, on its uWebSockets.js response. Answered once; when it is aborted, never. */
export class PollExchange {
  readonly #response: HttpResponse;
  readonly #options: PollExchangeOptions;
  readonly #isHead: boolean;
  #isOver = false;
  /** The client may still be sending, so the connection is of no use for another request. */
  #hasUnreadBody: boolean;
  #stalled: IdleTimer | undefined;
  /** What to do when the client goes away before it is answered. */
  onAborted: () => void = () => {};

  constructor(
    response: HttpResponse,
    options: PollExchangeOptions,
    { isHead, hasBody }: { readonly isHead: boolean; readonly hasBody: boolean },
  ) {
    this.#response = response;
    this.#options = options;
    this.#isHead = isHead;
    this.#hasUnreadBody = hasBody;
    response.onAborted(() => {
      if (this.#isOver) return;
      this.#isOver = true;
      this.#stalled?.stop();
      this.onAborted();
    });
  }

  /**
   * Calls `task` once the route's handler is over, unless the request is by then. What sessions do may
   * write to other sockets, and while uWebSockets.js handles one it has that one corked.
   */
  later(task: () => void): void {
    this.#options.outbox.put(() => {
      if (!this.#isOver) task();
    });
  }

  /** Gathers the body, within the route's handler; calls one of both, once, unless it is aborted. */
  readBody(on: {
    /** As announced; infinite when it was not. */
    readonly bytes: number;
    readonly whole: (body: Uint8Array) => void;
    readonly failed: (reason: 'batch-too-large' | 'body-stalled') => void;
  }): void {
    const body = new BodyBuffer(on.bytes, POLL_BATCH_BYTES_MAX);
    let bytesAtTouch = 0;
    this.#response.onData((data, isLast) => {
      if (!isLast) this.#options.disarmTimeout(this.#response);
      else this.#hasUnreadBody = false;
      if (this.#isOver) return;
      if (body.length + data.byteLength > POLL_BATCH_BYTES_MAX) {
        body.drop();
        this.#stalled?.stop();
        on.failed('batch-too-large');
        return;
      }
      // Lent for the call only.
      body.push(data);
      if (body.length - bytesAtTouch >= BODY_PROGRESS_BYTES) {
        bytesAtTouch = body.length;
        this.#stalled?.touch();
      }
      if (!isLast) return;
      this.#stalled?.stop();
      this.later(() => on.whole(body.bytes));
    });
    // Most bodies come together with their heads. For the others uWebSockets.js has armed its timer
    // when the route's handler returned.
    this.later(() => {
      if (!this.#hasUnreadBody) return;
      this.#options.disarmTimeout(this.#response);
      this.#stalled = new IdleTimer(this.#options.clock, this.#options.bodyTimeoutMs, () =>
        on.failed('body-stalled'),
      );
    });
  }

  /** At most `POLL_BATCH_BYTES_MAX` long. */
  batch(batch: PollBatch): void {
    this.#answer(() => {
      const length = writePollBatch(batch, scratch);
      this.#head('200 OK', 'application/octet-stream').end(
        scratch.subarray(0, length),
        this.#hasUnreadBody,
      );
    });
  }

  json(text: string): void {
    this.#answer(() => this.#head('200 OK', 'application/json').end(text, this.#hasUnreadBody));
  }

  noContent(): void {
    this.#answer(() => {
      this.#response.writeStatus('204 No Content').writeHeader('Cache-Control', 'no-store');
      // Of the two ways to end without a body, this one can end the connection too.
      if (this.#hasUnreadBody) this.#response.end('', true);
      else endWithoutBody(this.#response, undefined);
    });
  }

  refuse({ reason, status, text }: Refused, progress?: PollProgress): void {
    const { code } = REFUSALS[reason];
    const body = JSON.stringify({ error: { code, message: text }, reason, ...progress });
    this.#answer(() => {
      this.#head(`${status} ${text}`, 'application/json');
      if (status === 405) this.#response.writeHeader('Allow', 'GET, POST, DELETE');
      if (this.#isHead) endWithoutBody(this.#response, Buffer.byteLength(body));
      else this.#response.end(body, this.#hasUnreadBody);
    });
  }

  #head(status: string, type: string): HttpResponse {
    return this.#response
      .writeStatus(status)
      .writeHeader('Content-Type', type)
      .writeHeader('Cache-Control', 'no-store');
  }

  #answer(write: () => void): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#stalled?.stop();
    this.#response.cork(write);
  }
}
