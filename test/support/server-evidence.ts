import { readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { CLUSTER_SECRET } from './cluster.ts';
import { dispatchProcess, type DispatchProcess } from './dispatch-process.ts';
import { startRedis, type TestRedis } from './redis.ts';
import { until } from './within.ts';

const STEP_MS = 30_000;
export const HEAP = 'heap snapshot';
const ADMIN = ['/metrics', '/status'];
const LISTS = ['audit', 'runs', 'connections', 'machines', 'groups'];
/** What `said` gives, by what it is called. */
export const SAID = ['log', ...ADMIN, ...LISTS];

/** Everything that there is of a server and what it stands on, by what it is called. */
export interface Evidence {
  readonly about: string;
  readonly bytes: Buffer;
}

/** `serve` that writes down its heap when it is told, and logs all that it can. */
export async function startedServer(
  store: readonly string[],
  folder: string,
): Promise<DispatchProcess> {
  const server = await dispatchProcess({
    command: 'serve',
    store,
    argv: ['--log-level', 'debug'],
    // Texts are cut at 1,024 characters otherwise, and what stands behind would not be seen.
    execArgv: [
      '--heapsnapshot-signal=SIGUSR2',
      '--heap-snapshot-string-limit=100000000',
      `--diagnostic-dir=${folder}`,
    ],
    env: { HALFWAY_MESH_SECRET: CLUSTER_SECRET },
  });
  await server.start();
  return server;
}

export interface Store extends AsyncDisposable {
  readonly argv: readonly string[];
  /** What of its evidence has records of job dispatch. */
  readonly holdsRecords: readonly string[];
  evidence(): Promise<readonly Evidence[]>;
}

/** What a server stands on, and what there is to look through of it. */
export async function storeOf(kind: 'redis' | 'data', folder: string): Promise<Store> {
  if (kind === 'data') {
    const data = join(folder, 'data');
    return {
      argv: ['--data', data],
      holdsRecords: ['dispatch.db'],
      evidence: () => Promise.resolve(filesBelow(data)),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    };
  }
  // Nothing is packed in its files, so that they can be looked through.
  const redis = await startRedis([
    '--appendonly',
    'yes',
    '--rdbcompression',
    'no',
    '--slowlog-log-slower-than',
    '0',
    '--slowlog-max-len',
    '100000',
  ]);
  const mesh = ['--mesh-host', '127.0.0.1', '--mesh-port', '0', '--mesh-local', 'off'];
  return {
    argv: ['--redis', redis.url, ...mesh],
    holdsRecords: ['keys of Redis', 'slow log of Redis', 'dump.rdb', AOF],
    evidence: () => redisEvidence(redis),
    [Symbol.asyncDispose]: () => redis[Symbol.asyncDispose](),
  };
}

const AOF = 'appendonlydir/appendonly.aof.1.incr.aof';

async function redisEvidence({ admin }: TestRedis): Promise<readonly Evidence[]> {
  const slow = Buffer.from(JSON.stringify(await admin.slowlog('GET', -1)));
  const keys = await admin.keys('*');
  const read = keys.map(async key => {
    const type = await admin.type(key);
    if (type === 'string') return admin.get(key);
    if (type === 'stream') return admin.xrange(key, '-', '+');
    if (type === 'zset') return admin.zrange(key, '0', '-1');
    if (type === 'hash') return admin.hgetall(key);
    return admin.smembers(key);
  });
  const values = Buffer.from(JSON.stringify([keys, await Promise.all(read)]));
  await admin.save();
  const [, folder = ''] = await admin.config('GET', 'dir');
  return [
    { about: 'keys of Redis', bytes: values },
    { about: 'slow log of Redis', bytes: slow },
    ...filesBelow(folder),
  ];
}

function filesBelow(folder: string): readonly Evidence[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map(name => join(folder, name))
    .filter(path => statSync(path).isFile())
    .map(path => ({ about: path.slice(folder.length + 1), bytes: readFileSync(path) }));
}

/** All that the server's heap has, as the server itself writes it down. */
export async function snapshot(
  { pid, adminUrl }: DispatchProcess,
  folder: string,
): Promise<Evidence> {
  const files = (): readonly string[] =>
    readdirSync(folder).filter(name => name.endsWith('.heapsnapshot'));
  process.kill(pid() ?? 0, 'SIGUSR2');
  await until('the snapshot is begun', () => files().length > 0, STEP_MS);
  // It does nothing else meanwhile.
  await fetch(`${adminUrl}/healthz`);
  const [name = ''] = files();
  const path = join(folder, name);
  const bytes = readFileSync(path);
  rmSync(path);
  expect(bytes.subarray(-200).toString()).toMatch(/\]\}\s*$/);
  return { about: HEAP, bytes };
}

/** What the server tells of itself. */
export async function said({ adminUrl, admin, output }: DispatchProcess, environment: string) {
  const read = async (about: string): Promise<Evidence> => {
    const response = await fetch(adminUrl + about);
    return { about, bytes: Buffer.from(await response.arrayBuffer()) };
  };
  const list = async (noun: string): Promise<Evidence> => {
    const answer = await admin.get('GET', `/environments/${environment}/${noun}`);
    return { about: noun, bytes: Buffer.from(JSON.stringify(answer)) };
  };
  return [
    { about: 'log', bytes: Buffer.from(output()) },
    ...(await Promise.all(ADMIN.map(read))),
    ...(await Promise.all(LISTS.map(list))),
  ];
}
