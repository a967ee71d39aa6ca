import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import type { Envelope } from '../../src/crypto/envelope.ts';
import { dispatchKeys } from '../../src/redis/keys.ts';
import { startCluster } from './cluster.ts';
import { Commands } from './command-machine.ts';
import { RestCaller } from './relay-machine.ts';
import { startRedis } from './redis.ts';
import { someFolder } from './some-folder.ts';

const TOKEN = 'hwt_token-of-the-first-administrator-of-tests';
const PREFIX = 'halfway';

export type StoredRecord = Record<string, unknown>;

/** A server with all records in Redis, where whoever has it may change them behind its back. */
export async function lyingServer() {
  const redis = await startRedis();
  const cluster = await startCluster({
    redisUrl: redis.url,
    nodeIds: ['liar'],
    options: { dispatch: true, apiToken: TOKEN },
  });
  const [node] = cluster.nodes;
  if (node === undefined) throw new Error('a cluster of one has a node');
  const folder = someFolder();
  const records = new StoredRecords(redis.admin);
  return {
    redis,
    node,
    records,
    apiToken: TOKEN,
    rest: new RestCaller(node.httpUrl, TOKEN),
    commands: new Commands(node.httpUrl, TOKEN, folder.path),
    folder: join(folder.path),
    async [Symbol.asyncDispose]() {
      await cluster[Symbol.asyncDispose]();
      await redis[Symbol.asyncDispose]();
      folder[Symbol.dispose]();
    },
  };
}

/** Records of the environment `default` as they stand in Redis. */
export class StoredRecords {
  readonly #admin: Redis;

  constructor(admin: Redis) {
    this.#admin = admin;
  }

  async read(kind: string, id: string): Promise<StoredRecord> {
    const text = (await this.#admin.get(keyOf(kind, id))) ?? '';
    return recordIn(text.slice(text.indexOf(' ') + 1));
  }

  /** Writes over members of a record, as the server would. */
  async change(kind: string, id: string, change: StoredRecord): Promise<void> {
    const text = (await this.#admin.get(keyOf(kind, id))) ?? '';
    const version = Number(text.slice(0, text.indexOf(' '))) + 1;
    const record = { ...(await this.read(kind, id)), ...change };
    await this.#admin.set(keyOf(kind, id), `${version} ${JSON.stringify(record)}`);
  }

  async envelopeOf(connectionId: string): Promise<Envelope> {
    const { envelope } = await this.read('connection', connectionId);
    const { kid, enc, ct } = recordOf(envelope);
    return { v: 1, suite: 'p256', kid: String(kid), enc: String(enc), ct: String(ct) };
  }

  swapEnvelope(connectionId: string, envelope: Envelope): Promise<void> {
    return this.change('connection', connectionId, { envelope });
  }
}

/** A connection of the account that runs the tests, sealed by the command line: its id. */
export async function connect(commands: Commands, target: readonly string[], user: string) {
  const name = `c-${randomUUID()}`;
  const made = ['connection', 'create', name, ...target, '--user', user];
  return String((await commands.json(made, 'a password of tests'))['id']);
}

/** How a run of `true` with a connection ends: `Succeeded`, or the code of its fault. */
export async function endOfRun(commands: Commands, connectionId: string): Promise<string> {
  const start = ['run', 'start', '--connection', connectionId, '--wait', '--json', '--', 'true'];
  const { out, err } = await commands.result(start);
  if (out === '') throw new Error(err);
  return outcomeOf(recordIn(out));
}

export function outcomeOf(run: StoredRecord): string {
  const { code } = recordOf(run['fault'] ?? {});
  return typeof code === 'string' ? code : String(run['state']);
}

function keyOf(kind: string, id: string): string {
  return dispatchKeys(PREFIX).document('default', kind, id);
}

function recordIn(json: string): StoredRecord {
  return recordOf(JSON.parse(json));
}

function recordOf(value: unknown): StoredRecord {
  if (typeof value === 'object' && value !== null) return { ...value };
  throw new Error('no record');
}
