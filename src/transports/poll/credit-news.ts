/**
 * What the client of a session knows of its credit, so that news that matter reach it at once and all
 * other polls are held. The relay cannot see whether an answer arrived: what a poll's answer said
 * counts as known only when a newer poll shows that the client is past it.
 */
export class CreditNews {
  readonly #newsBytesMin: number;
  /** What the client has been told of, if all answers arrived. */
  #told: number;
  /** What it knows for certain. */
  #known: number;
  #turn = 0;
  #isCarried = false;

  /** `newsBytesMin`: how much more credit is worth an answer. `credit`: what the client begins with. */
  constructor(newsBytesMin: number, credit: number) {
    this.#newsBytesMin = newsBytesMin;
    this.#told = credit;
    this.#known = credit;
  }

  /**
   * A poll has come. One that is repeated shows that its answer was lost; so may the first one behind a
   * connection that carried the session (`isCarried`: polls from there lose nothing, and their turn stays).
   */
  polled(turn: number, isCarried: boolean): void {
    if (!isCarried) {
      const mayBeLost = turn === this.#turn || this.#isCarried;
      if (mayBeLost) this.#told = this.#known;
      else this.#known = this.#told;
    }
    this.#turn = turn;
    this.#isCarried = isCarried;
  }

  /** It was said in the answer to a poll. */
  told(credit: number): void {
    this.#told = credit;
  }

  /** It was said in the answer to a post, which is repeated until the answer arrives. */
  posted(credit: number): void {
    this.#told = credit;
    this.#known = credit;
  }

  /** Whether this much credit is worth an answer. */
  isNews(credit: number): boolean {
    return credit - this.#told >= this.#newsBytesMin;
  }
}
