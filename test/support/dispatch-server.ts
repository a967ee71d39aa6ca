import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { systemClock } from '../../src/base/clock.ts';
import { createApi } from '../../src/api/api.ts';
import { decodeBase64Url } from '../../src/crypto/base64url.ts';
import { openingKeyOf, type OpeningKey } from '../../src/crypto/key-pair.ts';
import { newTokenText } from '../../src/dispatch/api-tokens.ts';
import { ControlPlane, type EnvironmentServices } from '../../src/dispatch/control-plane.ts';
import type { MachineRequest } from '../../src/dispatch/machine-sender.ts';
import { formatMoment } from '../../src/dispatch/moments.ts';
import type { Offer, Result } from '../../src/jobs/messages.ts';
import { openMemoryDispatchStore } from '../../src/store/memory-dispatch-store.ts';
import { accepted, FakeSender, offerIn } from './fake-machines.ts';
import { MachineKeys } from './machine-keys.ts';
import { portOf } from '../cli/port-of.ts';
import { silentLogger } from './silent-logger.ts';

/** What a machine of a test does with a run: says what it likes, and how it ended. */
export type Job = (offer: Offer, run: StartedRun) => Promise<Partial<Result>>;

export interface StartedRun {
  readonly log: (text: string) => Promise<void>;
  /** Resolves when the run is to be cancelled. */
  readonly cancelled: Promise<void>;
}

/** Meets a request before the interface sees it; true: it need not see it. */
export type Obstacle = (request: IncomingMessage, response: ServerResponse) => boolean;

export function noObstacle(): boolean {
  return false;
}

export interface ServedMachine {
  readonly id: string;
  readonly key: OpeningKey;
}

/**
 * The control plane in memory with its REST interface over plain HTTP, in the environment `default`; each machine
 * runs what it is offered by `job`.
 */
export async function startDispatch() {
  const sender = new FakeSender();
  const token = newTokenText();
  const store = openMemoryDispatchStore();
  const plane = new ControlPlane({
    store,
    clock: systemClock,
    log: silentLogger,
    random: Math.random,
    sender,
    endpoints: { create: () => Promise.resolve(), delete: () => Promise.resolve() },
    relayTokens: { mint: (path, right) => Promise.resolve(`${right} ${path}`) },
    bootstrapToken: token,
  });
  const api = createApi({
    controlPlane: plane,
    store,
    clock: systemClock,
    log: silentLogger,
    version: '1.2.3',
    publicInfo: host => ({ relaySuffix: 'test', host, ports: [443], addresses: [] }),
    echo: { echo: () => Promise.resolve({ type: 'answer', status: 200, roundTripMs: 3 }) },
  });
  await plane.keys.published();
  await plane.dispatcher.start();
  const admin = await plane.tokens.authenticate(token);
  await plane.environments.create(admin, { id: 'default' });
  const { environment, caller } = await plane.environments.enter(admin, 'default');
  const services = plane.in('default');

  /** All bodies that came, to look for what must not be in them. */
  const bodies: string[] = [];
  let obstacle: Obstacle = noObstacle;
  const server = createServer((request, response) => {
    if (obstacle(request, response)) return;
    void answer(request, response);
  });
  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(Buffer.from(chunk));
    const bytes = Buffer.concat(chunks);
    bodies.push(bytes.toString());
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    const url = new URL(request.url ?? '', 'http://127.0.0.1');
    const got = await api.handle({
      method: request.method ?? '',
      path: url.pathname,
      query: url.searchParams,
      headers: new Map(
        Object.entries(request.headers).map(([name, value]) => [name, String(value)]),
      ),
      readBody: () => Promise.resolve(new Uint8Array(bytes)),
      remoteAddress: '127.0.0.1',
      signal: gone.signal,
    });
    response.writeHead(got.status, { ...got.headers });
    const { body } = got;
    if (body === undefined || typeof body === 'string' || body instanceof Uint8Array) {
      response.end(body);
      return;
    }
    for await (const part of body) response.write(part);
    response.end();
  }
  await new Promise<void>(resolve => void server.listen(0, '127.0.0.1', resolve));
  const endpoint = `http://127.0.0.1:${portOf(server)}`;

  const jobs = new Map<string, Job>();
  let installs = 0;
  const cancels = new Map<string, () => void>();
  sender.answer = request => {
    if (request.path.startsWith('commands/')) {
      for (const [runId, cancel] of cancels) if (request.path.includes(runId)) cancel();
    } else {
      void carryOut(services, request, jobs.get(request.machineId), cancels);
    }
    return accepted(request);
  };

  return {
    endpoint,
    token,
    plane,
    services,
    bodies,
    /** Variables of a command that speaks to it. */
    env: { HALFWAY_ENDPOINT: endpoint, HALFWAY_API_TOKEN: token },
    set obstacle(meet: Obstacle) {
      obstacle = meet;
    },
    async addMachine(name: string, job?: Job): Promise<ServedMachine> {
      const keys = new MachineKeys();
      const installId = `install-${(installs += 1)}`;
      const body = keys.registration({ name, installId }, 'default');
      const { machine } = await services.registration.register(environment.value, caller, body);
      if (job !== undefined) {
        jobs.set(machine.id, job);
        await services.presence.hello(machine.id, {
          v: 1,
          type: 'hello',
          machineId: machine.id,
          installId,
          instance: 'i1',
          agentVersion: '1.0.0',
          os: 'linux',
          capacity: { unattended: 1, attended: 1 },
          sessions: [],
          labels: {},
          keys: [],
          clock: formatMoment(systemClock.wallMs()),
          journal: [],
        });
      }
      const { d = '' } = keys.encryption.export({ format: 'jwk' });
      const scalar = decodeBase64Url(d);
      if (scalar === undefined) throw new Error('a key without its scalar');
      return { id: machine.id, key: await openingKeyOf(scalar) };
    },
    async [Symbol.asyncDispose](): Promise<void> {
      api.close();
      await plane.dispatcher.stop();
      server.closeAllConnections();
      await new Promise(resolve => void server.close(resolve));
    },
  };
}
export type ServedDispatch = Awaited<ReturnType<typeof startDispatch>>;

async function carryOut(
  { reports, logs }: EnvironmentServices,
  request: MachineRequest,
  job: Job | undefined,
  cancels: Map<string, () => void>,
): Promise<void> {
  const { machineId } = request;
  const offer = offerIn(request);
  const { runId, attempt, fence } = offer;
  const about = { runId, attempt, fence };
  const cancelled = new Promise<void>(resolve => void cancels.set(runId, resolve));
  await reports.start(machineId, { ...about, instance: 'i1' });
  await reports.renew(machineId, { ...about, isLaunched: true });
  let offset = 0;
  const run: StartedRun = {
    cancelled,
    async log(text) {
      const bytes = Buffer.from(text);
      const sha256 = Buffer.from(await globalThis.crypto.subtle.digest('SHA-256', bytes)).toString(
        'hex',
      );
      await logs.append(machineId, { ...about, offset, sha256, bytes });
      offset += bytes.length;
    },
  };
  const result = await (job ?? (() => Promise.resolve({})))(offer, run);
  await reports.result(machineId, {
    v: 1,
    type: 'result',
    ...about,
    status: 'Succeeded',
    ...result,
  });
}
