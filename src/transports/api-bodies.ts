import { BodyFault } from '../api/api-request.ts';
import type { Clock } from '../base/clock.ts';
import { IdleTimer } from '../base/idle-timer.ts';
import type { RequestBody } from '../relay/ports.ts';

export interface BodyLimits {
  /** Bytes of bodies that are held at once, of all requests together. */
  readonly heldBytesMax: number;
  /** How long a body that is being read may stand still. */
  readonly bodyIdleMs: number;
  /** Slower ones are given up, counted over the longest that the body may be, and `bodyIdleMs` besides. */
  readonly bodyBytesPerSecondMin: number;
}

/** A body that is gathered when somebody asks for it. */
export interface HeldBody {
  /** Rejects with `BodyFault`. */
  read(bytesMax: number): Promise<Uint8Array>;
  /** Its bytes are not needed any more. */
  release(): void;
}

/** Bodies of requests, gathered whole; together they have a limit. */
export class HeldBodies {
  readonly #clock: Clock;
  readonly #limits: BodyLimits;
  #bytes = 0;
  #refused = 0;

  constructor(clock: Clock, limits: BodyLimits) {
    this.#clock = clock;
    this.#limits = limits;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** How many found the limit reached. */
  get refused(): number {
    return this.#refused;
  }

  bodyOf(source: RequestBody, signal: AbortSignal): HeldBody {
    let held = 0;
    return {
      read: bytesMax =>
        new Promise((resolve, reject) => {
          const chunks: Buffer[] = [];
          let bytes = 0;
          let isOver = false;
          const { bodyIdleMs, bodyBytesPerSecondMin, heldBytesMax } = this.#limits;
          const timer = new IdleTimer(this.#clock, bodyIdleMs, () => end('stalled'));
          // Bodies that drip hold their bytes, and everybody together has a limit.
          const wholeMs = bodyIdleMs + (bytesMax / bodyBytesPerSecondMin) * 1_000;
          const cancelWhole = this.#clock.after(wholeMs, () => end('stalled'));
          const onGone = (): void => end('gone');
          const end = (fault?: BodyFault['reason']): void => {
            isOver = true;
            timer.stop();
            cancelWhole();
            signal.removeEventListener('abort', onGone);
            if (fault === undefined) resolve(Buffer.concat(chunks));
            else reject(new BodyFault(fault));
          };
          signal.addEventListener('abort', onGone, { once: true });
          if (signal.aborted) {
            end('gone');
            return;
          }
          source.read((chunk, isLast) => {
            // The rest of a body that was refused is read and thrown away.
            if (isOver) return;
            timer.touch();
            bytes += chunk.length;
            if (bytes > bytesMax) {
              end('too-large');
            } else if (this.#bytes + chunk.length > heldBytesMax) {
              this.#refused += 1;
              end('overloaded');
            } else {
              held += chunk.length;
              this.#bytes += chunk.length;
              // Lent for the call only.
              chunks.push(Buffer.from(chunk));
              if (isLast) end();
            }
          });
          source.resume();
        }),
      release: () => {
        this.#bytes -= held;
        held = 0;
      },
    };
  }
}
