import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { WebSocket } from 'ws';
import { signToken, tokenAudience } from '../../src/auth/sign-token.ts';
import type { Generator } from '../support/generator.ts';
import { startProcess } from '../support/process.ts';
import type { RunningProcess } from '../support/process.ts';
import { portOf } from './port.ts';
import { separateAnsweringId } from './subject.ts';
import type { Subject } from './subject.ts';

const KEY_NAME = 'loadtest';
const KEY = 'loadtest-key';
const HOST = 'localhost';
const TOKEN_LIFE_SEC = 3_600;
/** Hybrid connections of the configuration: `hc0`, `hc1`, … */
const HYBRID_CONNECTIONS = 400;

/** What a listener is told on its control channel, as far as load tests need it. */
export interface ControlMessage {
  readonly accept?: { readonly address: string };
  readonly request?: { readonly id: string };
}

/** `halfway serve` as anybody runs it, and a listener that accepts every sender of `hc0` at the generator. */
export class Halfway implements Subject {
  readonly name = 'halfway';
  readonly port: number;
  readonly #process: RunningProcess;
  readonly #folder: string;
  readonly #controlChannels: WebSocket[] = [];

  constructor(process: RunningProcess, port: number, folder: string) {
    this.#process = process;
    this.port = port;
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

  /** Accepts every sender of `hc0`: the answering end of sender N is dialled at the generator. */
  async prepare(generator: Generator): Promise<void> {
    await this.listen('hc0', ({ accept }) => {
      if (accept === undefined) return;
      const { pathname, search } = new URL(accept.address);
      const id = Number(pathname.split('/').at(-1));
      generator.dial(separateAnsweringId(id), this.port, pathname + search);
    });
  }

  dialPair(generator: Generator, id: number): void {
    generator.dial(id, this.port, `/$hc/hc0/${id}?sb-hc-action=connect`);
  }

  answeringId(id: number): number {
    return separateAnsweringId(id);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#controlChannels) socket.terminate();
    await this.#process[Symbol.asyncDispose]();
    rmSync(this.#folder, { recursive: true });
  }
}

/** Starts `node dist/main.js serve` with hybrid connections that let senders in without a token. */
export async function startHalfway(): Promise<Halfway> {
  const folder = mkdtempSync(join(tmpdir(), 'halfway-loadtest-'));
  const configFile = join(folder, 'halfway.json');
  writeFileSync(configFile, JSON.stringify(configuration()));
  const server = await startProcess({
    name: 'halfway',
    command: [
      process.execPath,
      ...'dist/main.js serve --host 127.0.0.1 --port 0 --admin-port 0 --config'.split(' '),
      configFile,
    ],
    core: 'server',
    ready: line => (line.includes('"listening"') ? portOf(line) : undefined),
  });
  return new Halfway(server, server.found, folder);
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
