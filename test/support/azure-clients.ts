// The two roles of the protocol, spoken over bare sockets: what a test wants to see of the wire, it sees.
import { parseServiceMessage, type ServiceMessage } from '../../src/protocol/control-messages.ts';
import { dial, open, type Dialling, type DialOptions, type RawWebSocket } from './raw-websocket.ts';
import type { TestRelay } from './relay.ts';
import { PATIENCE_MS } from './within.ts';

export type Accept = Extract<ServiceMessage, { type: 'accept' }>;

export interface ListenOptions extends DialOptions {
  /** In place of a good one; '' sends none. */
  readonly token?: string;
  readonly id?: string;
  /** Further query parameters, raw. */
  readonly query?: string;
}

/** A listener at its control channel. */
export class RawListener {
  readonly control: RawWebSocket;

  constructor(control: RawWebSocket) {
    this.control = control;
  }

  /** The next control message, which must be an `accept`. */
  async nextAccept(patienceMs = PATIENCE_MS): Promise<Accept> {
    const text = await this.control.nextText(patienceMs);
    const message = parseServiceMessage(text);
    if (message.type !== 'accept') throw new Error(`Not an accept: ${text}`);
    return message;
  }

  /** Takes the next sender: dials the address, as given. */
  async acceptNext(options: DialOptions = {}): Promise<RawWebSocket> {
    return open((await this.nextAccept()).address, options);
  }
}

export function listenUrl(relay: TestRelay, path: string, options: ListenOptions = {}): string {
  const id = options.id === undefined ? '' : `&sb-hc-id=${options.id}`;
  const query = options.query === undefined ? '' : `${options.query}&`;
  return `${relay.wsUrl}/$hc/${path}?${query}sb-hc-action=listen${id}`;
}

export function dialListener(
  relay: TestRelay,
  path = 'hyco',
  options: ListenOptions = {},
): Dialling {
  const token = options.token ?? relay.token(path);
  return dial(listenUrl(relay, path, options), {
    ...options,
    headers: [...(options.headers ?? []), ...tokenHeader(token)],
  });
}

export async function openListener(
  relay: TestRelay,
  path = 'hyco',
  options: ListenOptions = {},
): Promise<RawListener> {
  const answer = await dialListener(relay, path, options).answer;
  if (answer.socket === undefined) throw new Error(`Refused: ${answer.status} ${answer.reason}`);
  return new RawListener(answer.socket);
}

export interface ConnectOptions extends DialOptions {
  /** In place of a good one; '' sends none. */
  readonly token?: string;
  /** Raw query in place of `sb-hc-action=connect`. */
  readonly query?: string;
}

/** Begins a sender's handshake, which stays open until a listener dials. */
export function dialSender(
  relay: TestRelay,
  path = 'hyco',
  options: ConnectOptions = {},
): Dialling {
  const token = options.token ?? relay.token(path);
  const query = options.query ?? 'sb-hc-action=connect';
  return dial(`${relay.wsUrl}/$hc/${path}${query === '' ? '' : `?${query}`}`, {
    ...options,
    headers: [...(options.headers ?? []), ...tokenHeader(token)],
  });
}

function tokenHeader(token: string): [string, string][] {
  return token === '' ? [] : [['ServiceBusAuthorization', token]];
}

/** A sender and its listener's rendezvous, joined. */
export interface RawPair {
  readonly sender: RawWebSocket;
  readonly listener: RawWebSocket;
  /** The listener's control channel. */
  readonly control: RawListener;
}

const onlyListeners = new WeakMap<TestRelay, Promise<RawListener>>();

/** The relay's listener, opened by the first call: with a second one, senders might go to either. */
export function onlyListener(relay: TestRelay): Promise<RawListener> {
  const known = onlyListeners.get(relay) ?? openListener(relay);
  onlyListeners.set(relay, known);
  return known;
}

/** Joins a sender with the relay's only listener. */
export async function joinPair(relay: TestRelay): Promise<RawPair> {
  const control = await onlyListener(relay);
  const dialling = dialSender(relay);
  const listener = await control.acceptNext();
  const { socket: sender } = await dialling.answer;
  if (sender === undefined) throw new Error('The sender was refused');
  return { sender, listener, control };
}
