import { OPCODES, parseClosePayload } from '../../src/protocol/frames.ts';
import type { PollBatch } from '../../src/protocol/poll-frames.ts';
import { IncomingFrames } from '../../src/protocol/poll-incoming.ts';
import { OutgoingFrames } from '../../src/protocol/poll-outgoing.ts';
import type { PollProgress, PollQuestion } from '../../src/protocol/poll-session.ts';
import type { Channel, ChannelReceiver, DataOpcode } from '../../src/relay/ports.ts';

/** What a request of a session comes back with instead. */
export interface NotTaken {
  readonly reason: string;
}

/** How a client's requests reach its session: by HTTP, or straight. A request that fails rejects. */
export interface PollCarrier {
  poll(question: PollQuestion): Promise<PollBatch | NotTaken>;
  post(batch: PollBatch): Promise<PollProgress | NotTaken>;
  end(): Promise<unknown>;
}

const FAILED: NotTaken = { reason: 'failed' };
const WINDOW_BYTES = 1_048_576;
const BATCH_BYTES = 1_000_000;

/**
 * The client's end of a session as a channel: one poll and one post at a time, and no retries, so the
 * first request that fails is the end of it.
 */
export class PollClient implements Channel {
  readonly #carrier: PollCarrier;
  readonly #outgoing = new OutgoingFrames();
  readonly #incoming = new IncomingFrames(WINDOW_BYTES);
  #receiver: ChannelReceiver | undefined;
  #isPaused = true;
  #isDelivering = false;
  #isPosting = false;
  #isCloseRead = false;
  #isLost = false;
  #isGone = false;
  #wantsDrained = false;
  #turn = 0;
  #toldCredit = 0;

  constructor(carrier: PollCarrier, credit: number) {
    this.#carrier = carrier;
    this.#outgoing.acknowledge(0, credit);
    void this.#poll();
  }

  receive(receiver: ChannelReceiver): void {
    this.#receiver = receiver;
    this.#deliver();
  }

  send(opcode: DataOpcode, fin: boolean, payload: Uint8Array): boolean {
    this.#outgoing.push(opcode, fin, payload);
    void this.#post();
    this.#wantsDrained ||= this.#outgoing.keptBytes > WINDOW_BYTES;
    return !this.#wantsDrained;
  }

  close(code: number, reason: string): void {
    this.#outgoing.close(code, reason);
    void this.#post();
    this.#deliver();
  }

  destroy(): void {
    this.#carrier.end().catch(() => {});
    this.#lose();
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    setImmediate(() => {
      this.#deliver();
      void this.#post();
    });
  }

  async #poll(): Promise<void> {
    while (!this.#isLost && !this.#isGone) {
      this.#turn += 1;
      const { received: ack, credit } = this.#incoming;
      this.#toldCredit = credit;
      const question = { turn: this.#turn, ack, credit };
      const answer = await this.#carrier.poll(question).catch(() => FAILED);
      if ('reason' in answer) return this.#lose();
      const fault = this.#incoming.accept(answer);
      if (fault !== undefined) throw new Error(fault);
      this.#know(answer);
      this.#deliver();
    }
  }

  async #post(): Promise<void> {
    if (this.#isPosting) return;
    this.#isPosting = true;
    // What is sent in one turn travels together.
    await new Promise(resolve => void setImmediate(resolve));
    while (this.#hasNews() && !this.#isLost) {
      const { received: ack, credit } = this.#incoming;
      this.#toldCredit = credit;
      const batch = { ...this.#outgoing.take(0, BATCH_BYTES), ack, credit };
      const answer = await this.#carrier.post(batch).catch(() => FAILED);
      if ('reason' in answer) {
        this.#lose();
        return;
      }
      this.#know(answer);
    }
    this.#isPosting = false;
  }

  #hasNews(): boolean {
    return this.#outgoing.has(0) || this.#incoming.credit - this.#toldCredit >= WINDOW_BYTES / 4;
  }

  #know({ ack, credit }: PollProgress): void {
    if (!this.#outgoing.acknowledge(ack, credit)) throw new Error('ack of what was never sent');
    void this.#post();
    if (!this.#wantsDrained || this.#outgoing.keptBytes > WINDOW_BYTES / 2) return;
    this.#wantsDrained = false;
    this.#receiver?.drained();
  }

  #deliver(): void {
    const receiver = this.#receiver;
    if (receiver === undefined || this.#isDelivering || this.#isGone) return;
    this.#isDelivering = true;
    while (!this.#isPaused) {
      const frame = this.#incoming.read();
      if (frame === undefined) break;
      if (frame.opcode === OPCODES.close) {
        const { code, reason } = parseClosePayload(frame.payload);
        this.#isCloseRead = true;
        receiver.closed(code, reason);
      } else receiver.fragment(frame.opcode, frame.isFinal, frame.payload);
    }
    this.#isDelivering = false;
    const isClosed = this.#isCloseRead && this.#outgoing.isDelivered;
    if (!isClosed && !(this.#isLost && this.#incoming.waitingBytes === 0)) return;
    this.#isGone = true;
    receiver.gone();
  }

  #lose(): void {
    this.#isLost = true;
    this.#deliver();
  }
}
