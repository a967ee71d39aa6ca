import { POLL_FRAME_COST_BYTES, POLL_FRAME_PAYLOAD_BYTES_MAX } from '../../protocol/poll-frames.ts';

const LONGEST_FRAME_BYTES = POLL_FRAME_COST_BYTES + POLL_FRAME_PAYLOAD_BYTES_MAX;

/**
 * What the client of a session knows of its credit: news that matter are worth an answer, all other
 * polls are held. Nobody here can see whether the answer to a poll arrived; a client that may have used
 * up what it knows of for certain, and may not have heard of more, is not to be left waiting for long.
 */
export class CreditNews {
  readonly #newsBytesMin: number;
  /** What the client has been told of, if all answers arrived. */
  #told: number;
  /** What it knows for certain. */
  #known: number;

  /** `newsBytesMin`: how much more credit is worth an answer. `credit`: what the client begins with. */
  constructor(newsBytesMin: number, credit: number) {
    this.#newsBytesMin = newsBytesMin;
    this.#told = credit;
    this.#known = credit;
  }

  /** It was said in the answer to a poll. */
  told(credit: number): void {
    this.#told = credit;
  }

  /** It was said in the answer to a post, which is repeated until the answer arrives. */
  toldSurely(credit: number): void {
    this.#told = credit;
    this.#known = credit;
  }

  /** Whether this much credit is worth an answer. */
  isNews(credit: number): boolean {
    return credit - this.#told >= this.#newsBytesMin;
  }

  /** Whether a client that has sent so many bytes may be waiting for what it was told in vain. */
  isInDoubt(receivedBytes: number): boolean {
    return this.#told > this.#known && receivedBytes + LONGEST_FRAME_BYTES > this.#known;
  }
}
