import { expect } from 'vitest';
import { createApi, type Api } from '../../src/api/api.ts';
import { BodyFault, type ApiRequest, type ApiResponse } from '../../src/api/api-request.ts';
import type { EchoAnswer } from '../../src/api/ports.ts';
import { newTokenText } from '../../src/dispatch/api-tokens.ts';
import { ControlPlane } from '../../src/dispatch/control-plane.ts';
import { formatMoment } from '../../src/dispatch/moments.ts';
import type { DispatchStore } from '../../src/store/dispatch-store.ts';
import { openMemoryDispatchStore } from '../../src/store/memory-dispatch-store.ts';
import { DISPATCH_START_MS } from '../support/dispatch.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { FakeSender } from '../support/fake-machines.ts';
import { MachineKeys } from '../support/machine-keys.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { undocumented } from './documented.ts';

export interface Sent {
  readonly headers?: Readonly<Record<string, string>>;
  /** Objects are sent as JSON; texts and bytes as they are, without a type. */
  readonly body?: unknown;
  readonly token?: string | undefined;
  readonly signal?: AbortSignal;
}

export interface Got {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** Of JSON; undefined: there was no body. */
  readonly json: unknown;
  readonly text: string;
}

export const E = '/$api/v1/environments/dev';

/** A whole control plane in memory behind the REST interface, without HTTP; time is the test's. */
export async function apiBench(
  store: DispatchStore = openMemoryDispatchStore(),
  log: typeof silentLogger = silentLogger,
) {
  const clock = new FakeClock(DISPATCH_START_MS);
  const sender = new FakeSender();
  const token = newTokenText();
  const plane = new ControlPlane({
    store,
    clock,
    log,
    random: () => 0.5,
    sender,
    endpoints: { create: () => Promise.resolve(), delete: () => Promise.resolve() },
    relayTokens: { mint: (path, right) => Promise.resolve(`${right} ${path}`) },
    bootstrapToken: token,
  });
  const machine: { said: EchoAnswer } = { said: { type: 'answer', status: 200, roundTripMs: 3 } };
  const api = createApi({
    controlPlane: plane,
    store,
    clock,
    log,
    version: '1.2.3',
    publicInfo: host => ({ relaySuffix: 'test', host, ports: [443], addresses: [] }),
    echo: { echo: () => Promise.resolve(machine.said) },
  });
  const call = (method: string, target: string, sent: Sent = {}): Promise<Got> =>
    send(api, method, target, { token, ...sent });
  const bench = { api, plane, clock, sender, store, token, call, machine, log };
  await call('POST', '/$api/v1/environments', { body: { id: 'dev' } });
  return bench;
}
export type ApiBench = Awaited<ReturnType<typeof apiBench>>;

/** One request, as a transport would hand it in; its answer must be one that the OpenAPI document has. */
export async function send(
  api: Pick<Api, 'handle'>,
  method: string,
  target: string,
  sent: Sent = {},
): Promise<Got> {
  const answer = await got(await api.handle(requestOf(method, target, sent)));
  expect(undocumented(method, target.split('?')[0] ?? '', answer)).toEqual([]);
  return answer;
}

export function requestOf(
  method: string,
  target: string,
  { headers = {}, body, token, signal }: Sent = {},
): ApiRequest {
  const [path = '', query = ''] = target.split('?');
  const isJson = body !== undefined && typeof body !== 'string' && !(body instanceof Uint8Array);
  const text = isJson ? JSON.stringify(body) : body;
  const bytes =
    text instanceof Uint8Array ? text : Buffer.from(typeof text === 'string' ? text : '');
  const all = {
    host: 'relay.test',
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    ...(isJson ? { 'content-type': 'application/json' } : {}),
    ...(body === undefined ? {} : { 'content-length': String(bytes.length) }),
    ...headers,
  };
  return {
    method,
    path,
    query: new URLSearchParams(query),
    headers: new Map(Object.entries(all)),
    readBody: bytesMax =>
      bytes.length > bytesMax
        ? Promise.reject(new BodyFault('too-large'))
        : Promise.resolve(new Uint8Array(bytes)),
    remoteAddress: '192.0.2.7',
    signal: signal ?? new AbortController().signal,
  };
}

export async function got({ status, headers, body }: ApiResponse): Promise<Got> {
  const parts: Uint8Array[] = [];
  if (typeof body === 'string' || body instanceof Uint8Array) parts.push(Buffer.from(body));
  else if (body !== undefined) for await (const part of body) parts.push(part);
  const text = Buffer.concat(parts).toString();
  const isJson = headers['Content-Type']?.includes('json') === true;
  const json: unknown = isJson ? JSON.parse(text) : undefined;
  return { status, headers, text, json };
}

/** Members of a JSON object. */
export function fields(value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null) throw new Error(`no object: ${String(value)}`);
  return Object.fromEntries(Object.entries(value));
}

export function textField(value: unknown, name: string): string {
  const text = fields(value)[name];
  if (typeof text !== 'string') throw new Error(`${name} is no text: ${JSON.stringify(value)}`);
  return text;
}

export interface RegisteredMachine {
  readonly id: string;
  readonly keys: MachineKeys;
  /** Its access token. */
  readonly token: string;
  readonly kid: string;
  hello(change?: object): Promise<Got>;
}

/** Registers a machine by REST, as the machine service does. */
export async function addMachine(bench: ApiBench, change: object = {}): Promise<RegisteredMachine> {
  const { call, clock } = bench;
  const keys = new MachineKeys();
  const registered = await call('POST', `${E}/machines:register`, {
    body: keys.registration(change),
  });
  const id = textField(registered.json, 'machineId');
  const assertion = keys.assertion(id, clock.wallMs());
  const tokens = await call('POST', `${E}/machines/${id}/token`, {
    body: { assertion },
    token: undefined,
  });
  const token = textField(tokens.json, 'accessToken');
  const key = await call('GET', `${E}/machines/${id}/public-key`);
  const installId = 'installId' in change ? change.installId : 'install-1';
  return {
    id,
    keys,
    token,
    kid: textField(key.json, 'kid'),
    hello: more =>
      call('POST', `${E}/agent/hello`, {
        token,
        body: {
          v: 1,
          type: 'hello',
          machineId: id,
          installId,
          instance: 'i1',
          agentVersion: '1.0.0',
          os: 'linux',
          capacity: { unattended: 1, attended: 1 },
          sessions: [],
          labels: {},
          keys: [],
          clock: formatMoment(clock.wallMs()),
          journal: [],
          ...more,
        },
      }),
  };
}
