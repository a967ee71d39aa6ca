// What the .NET client (Microsoft.Azure.Relay 3.0) does on the wire, as client-behaviour.md section 6 tells it.
import { randomUUID } from 'node:crypto';
import { OPCODES, parseClosePayload } from '../../src/protocol/frames.ts';
import { Inbox } from './inbox.ts';
import {
  dial,
  headerValues,
  type DialOptions,
  type HandshakeAnswer,
  type RawWebSocket,
} from './raw-websocket.ts';
import type { TestRelay } from './relay.ts';

/** A control message is read into a buffer of this size; a longer one is never finished. */
const COMMAND_BYTES_MAX = 65_536;

/** An error as .NET's applications see it: the reason phrase is the message. */
export class DotNetError extends Error {
  readonly status: number;
  readonly kind: 'AuthorizationFailed' | 'EndpointNotFound' | 'Timeout' | 'Relay';

  constructor({ status, reason }: HandshakeAnswer) {
    super(reason);
    this.status = status;
    this.kind =
      status === 401
        ? 'AuthorizationFailed'
        : status === 404
          ? 'EndpointNotFound'
          : status === 408 || status === 504
            ? 'Timeout'
            : 'Relay';
  }
}

/** Opens a WebSocket, and takes no answer that its ClientWebSocket would not take. */
async function connectStrictly(
  url: string,
  headers: DialOptions['headers'] = [],
): Promise<RawWebSocket> {
  const answer = await dial(url, { headers }).answer;
  if (answer.socket === undefined) throw new DotNetError(answer);
  const asked = headers.find(([name]) => name === 'Sec-WebSocket-Protocol')?.[1].split(', ') ?? [];
  const [connection, ...moreConnections] = headerValues(answer, 'connection');
  const [upgrade, ...moreUpgrades] = headerValues(answer, 'upgrade');
  const protocols = headerValues(answer, 'sec-websocket-protocol');
  if (connection?.toLowerCase() !== 'upgrade' || moreConnections.length > 0) {
    throw new Error('Not exactly one Connection: Upgrade');
  }
  if (upgrade?.toLowerCase() !== 'websocket' || moreUpgrades.length > 0) {
    throw new Error('Not exactly one Upgrade: websocket');
  }
  if (protocols.length > 1 || (protocols[0] !== undefined && !asked.includes(protocols[0]))) {
    throw new Error(`A subprotocol that was not asked for: ${protocols.join()}`);
  }
  return answer.socket;
}

/** A HybridConnectionStream: each write a message, a read of nothing is the end. */
export class DotNetStream {
  readonly #socket: RawWebSocket;
  #isReadClosed = false;

  constructor(socket: RawWebSocket) {
    this.#socket = socket;
  }

  write(bytes: Uint8Array): void {
    this.#socket.send(bytes);
  }

  /** The next part; empty at the end: a Close, or an empty message. Throws when the peer breaks off. */
  async read(): Promise<Buffer> {
    if (this.#isReadClosed) return Buffer.alloc(0);
    for (;;) {
      const { opcode, payload } = await this.#socket.nextFrame();
      if (opcode === OPCODES.ping) this.#socket.send(payload, { opcode: OPCODES.pong });
      if (opcode === OPCODES.ping || opcode === OPCODES.pong) continue;
      if (opcode !== OPCODES.close) return Buffer.from(payload);
      this.#isReadClosed = true;
      return Buffer.alloc(0);
    }
  }

  /** Reads exactly so many bytes, however they are cut. */
  async readExactly(byteCount: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    for (let left = byteCount; left > 0;) {
      const part = await this.read();
      if (part.length === 0) throw new Error(`The end, with ${left} bytes to come`);
      parts.push(part);
      left -= part.length;
    }
    return Buffer.concat(parts);
  }

  /** Says that nothing more will be written; reading goes on. */
  shutdown(): void {
    this.#socket.sendClose(1000, 'Shutdown');
  }

  /** The whole handshake of closing. */
  async close(): Promise<void> {
    this.#socket.sendClose(1000, 'CloseAsync');
    while (!this.#isReadClosed) await this.read();
    this.#socket.fin();
    await this.#socket.ended();
  }

  abort(): Promise<void> {
    return this.#socket.reset();
  }

  /** What keeps the connection alive every 210 s. */
  keepAlive(): void {
    this.#socket.send('', { opcode: OPCODES.pong });
  }
}

export interface DotNetAccept {
  /** Looks a header up without regard to case. */
  header(name: string): string | undefined;
  /** Path and query of the address, as the application sees them: without `$hc/` and `sb-hc-` pairs. */
  readonly target: string;
}

/** What an accept handler says; `throws` is one that failed. */
export type DotNetDecision =
  | { readonly accept: true; readonly protocol?: string }
  | { readonly accept: false; readonly status?: number; readonly description?: string }
  | 'throws';

export class DotNetListener {
  /** Kept over reconnections. */
  readonly id = randomUUID();
  readonly streams = new Inbox<DotNetStream>('a connection');
  /** What rejected handshakes were answered with: 410 is right. */
  readonly rejections = new Inbox<number>('the answer to a rejection');
  /** Why the control channel ended, each time. */
  readonly ends = new Inbox<{ readonly code: number; readonly reason: string }>('a Close');
  readonly #relay: TestRelay;
  readonly #decide: (accept: DotNetAccept) => DotNetDecision;
  #control: RawWebSocket | undefined;
  #isClosing = false;

  constructor(
    relay: TestRelay,
    decide: (accept: DotNetAccept) => DotNetDecision = () => ({ accept: true }),
  ) {
    this.#relay = relay;
    this.#decide = decide;
  }

  /** Throws a `DotNetError` when it is refused. */
  async open(): Promise<void> {
    const relay = this.#relay;
    this.#control = await connectStrictly(
      `${relay.wsUrl}/$hc/hyco?sb-hc-action=listen&sb-hc-id=${this.id}`,
      [
        ['ServiceBusAuthorization', relay.token('hyco/', { rule: 'listener' })],
        ['Relay-User-Agent', 'azure-relay-dotnet/3.0.1.0 (Unix 6.1; .NET 8.0)'],
      ],
    );
    void this.#pump(this.#control);
  }

  async close(): Promise<void> {
    this.#isClosing = true;
    this.#control?.sendClose(1000, 'Normal Closure');
    await this.ends.next();
  }

  async #pump(control: RawWebSocket): Promise<void> {
    for (;;) {
      const frame = await control.nextFrame(60_000).catch(() => undefined);
      if (frame === undefined) return;
      const { opcode, payload } = frame;
      if (opcode === OPCODES.ping) control.send(payload, { opcode: OPCODES.pong });
      if (opcode === OPCODES.close) {
        this.ends.put(parseClosePayload(payload));
        if (!this.#isClosing) control.sendClose(1000);
        control.fin();
        if (!this.#isClosing) await this.open();
        return;
      }
      if (opcode > OPCODES.binary || payload.length > COMMAND_BYTES_MAX) continue;
      const command: unknown = JSON.parse(Buffer.from(payload).toString());
      if (isAccept(command)) void this.#accept(command.accept);
    }
  }

  async #accept(accept: AcceptCommand['accept']): Promise<void> {
    const { connectHeaders } = accept;
    const header = (name: string): string | undefined =>
      Object.entries(connectHeaders).find(([one]) => one.toLowerCase() === name.toLowerCase())?.[1];
    const decision = this.#decide({ header, target: targetOf(accept.address) });
    // It waits a moment, so that a rejection does not overtake anything.
    await new Promise(resolve => void setTimeout(resolve, 2));
    if (decision === 'throws') {
      await this.#reject(
        accept.address,
        502,
        `The Listener's custom AcceptHandler threw an exception. See Listener logs for details. TrackingId: ${accept.id}.`,
      );
    } else if (decision.accept) {
      const protocol = decision.protocol ?? header('Sec-WebSocket-Protocol')?.split(/, */)[0];
      const headers = protocol === undefined ? [] : [['Sec-WebSocket-Protocol', protocol] as const];
      this.streams.put(new DotNetStream(await connectStrictly(accept.address, headers)));
    } else {
      await this.#reject(
        accept.address,
        decision.status ?? 400,
        decision.description ?? (decision.status === undefined ? 'Rejected by user code' : ''),
      );
    }
  }

  async #reject(address: string, status: number, description: string): Promise<void> {
    const text = encodeURIComponent(description).replaceAll('%20', '+');
    const url = `${address}&sb-hc-statusCode=${status}&sb-hc-statusDescription=${text}`;
    this.rejections.put((await dial(url).answer).status);
  }
}

/** `CreateConnectionAsync`. Throws a `DotNetError` when it is refused. */
export async function dotNetConnect(
  relay: TestRelay,
  options: {
    readonly path?: string;
    readonly query?: string;
    readonly headers?: DialOptions['headers'];
  } = {},
): Promise<DotNetStream> {
  const query = options.query === undefined ? '' : `${options.query}&`;
  const socket = await connectStrictly(
    `${relay.wsUrl}/$hc/${options.path ?? 'hyco'}?${query}sb-hc-action=connect&sb-hc-id=${randomUUID()}`,
    [
      ['ServiceBusAuthorization', relay.token('hyco/', { rule: 'sender' })],
      ['Relay-User-Agent', 'azure-relay-dotnet/3.0.1.0 (Unix 6.1; .NET 8.0)'],
      ...(options.headers ?? []),
    ],
  );
  return new DotNetStream(socket);
}

function targetOf(address: string): string {
  const { pathname, search } = new URL(address);
  const query = search
    .slice(1)
    .split('&')
    .filter(pair => !(pair.toLowerCase().startsWith('sb-hc-') && pair.includes('=')))
    .join('&');
  return `${pathname.replace('/$hc/', '/')}${query === '' ? '' : `?${query}`}`;
}

interface AcceptCommand {
  readonly accept: {
    readonly address: string;
    readonly id: string;
    readonly connectHeaders: Readonly<Record<string, string>>;
  };
}

function isAccept(command: unknown): command is AcceptCommand {
  return typeof command === 'object' && command !== null && 'accept' in command;
}
