import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect as connectTcp, createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import type { ConnectionOptions, TLSSocket } from 'node:tls';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Clock } from '../../src/base/clock.ts';
import { startTlsTerminator } from '../../src/transports/tls-terminator.ts';
import type { TlsTerminator, TlsTerminatorOptions } from '../../src/transports/tls-terminator.ts';

const HEADER_BYTES = 52;
const STALL_TIMEOUT_MS = 1_000;

let directory: string;
let relay: FakeRelay;
let terminator: TlsTerminator;
let clock: ManualClock;
let clients: Socket[];
let errors: Error[];

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'halfway-tls-'));
  makeCertificate('first');
  makeCertificate('second');
});

afterAll(() => {
  rmSync(directory, { recursive: true, force: true });
});

beforeEach(async () => {
  clients = [];
  errors = [];
  clock = new ManualClock();
  relay = await startFakeRelay(join(directory, 'relay.sock'));
  use('first');
  terminator = await start();
});

afterEach(async () => {
  terminator.close();
  for (const client of clients) client.destroy();
  await relay.close();
});

describe('startTlsTerminator()', () => {
  test('carries bytes both ways, over TLS 1.2 and TLS 1.3, with ALPN http/1.1', async () => {
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      const client = await connect({ maxVersion, ALPNProtocols: ['h2', 'http/1.1'] });
      const { socket } = await relay.next();
      client.write('to the relay');
      expect(await read(socket, 12)).toBe('to the relay');
      socket.write('to the client');
      expect(await read(client, 13)).toBe('to the client');
      expect(client.getProtocol()).toBe(maxVersion);
      expect(client.alpnProtocol).toBe('http/1.1');
    }
  });

  test('refuses TLS 1.1, and counts it', async () => {
    const old = connect({ minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'ALL@SECLEVEL=0' });
    await expect(old).rejects.toMatchObject({ code: 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION' });
    expect(terminator.stats).toMatchObject({ accepted: 1, handshakeFailures: 1 });
    expect(relay.accepted).toBe(0);
  });

  test('refuses a client that speaks only h2', async () => {
    await expect(connect({ ALPNProtocols: ['h2'] })).rejects.toMatchObject({
      code: 'ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL',
    });
  });

  test('cuts a client that does not finish its handshake in time', async () => {
    const silent = connectTcp(terminator.port, '127.0.0.1');
    clients.push(silent);
    await once(silent, 'close');
    expect(terminator.stats.handshakeFailures).toBe(1);
    await settle(() => terminator.connections === 0);
  });

  test('names the file that cannot be read, and what to do', async () => {
    await expect(start({ keyFile: join(directory, 'none.key') })).rejects.toThrow(
      /^Cannot read TLS key ".*none\.key": ENOENT.*; check the path and that this user may read it$/,
    );
  });

  test('names both files when the key belongs to another certificate', async () => {
    await expect(start({ keyFile: join(directory, 'second.key') })).rejects.toThrow(
      /^Cannot use TLS key ".*second\.key": it does not belong to .*"[^"]*current\.crt" \(CN=first\)/,
    );
  });

  test('refuses files that are not PEM, are damaged or encrypted, each with its remedy', async () => {
    const file = join(directory, 'bad.pem');
    writeFileSync(file, 'nonsense');
    await expect(start({ certFile: file })).rejects.toThrow(/holds no "BEGIN CERTIFICATE" block/);
    await expect(start({ keyFile: file })).rejects.toThrow(/give a PEM private key/);
    const chain = readFileSync(join(directory, 'first.crt'), 'utf8');
    writeFileSync(file, `${chain}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n`);
    await expect(start({ certFile: file })).rejects.toThrow(/one of its 2 blocks is damaged/);
    openssl(`ec -aes128 -passout pass:x -in ${directory}/first.key -out ${file}`);
    await expect(start({ keyFile: file })).rejects.toThrow(/give a key without a passphrase/);
  });

  test('rejects when the port is in use', async () => {
    await expect(start({ port: terminator.port })).rejects.toMatchObject({ code: 'EADDRINUSE' });
  });

  test('sends the whole chain of the certificate file', async () => {
    const certFile = join(directory, 'chain.crt');
    makeLeafOf('first', 'leaf');
    const parts = ['leaf.crt', 'first.crt'].map(name =>
      readFileSync(join(directory, name), 'utf8'),
    );
    writeFileSync(certFile, parts.join(''));
    terminator.close();
    terminator = await start({ certFile, keyFile: join(directory, 'leaf.key') });
    const client = await connect();
    expect(client.getPeerCertificate(true).subject.CN).toBe('leaf');
    expect(client.getPeerCertificate(true).issuerCertificate.subject.CN).toBe('first');
  });
});

describe('lookup()', () => {
  test('gives address and port of each client, by the source address of its PROXY v2 header', async () => {
    for (let count = 0; count < 3; count += 1) {
      const client = await connect();
      const { proxied } = await relay.next();
      expect(terminator.lookup(proxied)).toEqual({ address: '127.0.0.1', port: client.localPort });
    }
  });

  test('forgets a client when its connection is closed', async () => {
    const client = await connect();
    const { proxied, socket } = await relay.next();
    client.end();
    socket.end();
    await Promise.all([once(socket, 'close'), once(client, 'close')]);
    await settle(() => terminator.connections === 0);
    expect(terminator.lookup(proxied)).toBeUndefined();
  });

  test('knows nothing of an address that was not made here', async () => {
    await connect();
    const { proxied } = await relay.next();
    const other = new Uint8Array(proxied);
    other[0] = (other[0] ?? 0) ^ 1;
    expect(terminator.lookup(other.buffer)).toBeUndefined();
    expect(terminator.lookup(Uint8Array.of(127, 0, 0, 1).buffer)).toBeUndefined();
    expect(terminator.lookup(new ArrayBuffer(0))).toBeUndefined();
  });
});

describe('a joined connection', () => {
  test('passes on the end of the client and goes on in the other direction', async () => {
    const client = await connect();
    const { socket } = await relay.next();
    client.end('last words');
    expect((await readToEnd(socket)).toString()).toBe('last words');
    socket.end('answer after the end');
    expect((await readToEnd(client)).toString()).toBe('answer after the end');
  });

  test('passes on the end of the relay and goes on in the other direction', async () => {
    const client = await connect();
    const { socket } = await relay.next();
    socket.end('last words');
    expect((await readToEnd(client)).toString()).toBe('last words');
    client.end('answer after the end');
    expect((await readToEnd(socket)).toString()).toBe('answer after the end');
  });

  test('delivers megabytes both ways at once, unchanged', async () => {
    const client = await connect();
    const { socket } = await relay.next();
    const up = Buffer.alloc(9_000_001, 'up and on ');
    const down = Buffer.alloc(8_000_003, 'down there ');
    client.end(up);
    socket.end(down);
    const [gotUp, gotDown] = await Promise.all([readToEnd(socket), readToEnd(client)]);
    expect(gotUp.equals(up)).toBe(true);
    expect(gotDown.equals(down)).toBe(true);
  });

  test('holds a fast client back while the relay does not read', async () => {
    const client = await connect();
    const { socket } = await relay.next();
    socket.pause();
    const chunk = Buffer.alloc(1 << 20);
    let written = 0;
    // Sixty-four times what the kernel and two streams hold would be taken by an unbounded one.
    while (written < 64 && client.writableLength < 8 * chunk.length) {
      client.write(chunk);
      written += 1;
      await turn(50);
    }
    expect(written).toBeLessThan(64);
    socket.resume();
    client.end();
    expect((await readToEnd(socket)).length).toBe(written * chunk.length);
  });

  test('tells the relay of a lost client after the bytes it had sent', async () => {
    const tcp = connectTcp(terminator.port, '127.0.0.1');
    const client = await connect({ socket: tcp });
    const { socket } = await relay.next();
    client.write('half a message');
    expect(await read(socket, 4)).toBe('half');
    tcp.resetAndDestroy();
    expect((await readToEnd(socket)).toString()).toBe(' a message');
    socket.end();
    await settle(() => terminator.connections === 0);
  });

  test('gives the client what a vanished relay had written, and is cut when the client goes on', async () => {
    const client = await connect();
    const { socket } = await relay.next();
    socket.write('refused');
    socket.destroySoon();
    expect((await readToEnd(client)).toString()).toBe('refused');
    client.write('never read by the relay');
    await settle(() => terminator.connections === 0);
  });

  test('is cut when the relay cannot be reached, and the operator is told', async () => {
    await relay.close();
    const client = await connect();
    await once(client.resume(), 'end');
    expect(errors.map(error => error.message)).toEqual([
      expect.stringMatching(/^Cannot reach the relay behind TLS: connect ENOENT /),
    ]);
    expect(terminator.stats.relayFailures).toBe(1);
  });

  test('is cut when its client takes nothing, and not when it is merely idle', async () => {
    const idle = await connect();
    await relay.next();
    const stalled = await connect();
    const { socket } = await relay.next();
    stalled.pause();
    socket.on('error', () => undefined);
    socket.write(Buffer.alloc(64 << 20));
    await settle(() => {
      clock.advance(STALL_TIMEOUT_MS / 4);
      return socket.destroyed;
    }, 100);
    expect(terminator.stats.stalled).toBe(1);
    await settle(() => terminator.connections === 1);
    expect(idle.destroyed).toBe(false);
  });

  test('is cut when its client does not close after the relay did', async () => {
    const client = await connect();
    const { socket } = await relay.next();
    socket.end();
    await once(client.resume(), 'end');
    clock.advance(STALL_TIMEOUT_MS / 4);
    expect(terminator.stats.stalled).toBe(0);
    clock.advance(STALL_TIMEOUT_MS * 2);
    expect(terminator.stats.stalled).toBe(1);
    await settle(() => terminator.connections === 0);
  });
});

describe('stallTimeoutMs', () => {
  test('0 waits for ever', async () => {
    terminator.close();
    terminator = await start({ stallTimeoutMs: 0 });
    const client = await connect();
    const { socket } = await relay.next();
    socket.end();
    await once(client.resume(), 'end');
    clock.advance(STALL_TIMEOUT_MS * 1_000);
    expect(terminator.stats.stalled).toBe(0);
    client.write('still here');
    expect(await read(socket, 10)).toBe('still here');
  });
});

describe('connectionsMax', () => {
  test('closes one more at once, and takes another when one has gone', async () => {
    terminator.close();
    terminator = await start({ connectionsMax: 2 });
    const [first] = [await connect(), await connect()];
    await expect(connect()).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(terminator.stats).toMatchObject({ accepted: 2, refused: 1 });
    const { socket } = await relay.next();
    first.end();
    socket.end();
    await settle(() => terminator.connections === 1);
    await connect();
    expect(terminator.connections).toBe(2);
  });
});

describe('reload()', () => {
  test('shows the new certificate to new connections while old ones live on', async () => {
    const old = await connect();
    const { socket } = await relay.next();
    use('second');
    await terminator.reload();
    const fresh = await connect();
    expect(old.getPeerCertificate().subject.CN).toBe('first');
    expect(fresh.getPeerCertificate().subject.CN).toBe('second');
    old.write('still here');
    expect(await read(socket, 10)).toBe('still here');
  });

  test('still refuses TLS 1.1 and asks for http/1.1', async () => {
    await terminator.reload();
    const old = connect({ minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'ALL@SECLEVEL=0' });
    await expect(old).rejects.toMatchObject({ code: 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION' });
    const client = await connect({ ALPNProtocols: ['http/1.1'] });
    expect(client.alpnProtocol).toBe('http/1.1');
  });

  test('rejects and keeps the old certificate when the files do not match', async () => {
    copyFileSync(join(directory, 'second.crt'), join(directory, 'current.crt'));
    await expect(terminator.reload()).rejects.toThrow(/does not belong to the first certificate/);
    const client = await connect();
    expect(client.getPeerCertificate().subject.CN).toBe('first');
  });
});

describe('stopListening() and close()', () => {
  test('stopListening() refuses new connections and keeps open ones; close() cuts them', async () => {
    const client = await connect();
    const { socket } = await relay.next();
    terminator.stopListening();
    await expect(connect()).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    client.write('open');
    expect(await read(socket, 4)).toBe('open');
    terminator.close();
    await Promise.all([once(client.resume(), 'end'), once(socket.resume(), 'end')]);
    await settle(() => terminator.connections === 0);
  });
});

/** The relay's side of the Unix socket: takes the PROXY v2 header off, hands the rest to the test. */
interface FakeRelay {
  readonly accepted: number;
  /** The oldest connection not handed out yet, once its header has come. */
  next(): Promise<{ readonly socket: Socket; readonly proxied: ArrayBuffer }>;
  close(): Promise<void>;
}

async function startFakeRelay(path: string): Promise<FakeRelay> {
  const sockets: Socket[] = [];
  let handedOut = 0;
  const server: Server = createServer({ allowHalfOpen: true }, socket => {
    sockets.push(socket);
    socket.on('error', () => undefined);
  });
  server.listen(path);
  await once(server, 'listening');
  return {
    get accepted() {
      return sockets.length;
    },
    async next() {
      if (sockets.length === handedOut) await once(server, 'connection');
      const socket = sockets[handedOut];
      if (socket === undefined) throw new Error('No connection came');
      handedOut += 1;
      const header = await readBytes(socket, HEADER_BYTES);
      expect(header.toString('hex', 0, 16)).toBe('0d0a0d0a000d0a515549540a21210024');
      return { socket, proxied: Uint8Array.from(header.subarray(16, 32)).buffer };
    },
    async close() {
      if (!server.listening) return;
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

class ManualClock implements Clock {
  #nowMs = 0;
  #tasks: { readonly atMs: number; readonly task: () => void }[] = [];

  nowMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return this.#nowMs;
  }

  after(delayMs: number, task: () => void): () => void {
    const entry = { atMs: this.#nowMs + delayMs, task };
    this.#tasks.push(entry);
    return () => {
      this.#tasks = this.#tasks.filter(other => other !== entry);
    };
  }

  advance(ms: number): void {
    const endMs = this.#nowMs + ms;
    for (;;) {
      const next = this.#tasks.toSorted((a, b) => a.atMs - b.atMs)[0];
      if (next === undefined || next.atMs > endMs) break;
      this.#nowMs = next.atMs;
      this.#tasks = this.#tasks.filter(entry => entry !== next);
      next.task();
    }
    this.#nowMs = endMs;
  }
}

function start(overrides: Partial<TlsTerminatorOptions> = {}): Promise<TlsTerminator> {
  return startTlsTerminator({
    host: '127.0.0.1',
    port: 0,
    certFile: join(directory, 'current.crt'),
    keyFile: join(directory, 'current.key'),
    socketPath: join(directory, 'relay.sock'),
    connectionsMax: 100,
    handshakeTimeoutMs: 300,
    stallTimeoutMs: STALL_TIMEOUT_MS,
    clock,
    onError: error => errors.push(error),
    ...overrides,
  });
}

async function connect(options: ConnectionOptions = {}): Promise<TLSSocket> {
  // Node takes allowHalfOpen here; its types do not know.
  const halfOpen: ConnectionOptions & { readonly allowHalfOpen: boolean } = {
    host: '127.0.0.1',
    port: terminator.port,
    rejectUnauthorized: false,
    allowHalfOpen: true,
    ...options,
  };
  const client = connectTls(halfOpen);
  clients.push(client);
  await once(client, 'secureConnect');
  client.on('error', () => undefined);
  return client;
}

async function readBytes(socket: Socket, size: number): Promise<Buffer> {
  for (;;) {
    const bytes: unknown = socket.read(size);
    if (Buffer.isBuffer(bytes)) return bytes;
    await once(socket, 'readable');
  }
}

async function read(socket: Socket, size: number): Promise<string> {
  return (await readBytes(socket, size)).toString();
}

/** Not `node:stream/consumers`, which destroys the socket at its end: the other direction lives on. */
async function readToEnd(socket: Socket): Promise<Buffer> {
  const parts: Buffer[] = [];
  socket.on('data', (part: Buffer) => parts.push(part));
  await once(socket, 'end');
  return Buffer.concat(parts);
}

/** Lets the event loop turn, so that sockets move. */
async function turn(times: number): Promise<void> {
  for (let time = 0; time < times; time += 1) {
    await new Promise(resolve => setImmediate(resolve));
  }
}

/** Turns the event loop until the claim holds; the test's own timeout is the limit. */
async function settle(claim: () => boolean, turnsBetween = 1): Promise<void> {
  while (!claim()) await turn(turnsBetween);
}

function use(name: string): void {
  for (const kind of ['crt', 'key']) {
    copyFileSync(join(directory, `${name}.${kind}`), join(directory, `current.${kind}`));
  }
}

function openssl(args: string): void {
  execFileSync('openssl', args.split(' '), { stdio: 'pipe' });
}

function makeCertificate(name: string): void {
  const base = join(directory, name);
  const key = `-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ${base}.key`;
  openssl(`req -x509 ${key} -out ${base}.crt -days 30 -subj /CN=${name}`);
}

function makeLeafOf(issuer: string, name: string): void {
  const base = join(directory, name);
  const ca = join(directory, issuer);
  const key = `-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ${base}.key`;
  openssl(`req ${key} -out ${base}.csr -subj /CN=${name}`);
  openssl(
    `x509 -req -in ${base}.csr -CA ${ca}.crt -CAkey ${ca}.key -CAcreateserial -days 30 -out ${base}.crt`,
  );
}
