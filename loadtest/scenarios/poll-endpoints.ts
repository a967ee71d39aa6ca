import { randomBytes } from 'node:crypto';
import autocannon from 'autocannon';
import { HybridConnectionListener, type RelayConnection } from '../../src/client/client.ts';
import { encodePollBatch, type PollFrame } from '../../src/protocol/poll-frames.ts';
import { HOST, startHalfway } from '../subjects/halfway.ts';
import type { Halfway } from '../subjects/halfway.ts';
import { startUwsEcho } from '../subjects/uws-echo.ts';
import { Cleanup } from '../support/cleanup.ts';
import { cpuMs, PINNING } from '../support/process.ts';
import { takesPart } from '../support/scenario.ts';
import type { Cell, Result, Scenario, ScenarioOptions } from '../support/scenario.ts';
import { median } from '../support/statistics.ts';

const CONNECTIONS = 64;
/** More than is ever used up: `credit` of polls whose answers are thrown away. */
const CREDIT = 2 ** 50;
/** Hybrid connections with a listener that throws away, or sends back, what it gets. */
const SINK = 'hc0';
const ECHO = 'hc1';
/** Those from here on have none. */
const FREE_FROM = 2;

/** A kind of request, or several that follow each other. */
interface Endpoint {
  readonly name: string;
  readonly pid: number;
  readonly url: string;
  /** What one connection repeats; asked for once for each connection of each run. */
  readonly requests: () => Promise<readonly autocannon.Request[]>;
  /** First digit of every answer's status. */
  readonly statusClass: '2xx' | '4xx';
}

interface Measured {
  readonly cpuUs: number;
  readonly perSec: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** Requests to the endpoints of long-poll sessions, each connection with a session of its own. */
async function run(options: ScenarioOptions): Promise<Result> {
  const rounds = options.isQuick ? 1 : 3;
  const durationSec = options.isQuick ? 1 : 3;
  await using cleanup = new Cleanup();
  const endpoints: Endpoint[] = [];
  if (takesPart(options, 'uws-echo')) {
    const { pid, port } = cleanup.use(await startUwsEcho());
    const url = `http://127.0.0.1:${port}`;
    endpoints.push({ name: 'uws GET', pid, url, requests: getRoot, statusClass: '2xx' });
  }
  if (takesPart(options, 'halfway')) {
    const halfway = cleanup.use(await startHalfway());
    cleanup.use(await listen(halfway, SINK, sink));
    cleanup.use(await listen(halfway, ECHO, echo));
    endpoints.push(...endpointsOf(halfway));
  }
  const measured = new Map<string, Measured[]>();
  for (let round = 0; round < rounds; round += 1) {
    for (const endpoint of endpoints) {
      options.progress(`round ${round + 1} of ${rounds}: ${endpoint.name}`);
      const list = measured.get(endpoint.name) ?? [];
      list.push(await cannon(endpoint, durationSec));
      measured.set(endpoint.name, list);
    }
  }
  const cpuUs = (name: string): number =>
    median((measured.get(name) ?? []).map(each => each.cpuUs));
  return {
    scenario: 'poll-endpoints',
    command: 'npm run bench poll-endpoints',
    about: `autocannon, ${CONNECTIONS} connections; ${PINNING}`,
    columns: ['requests', 'CPU µs/request', 'this/uws GET', 'requests/s', 'p50 ms', 'p99 ms'],
    rows: [...measured].map(([name, list]): readonly Cell[] => [
      name,
      cpuUs(name),
      cpuUs(name) / cpuUs('uws GET'),
      median(list.map(each => each.perSec)),
      median(list.map(each => each.p50Ms)),
      median(list.map(each => each.p99Ms)),
    ]),
    notes: [
      'autocannon is the limit of requests/s. Of sequences each request counts. Posts go to a listener',
      'that throws them away, in the last but one to one that sends them back, where the poll waits.',
      'Opening checks a token and lets a listener in; forged ids are refused, which costs a signature.',
    ],
  };
}

export const pollEndpoints: Scenario = { name: 'poll-endpoints', run };

function endpointsOf(halfway: Halfway): readonly Endpoint[] {
  const { pid } = halfway;
  const url = `http://127.0.0.1:${halfway.port}`;
  const common = { pid, url, statusClass: '2xx' } as const;
  let listeners = 0;
  return [
    {
      ...common,
      name: 'open, delete',
      requests: async () => {
        listeners += 1;
        const path = halfway.listenPath(`hc${FREE_FROM + (listeners % CONNECTIONS)}`);
        return openAndDelete(`${path}&sb-hc-transport=poll`);
      },
    },
    {
      ...common,
      name: 'poll, held 0 ms',
      requests: async () => {
        const path = await openSender(url, SINK);
        return [{ method: 'GET', path: `${path}?turn=1&ack=0&credit=${CREDIT}&wait=0` }];
      },
    },
    ...[16, 1_024, 65_536].map(sizeBytes => postEndpoint(common, sizeBytes)),
    {
      ...common,
      name: 'post 1,024 B, poll',
      requests: async () => {
        const path = await openSender(url, ECHO);
        const posts = posting(path, 1_024);
        return [posts.request, polling(path, posts)];
      },
    },
    {
      ...common,
      name: 'poll, forged id',
      requests: async () => {
        const path = `/$poll/${randomBytes(32).toString('hex')}`;
        return [{ method: 'GET', path: `${path}?turn=1&ack=0&credit=${CREDIT}` }];
      },
      statusClass: '4xx',
    },
  ];
}

function getRoot(): Promise<readonly autocannon.Request[]> {
  return Promise.resolve([{ method: 'GET', path: '/' }]);
}

function postEndpoint(
  common: Pick<Endpoint, 'pid' | 'url' | 'statusClass'>,
  sizeBytes: number,
): Endpoint {
  const requests = async (): Promise<readonly autocannon.Request[]> => [
    posting(await openSender(common.url, SINK), sizeBytes).request,
  ];
  return { ...common, name: `post ${sizeBytes.toLocaleString('en-US')} B`, requests };
}

function openAndDelete(listenPath: string): readonly autocannon.Request[] {
  let session = '';
  return [
    {
      method: 'POST',
      path: listenPath,
      // The token is for that name.
      headers: { host: HOST },
      onResponse: (status, body) => {
        if (status !== 201) throw new Error(`No session: ${status} ${body}`);
        const terms: { readonly session: string } = JSON.parse(body);
        ({ session } = terms);
      },
    },
    { method: 'DELETE', setupRequest: request => ({ ...request, path: `/$poll/${session}` }) },
  ];
}

interface Posting {
  /** Frames posted so far, each a message. */
  sent: number;
  readonly request: autocannon.Request;
}

function posting(path: string, sizeBytes: number): Posting {
  const frame: PollFrame = { opcode: 2, isFinal: true, payload: Buffer.alloc(sizeBytes, 'x') };
  const posts: Posting = {
    sent: 0,
    request: {
      method: 'POST',
      headers: { 'content-type': 'application/octet-stream' },
      setupRequest: request => {
        posts.sent += 1;
        const batch = { seq: posts.sent, ack: 0, credit: CREDIT, frames: [frame] };
        return { ...request, path, body: Buffer.from(encodePollBatch(batch)) };
      },
    },
  };
  return posts;
}

/** Fetches what came back of the last post. */
function polling(path: string, posts: Posting): autocannon.Request {
  return {
    method: 'GET',
    setupRequest: request => ({
      ...request,
      path: `${path}?turn=${posts.sent}&ack=${posts.sent - 1}&credit=${CREDIT}`,
    }),
  };
}

/** Opens a session of a sender; returns its path. */
async function openSender(url: string, hybridConnection: string): Promise<string> {
  const query = 'sb-hc-action=connect&sb-hc-transport=poll';
  const answer = await fetch(`${url}/$hc/${hybridConnection}?${query}`, { method: 'POST' });
  const path = answer.headers.get('location');
  if (answer.status !== 201 || path === null) {
    throw new Error(`No session: ${answer.status} ${await answer.text()}`);
  }
  return path;
}

/** Accepts whoever comes, by WebSocket. */
async function listen(
  halfway: Halfway,
  hybridConnection: string,
  use: (connection: RelayConnection) => Promise<void>,
): Promise<AsyncDisposable> {
  const listener = new HybridConnectionListener(
    { connectionString: halfway.connectionString(hybridConnection), transport: 'websocket' },
    { onConnection: async offer => use(await offer.accept()) },
  );
  await listener.open();
  return { [Symbol.asyncDispose]: () => listener.close({ timeoutMs: 0 }) };
}

async function sink(connection: RelayConnection): Promise<void> {
  for await (const _ of connection.fragments());
}

async function echo(connection: RelayConnection): Promise<void> {
  for await (const { data } of connection) await connection.send(data);
}

async function cannon(endpoint: Endpoint, durationSec: number): Promise<Measured> {
  const { name, pid, url, statusClass } = endpoint;
  const fire = async (duration: number): Promise<autocannon.Result> => {
    const requests: (readonly autocannon.Request[])[] = [];
    for (let index = 0; index < CONNECTIONS; index += 1) requests.push(await endpoint.requests());
    return autocannon({
      url,
      connections: CONNECTIONS,
      duration,
      setupClient: client => client.setRequests([...(requests.pop() ?? [])]),
    });
  };
  await fire(1);
  const cpuBefore = cpuMs(pid);
  const result = await fire(durationSec);
  const cpuUsed = cpuMs(pid) - cpuBefore;
  const answered = result.requests.total;
  if (result.errors > 0 || result[statusClass] !== answered || answered === 0) {
    const statuses = JSON.stringify(result.statusCodeStats);
    throw new Error(`${name}: ${result.errors} requests failed, of others ${statuses}`);
  }
  return {
    cpuUs: (cpuUsed * 1_000) / answered,
    perSec: answered / result.duration,
    p50Ms: result.latency.p50,
    p99Ms: result.latency.p99,
  };
}
