import { OPCODE } from '../../src/relay/ports.ts';
import { parseServiceMessage, type ServiceMessage } from '../../src/protocol/control-messages.ts';
import { ChannelRecord } from '../conformance/channel.ts';
import { HttpSession, type OpenOptions } from './poll-http.ts';
import type { TestRelay } from './relay.ts';
import { until } from './within.ts';

type Accept = Extract<ServiceMessage, { type: 'accept' }>;
type Request = Extract<ServiceMessage, { type: 'request' }>;

/** A listener whose control channel is a session. */
export class PollListener {
  readonly session: HttpSession;
  readonly control: ChannelRecord;
  readonly #relay: TestRelay;
  #read = 0;

  private constructor(relay: TestRelay, session: HttpSession) {
    this.#relay = relay;
    this.session = session;
    this.control = new ChannelRecord(session.channel());
  }

  static async open(relay: TestRelay, options: OpenOptions = {}): Promise<PollListener> {
    return new PollListener(relay, await HttpSession.open(relay, { action: 'listen', ...options }));
  }

  /** The next message, text or binary. */
  async nextMessage(): Promise<{ readonly isText: boolean; readonly payload: Buffer }> {
    const messages = await this.control.wholeMessages(this.#read + 1);
    const message = messages[this.#read];
    this.#read += 1;
    if (message === undefined) throw new Error('No message');
    return { isText: message.opcode === OPCODE.text, payload: message.payload };
  }

  async nextAccept(): Promise<Accept> {
    const text = (await this.nextMessage()).payload.toString();
    const message = parseServiceMessage(text);
    if (message.type !== 'accept') throw new Error(`Not an accept: ${text}`);
    return message;
  }

  async nextRequest(): Promise<Request> {
    const text = (await this.nextMessage()).payload.toString();
    const message = parseServiceMessage(text);
    if (message.type !== 'request') throw new Error(`Not a request: ${text}`);
    return message;
  }

  /** Takes the next sender over a session of its own. */
  async acceptNext(): Promise<ChannelRecord> {
    const { address } = await this.nextAccept();
    return new ChannelRecord((await HttpSession.dial(this.#relay, address)).channel());
  }

  sendText(text: string): void {
    this.control.channel.send(OPCODE.text, true, Buffer.from(text));
  }

  /** Waits until the relay has closed the control channel, and gives the code. */
  async closed(): Promise<{ readonly code: number; readonly reason: string }> {
    await this.control.had('closed');
    const closed = this.control.close();
    return { code: closed?.code ?? 0, reason: closed?.reason ?? '' };
  }
}

/** Both ends of a pair as sessions. */
export async function joinPollPair(
  relay: TestRelay,
  listener: PollListener,
): Promise<{ readonly sender: ChannelRecord; readonly rendezvous: ChannelRecord }> {
  const opening = HttpSession.open(relay);
  const rendezvous = await listener.acceptNext();
  const sender = new ChannelRecord((await opening).channel());
  return { sender, rendezvous };
}

export async function untilNobody(relay: TestRelay): Promise<void> {
  await until('nobody is left', () => relay.server.status().senders === 0);
}
