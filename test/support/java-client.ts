// What the Java client (azure-relay 0.0.6 over Jetty 9.4) does on the wire, as client-behaviour.md section 7 tells it.
import { randomUUID } from 'node:crypto';
import { OPCODES } from '../../src/protocol/frames.ts';
import { Inbox } from './inbox.ts';
import { open, type RawWebSocket } from './raw-websocket.ts';
import type { TestRelay } from './relay.ts';

/** Jetty drops the connection on a longer frame. */
const FRAME_BYTES_MAX = 65_536;
const TEXT_CHARS_MAX = 65_536;

const USER_AGENT = ['User-Agent', 'Jetty/9.4.11.v20180605'] as const;

/** What `java.net.URI` takes: no character that RFC 2396 forbids, and only whole escapes. */
const STRICT_URI =
  /^[a-z][a-z\d+.-]*:\/\/(?:[\w.~!$&'()*+,;=:@/?#[\]-]|%[\da-f]{2}|[\u00a0-\uffff])*$/i;

export interface JavaAccept {
  readonly address: string;
  readonly id: string;
  readonly connectHeaders: Readonly<Record<string, string>>;
}

/** Reads an `accept` as strictly as Java does. Throws on everything that costs it its control channel. */
export function readAcceptAsJava(text: string): JavaAccept {
  if (text.length > TEXT_CHARS_MAX) throw new Error('The text message is too long');
  const message = objectOf(JSON.parse(text), 'message');
  const keys = Object.keys(message);
  if (keys.length !== 1 || keys[0] !== 'accept') throw new Error(`Unknown command: ${keys.join()}`);
  const accept = objectOf(message['accept'], 'accept');
  const { address, id } = accept;
  if (typeof address !== 'string' || typeof id !== 'string') throw new Error('address or id');
  parseUuid(id);
  if (!STRICT_URI.test(address)) throw new Error(`URISyntaxException: ${address}`);
  const query = address.slice(address.indexOf('?') + 1);
  const parameters = new Map<string, string>();
  for (const pair of decodeForm(query).split('&')) {
    const parts = pair.split('=');
    if (parts.length > 2) throw new Error(`A pair of three parts: ${pair}`);
    parameters.set(parts[0] ?? '', parts[1] ?? '');
  }
  parseUuid(parameters.get('sb-hc-id') ?? '');
  const endpoint = objectOf(accept['remoteEndpoint'], 'remoteEndpoint');
  if (typeof endpoint['address'] !== 'string' || !Number.isInteger(endpoint['port'])) {
    throw new Error('remoteEndpoint.address or .port');
  }
  const connectHeaders: Record<string, string> = {};
  for (const [name, value] of Object.entries(
    objectOf(accept['connectHeaders'], 'connectHeaders'),
  )) {
    if (typeof value !== 'string') throw new Error(`The header ${name} is no string`);
    connectHeaders[name] = value;
  }
  return { address, id, connectHeaders };
}

function objectOf(value: unknown, what: string): Record<string, unknown> {
  if (!isObject(value)) throw new Error(`${what} is missing`);
  return value;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The first 36 characters must be a UUID. */
function parseUuid(text: string): void {
  if (!/^[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}$/i.test(text.slice(0, 36))) {
    throw new Error(`IllegalArgumentException: ${text}`);
  }
}

function decodeForm(text: string): string {
  return decodeURIComponent(text.replaceAll('+', ' '));
}

/** A data channel. It has no half-close: a Close that comes in closes it. */
export class JavaChannel {
  readonly messages = new Inbox<Buffer>('a message');
  readonly #socket: RawWebSocket;
  #parts: Uint8Array[] = [];

  constructor(socket: RawWebSocket) {
    this.#socket = socket;
    void this.#pump();
  }

  write(bytes: Uint8Array): void {
    this.#socket.send(bytes);
  }

  async close(): Promise<void> {
    this.#socket.sendClose(1000, 'NormalClosure');
    await this.#socket.ended();
  }

  async #pump(): Promise<void> {
    for (;;) {
      const frame = await this.#socket.nextFrame(60_000).catch((error: unknown) => {
        this.messages.end(error instanceof Error ? error : new Error('ended'));
        return undefined;
      });
      if (frame === undefined) return;
      const { opcode, payload, isFinal } = frame;
      if (opcode === OPCODES.ping) this.#socket.send(payload, { opcode: OPCODES.pong });
      if (opcode === OPCODES.close) {
        this.#socket.send(payload, { opcode: OPCODES.close });
        this.#socket.fin();
        this.messages.end(new Error('Closed by the other side'));
        return;
      }
      if (opcode > OPCODES.binary) continue;
      if (payload.length > FRAME_BYTES_MAX) {
        this.#socket.sendClose(1001, 'Shutdown');
        this.messages.end(new Error('A frame longer than Jetty takes'));
        return;
      }
      this.#parts.push(payload);
      if (!isFinal) continue;
      this.messages.put(Buffer.concat(this.#parts));
      this.#parts = [];
    }
  }
}

export class JavaListener {
  readonly id = randomUUID();
  readonly channels = new Inbox<JavaChannel>('a connection');
  readonly accepts: JavaAccept[] = [];
  /** What it threw; each of these costs it its control channel. */
  readonly faults: Error[] = [];
  readonly closes = new Inbox<{ readonly code: number; readonly reason: string }>('a Close');
  readonly #relay: TestRelay;
  #control: RawWebSocket | undefined;

  constructor(relay: TestRelay) {
    this.#relay = relay;
  }

  async open(): Promise<void> {
    const relay = this.#relay;
    this.#control = await open(`${relay.wsUrl}/$hc/hyco?sb-hc-action=listen&sb-hc-id=${this.id}`, {
      headers: [['ServiceBusAuthorization', relay.token('hyco', { rule: 'listener' })], USER_AGENT],
    });
    void this.#pump(this.#control);
  }

  /** Its way of renewing: the text of an object, never a token. */
  renew(): void {
    const text = 'com.microsoft.azure.relay.SharedAccessSignatureTokenProvider$Token@1b2c3d';
    this.#control?.send(JSON.stringify({ renewToken: { token: text } }));
  }

  async #pump(control: RawWebSocket): Promise<void> {
    for (;;) {
      const frame = await control.nextFrame(60_000).catch(() => undefined);
      if (frame === undefined) return;
      const { opcode, payload } = frame;
      if (opcode === OPCODES.ping) control.send(payload, { opcode: OPCODES.pong });
      if (opcode === OPCODES.close) {
        const code = Buffer.from(payload).readUInt16BE();
        this.closes.put({ code, reason: Buffer.from(payload).toString('utf8', 2) });
        control.send(payload, { opcode: OPCODES.close });
        control.fin();
        await this.open();
        return;
      }
      if (opcode > OPCODES.binary) continue;
      try {
        const accept = readAcceptAsJava(Buffer.from(payload).toString());
        this.accepts.push(accept);
        // No subprotocol, whatever the sender asked for.
        const channel = await open(accept.address, { headers: [USER_AGENT] });
        this.channels.put(new JavaChannel(channel));
      } catch (error) {
        this.faults.push(error instanceof Error ? error : new Error(String(error)));
      }
    }
  }
}

/** A sender's channel; its token covers the host alone, by a mistake of the library. */
export async function javaConnect(
  relay: TestRelay,
  options: { readonly path?: string; readonly query?: string } = {},
): Promise<JavaChannel> {
  const query = options.query === undefined ? '' : `${options.query}&`;
  const path = options.path ?? 'hyco';
  const socket = await open(
    `${relay.wsUrl}/$hc/${path}?${query}sb-hc-action=connect&sb-hc-id=${randomUUID()}`,
    { headers: [['ServiceBusAuthorization', relay.token('', { rule: 'sender' })], USER_AGENT] },
  );
  return new JavaChannel(socket);
}
