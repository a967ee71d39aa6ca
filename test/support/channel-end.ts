import type { ChannelEvents, FrameChannel } from '../../src/client/frame-channel.ts';
import { within } from './within.ts';

/** One end of a channel, as a test sees it: everything that came, in order, to be waited for. */
export class ChannelEnd {
  readonly channel: FrameChannel;
  /** `1 more text`, `0 fin text`, `closed 1000 why`, `drained`, `moved poll`, `gone 1006`. */
  readonly events: string[] = [];
  readonly #wakes = new Set<() => void>();

  /** @param shows how a fragment is written down; by default with its whole text */
  constructor(channel: FrameChannel, shows = (payload: Buffer): string => payload.toString()) {
    this.channel = channel;
    const add = (event: string): void => {
      this.events.push(event);
      for (const wake of this.#wakes) wake();
    };
    const events: ChannelEvents = {
      fragment: (opcode, fin, payload) =>
        add(`${opcode} ${fin ? 'fin' : 'more'} ${shows(payload)}`),
      drained: () => add('drained'),
      moved: transport => add(`moved ${transport}`),
      closed: (code, reason) => add(`closed ${code} ${reason}`.trimEnd()),
      gone: code => add(`gone ${code}`),
    };
    channel.receive(events);
  }

  /** The fragments alone. */
  get fragments(): readonly string[] {
    return this.events.filter(event => /^\d /.test(event));
  }

  async until(what: string, isSo: () => boolean, patienceMs?: number): Promise<void> {
    const { promise, resolve } = withResolvers();
    const wake = (): void => {
      if (isSo()) resolve();
    };
    this.#wakes.add(wake);
    wake();
    try {
      await within(what, promise, patienceMs);
    } finally {
      this.#wakes.delete(wake);
    }
  }

  /** Waits for an event that begins so, and returns it. */
  async event(start: string, patienceMs?: number): Promise<string> {
    const find = (): string | undefined => this.events.find(event => event.startsWith(start));
    await this.until(`"${start}"`, () => find() !== undefined, patienceMs);
    return find() ?? '';
  }

  sendText(text: string): boolean {
    return this.channel.send(1, true, Buffer.from(text));
  }
}

function withResolvers(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve: (() => void) | undefined;
  const promise = new Promise<void>(done => {
    resolve = done;
  });
  return { promise, resolve: () => resolve?.() };
}
