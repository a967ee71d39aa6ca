// Doubles of what the core asks of the outside (src/relay/ports.ts), for tests without sockets.
import { RelayEvents } from '../../src/relay/events.ts';
import type {
  Channel,
  ChannelReceiver,
  ControlSocket,
  DataOpcode,
  Meter,
  Pending,
  Randomness,
  RelayRequest,
} from '../../src/relay/ports.ts';
import type { Clock } from '../../src/base/clock.ts';
import { formatRendezvousId } from '../../src/protocol/ids.ts';
import { parseRelayQuery } from '../../src/protocol/relay-url.ts';
import { parseRequestPath } from '../../src/protocol/request-path.ts';

/** A channel that writes down what is done to it; a test plays its peer through `receiver`. */
export class FakeChannel implements Channel {
  /** `send:text:fin`, `close 1000 why`, `destroy`, `pause`, `resume`, in order. */
  readonly calls: string[] = [];
  receiver: ChannelReceiver | undefined;
  /** What `send` answers. */
  takesMore = true;
  /** Answers a Close of ours by ending at once, as uWebSockets.js does. */
  endsOnClose = false;
  #isGone = false;

  receive(receiver: ChannelReceiver): void {
    this.receiver = receiver;
  }

  send(opcode: DataOpcode, fin: boolean, payload: Uint8Array): boolean {
    this.calls.push(`send ${opcode} ${fin ? 'fin' : 'more'} ${Buffer.from(payload).toString()}`);
    return this.takesMore;
  }

  close(code: number, reason: string): void {
    this.calls.push(`close ${code} ${reason}`);
    if (this.endsOnClose) this.end(code, reason);
  }

  destroy(): void {
    this.calls.push('destroy');
  }

  pause(): void {
    this.calls.push('pause');
  }

  resume(): void {
    this.calls.push('resume');
  }

  /** The peer's last events: its Close, unless it left without one, and the end. Once. */
  end(code = 1006, reason = ''): void {
    if (this.#isGone) return;
    this.#isGone = true;
    if (code !== 1006) this.receiver?.closed(code, reason);
    this.receiver?.gone();
  }
}

/** A control socket that keeps what was sent. */
export class FakeControlSocket implements ControlSocket {
  readonly sent: { readonly text: string; readonly body: Uint8Array | undefined }[] = [];
  readonly closes: { readonly code: number; readonly reason: string }[] = [];
  /** Whether the queue has room. */
  hasRoom = true;

  send(text: string, body?: Uint8Array): boolean {
    if (this.hasRoom) this.sent.push({ text, body });
    return this.hasRoom;
  }

  close(code: number, reason: string): void {
    this.closes.push({ code, reason });
  }
}

/** Repeatable "randomness": numbers count up, ids are numbered. */
export class CountingRandomness implements Randomness {
  #count = 0;

  uuid(): string {
    this.#count += 1;
    return `00000000-0000-4000-8000-${this.#count.toString(16).padStart(12, '0')}`;
  }

  secretHex(): string {
    this.#count += 1;
    return this.#count.toString(16).padStart(32, '0');
  }

  below(bound: number): number {
    this.#count += 1;
    return this.#count % bound;
  }
}

/** Counts by metric and labels: `name{"reason":"x"}`. */
export class FakeMeter implements Meter {
  readonly counts = new Map<string, number>();

  count(name: string, labels: Readonly<Record<string, string>>): void {
    const series = `${name}${JSON.stringify(labels)}`;
    this.counts.set(series, (this.counts.get(series) ?? 0) + 1);
  }

  observe(): void {}
}

const SILENT = { debug(): void {}, info(): void {}, warn(): void {}, error(): void {} };

export function fakeEvents(clock: Clock): {
  readonly events: RelayEvents;
  readonly meter: FakeMeter;
} {
  const meter = new FakeMeter();
  const random = new CountingRandomness();
  return { events: new RelayEvents({ clock, random, log: SILENT, meter }), meter };
}

/** A request for `url`, which is a path with its query. */
export function fakeRequest(
  url: string,
  about: { readonly host?: string; readonly headers?: RelayRequest['headers'] } = {},
): RelayRequest {
  const [path = '', query = ''] = url.split('?', 2);
  const parsed = parseRequestPath(path, { encodedSlashes: 'refuse' });
  if (parsed === undefined) throw new Error(`Malformed path: ${path}`);
  const host = about.host ?? 'relay.example.com';
  return {
    host,
    origin: `wss://${host}`,
    path: parsed,
    query: parseRelayQuery(query),
    headers: about.headers ?? [],
    remote: { address: '203.0.113.7', port: 52_110 },
  };
}

/** Something put before a listener, that does not mind losing it unless told otherwise. */
export function pendingOffer(listenerLost: () => void = () => {}): Pending {
  const uuid = '0f6b9f0e-5f0a-4c53-8f0c-7b7a2d6f5d11';
  return { id: formatRendezvousId(uuid, '0'.repeat(32)), listenerLost };
}
