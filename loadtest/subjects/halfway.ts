import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { WebSocket } from 'ws';
import { signToken, tokenAudience } from '../../src/auth/sign-token.ts';
import type { Generator } from '../support/generator.ts';
import { startProcess } from '../support/process.ts';
import type { RunningProcess } from '../support/process.ts';
import { separateAnsweringId } from './subject.ts';
import type { Subject } from './subject.ts';

export const KEY_NAME = 'loadtest';
export const KEY = 'loadtest-key';
/** What tokens of `listenPath` are for, and so what has to be said as `Host`. */
export const HOST = 'localhost';
const TOKEN_LIFE_SEC = 3_600;
/** Hybrid connections of the configuration: `hc0`, `hc1`, …; each takes 25 listeners at most. */
export const HYBRID_CONNECTIONS = 400;

/** What a listener is told on its control channel, as far as load tests need it. */
export interface ControlMessage {
  readonly accept?: { readonly address: string };
  readonly request?: { readonly id: string };
}

/** `halfway serve` as anybody runs it, and a listener that accepts every sender of `hc0` at the generator. */
export class Halfway implements Subject {
  readonly name = 'halfway';
  readonly port: number;
  readonly adminPort: number;
  readonly #process: RunningProcess;
  readonly #folder: string;
  readonly #controlChannels: WebSocket[] = [];

  constructor(process: RunningProcess, ports: Ports, folder: string) {
    this.#process = process;
    this.port = ports.port;
    this.adminPort = ports.adminPort;
    this.#folder = folder;
  }

  get pid(): number {
    return this.#process.pid;
  }

  /** A path that opens a control channel for the hybrid connection. */
  listenPath(hybridConnection: string): string {
    const token = encodeURIComponent(
      signToken({
        audience: tokenAudience(HOST, hybridConnection),
        keyName: KEY_NAME,
        key: KEY,
        expiresAtSec: Math.floor(Date.now() / 1_000) + TOKEN_LIFE_SEC,
      }),
    );
    return `/$hc/${hybridConnection}?sb-hc-action=listen&sb-hc-token=${token}`;
  }

  /** For the client library, with all rights; `sb:` means no TLS on loopback. */
  connectionString(hybridConnection: string): string {
    const key = `SharedAccessKeyName=${KEY_NAME};SharedAccessKey=${KEY}`;
    return `Endpoint=sb://127.0.0.1:${this.port}/;${key};EntityPath=${hybridConnection}`;
  }

  /** Opens a control channel and calls `onMessage` for whatever comes on it. */
  async listen(
    hybridConnection: string,
    onMessage: (message: ControlMessage) => void,
  ): Promise<WebSocket> {
    const socket = new WebSocket(
      `ws://127.0.0.1:${this.port}${this.listenPath(hybridConnection)}`,
      { headers: { host: HOST }, perMessageDeflate: false },
    );
    socket.on('message', (text: Buffer) => {
      const message: ControlMessage = JSON.parse(text.toString());
      onMessage(message);
    });
    await once(socket, 'open');
    this.#controlChannels.push(socket);
    return socket;
  }

  /** Accepts every sender: the generator dials the answering end of sender N, at this node. */
  async acceptAll(hybridConnection: string, generator: Generator): Promise<void> {
    await this.listen(hybridConnection, ({ accept }) => {
      if (accept === undefined) return;
      const { pathname, search } = new URL(accept.address);
      const id = Number(pathname.split('/').at(-1));
      generator.dial(separateAnsweringId(id), this.port, pathname + search);
    });
  }

  /** Makes the generator dial this node as a sender. */
  send(hybridConnection: string, generator: Generator, id: number): void {
    generator.dial(id, this.port, `/$hc/${hybridConnection}/${id}?sb-hc-action=connect`);
  }

  async prepare(generator: Generator): Promise<void> {
    await this.acceptAll('hc0', generator);
  }

  dialPair(generator: Generator, id: number): void {
    this.send('hc0', generator, id);
  }

  /** Value of one series on the admin port; 0 when there is none. */
  async metric(series: string): Promise<number> {
    const response = await fetch(`http://127.0.0.1:${this.adminPort}/metrics`);
    const lines = (await response.text()).split('\n');
    const line = lines.find(each => each.startsWith(`${series} `));
    return line === undefined ? 0 : Number(line.slice(series.length + 1));
  }

  /** SIGKILL: no word to anybody. */
  async kill(): Promise<void> {
    await this.#process[Symbol.asyncDispose]();
  }

  answeringId(id: number): number {
    return separateAnsweringId(id);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#controlChannels) socket.terminate();
    await this.kill();
    rmSync(this.#folder, { recursive: true });
  }
}

interface Ports {
  readonly port: number;
  readonly adminPort: number;
}

/** Starts `node dist/main.js serve` with hybrid connections that let senders in without a token. */
export async function startHalfway(flags: readonly string[] = []): Promise<Halfway> {
  const folder = mkdtempSync(join(tmpdir(), 'halfway-loadtest-'));
  const configFile = join(folder, 'halfway.json');
  writeFileSync(configFile, JSON.stringify(configuration()));
  const server = await startProcess({
    name: 'halfway',
    command: [
      process.execPath,
      ...'dist/main.js serve --host 127.0.0.1 --port 0 --admin-port 0 --config'.split(' '),
      configFile,
      ...flags,
    ],
    core: 'server',
    ready: portsOf,
  });
  return new Halfway(server, server.found, folder);
}

function portsOf(line: string): Ports | undefined {
  if (!line.includes('"listening"')) return undefined;
  const { port, adminPort }: Partial<Record<string, unknown>> = JSON.parse(line);
  return typeof port === 'number' && typeof adminPort === 'number'
    ? { port, adminPort }
    : undefined;
}

function configuration(): unknown {
  const hybridConnections = Array.from({ length: HYBRID_CONNECTIONS }, (_, index) => ({
    name: `hc${index}`,
    requiresClientAuthorization: false,
  }));
  const rule = { name: KEY_NAME, rights: ['Listen', 'Send', 'Manage'], primaryKey: KEY };
  return {
    namespaces: [{ name: 'loadtest', authorizationRules: [rule], hybridConnections }],
  };
}
