import { randomUUID } from 'node:crypto';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { fixedToken, HybridConnectionListener } from '../../src/client/client.ts';
import { openDetached, verifyingKeyOf } from '../../src/crypto/es256.ts';
import { offerSchema, parseMessage, type Offer } from '../../src/jobs/messages.ts';
import { MachineKeys } from './machine-keys.ts';

/** What a caller of the REST interface got. */
export interface RestAnswer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
}

/** Speaks to a server's REST interface with a token. */
export class RestCaller {
  readonly origin: string;
  /** Authority of its certificate, in PEM. */
  readonly ca: string | undefined;
  readonly #token: string;

  constructor(origin: string, token: string, ca?: string) {
    this.origin = origin;
    this.ca = ca;
    this.#token = token;
  }

  async call(
    method: string,
    path: string,
    body?: unknown,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<RestAnswer> {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const url = new URL(`${this.origin}/$api/v1${path}`);
    const request = (url.protocol === 'https:' ? httpsRequest : httpRequest)(url, {
      method,
      ...(this.ca === undefined ? {} : { ca: this.ca }),
      headers: {
        authorization: `Bearer ${this.#token}`,
        ...headers,
        ...(text === undefined
          ? {}
          : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }),
      },
    });
    const answered = new Promise<IncomingMessage>((resolve, reject) => {
      request.once('response', resolve).once('error', reject);
    });
    request.end(text);
    const response = await answered;
    const chunks: Buffer[] = [];
    for await (const chunk of response) chunks.push(Buffer.from(chunk));
    const answer = Buffer.concat(chunks).toString();
    const json: unknown = answer === '' ? {} : JSON.parse(answer);
    return { status: response.statusCode ?? 0, body: isObject(json) ? json : {} };
  }

  /** As `call`; throws when the answer is a no. */
  async get(method: string, path: string, body?: unknown): Promise<RestAnswer['body']> {
    const answer = await this.call(method, path, body);
    if (answer.status < 400) return answer.body;
    throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  }
}

/** Whatever a machine does with an offer that it has accepted. */
export type Work = (machine: RelayMachine, offer: Offer) => Promise<void>;

/**
 * A desktop as the server sees it: registers by REST, listens through the relay with the library, takes every offer and
 * does as the test says.
 */
export class RelayMachine implements AsyncDisposable {
  readonly id: string;
  /** Where it listens. */
  readonly path: string;
  readonly offers: Offer[] = [];
  readonly instance = randomUUID();
  readonly keys: MachineKeys;
  readonly #installId: string;
  readonly #dispatchKey: unknown;
  #listener: HybridConnectionListener | undefined;
  /** By which it reaches the server; several servers are one. */
  #rest: RestCaller;
  work: Work = async (machine, offer) => machine.run(offer);

  private constructor(of: {
    readonly registered: RestAnswer['body'];
    readonly keys: MachineKeys;
    readonly installId: string;
    readonly admin: RestCaller;
  }) {
    this.id = String(of.registered['machineId']);
    this.path = String(of.registered['relayPath']);
    const [key]: readonly unknown[] = Array.isArray(of.registered['dispatchKeys'])
      ? of.registered['dispatchKeys']
      : [];
    this.#dispatchKey = key;
    this.keys = of.keys;
    this.#installId = of.installId;
    this.#rest = new RestCaller(of.admin.origin, '', of.admin.ca);
  }

  /** Registers with somebody's token in the environment `dev`, which must be there. */
  static async register(admin: RestCaller, name = 'desk'): Promise<RelayMachine> {
    const keys = new MachineKeys();
    const installId = randomUUID();
    const body = keys.registration({ name, installId });
    const registered = await admin.get('POST', '/environments/dev/machines:register', body);
    return new RelayMachine({ registered, keys, installId, admin });
  }

  /** A token, a listener at one of the servers, and its first hello. */
  async connect(origin = this.#rest.origin): Promise<void> {
    const { accessToken, listenToken } = await this.tokens(origin);
    const { ca } = this.#rest;
    this.#rest = new RestCaller(origin, accessToken, ca);
    const listener = new HybridConnectionListener(
      {
        endpoint: origin,
        path: this.path,
        tokenProvider: fixedToken(listenToken),
        ...(ca === undefined ? {} : { ca }),
      },
      {
        onRequest: async ({ target, headers, body }) => {
          if (target.endsWith('/echo')) return { status: 200, body: 'here' };
          const chunks: Buffer[] = [];
          for await (const chunk of body) chunks.push(Buffer.from(chunk));
          const text = Buffer.concat(chunks).toString();
          const parsed = parseMessage(offerSchema, text);
          if (!('message' in parsed)) return { status: 202, body: '{}' };
          const offer = parsed.message;
          if (!this.#isSigned(String(headers['Halfway-Signature']), text)) return { status: 403 };
          this.offers.push(offer);
          const { runId, attempt, fence } = offer;
          setImmediate(() => void this.work(this, offer).catch(() => undefined));
          const accept = { v: 1, type: 'accept', runId, attempt, fence };
          return { status: 200, body: JSON.stringify(accept) };
        },
      },
    );
    this.#listener = listener;
    await listener.open();
    await this.hello();
  }

  get listener(): HybridConnectionListener {
    if (this.#listener === undefined) throw new Error('The machine is not connected');
    return this.#listener;
  }

  async tokens(
    origin: string,
  ): Promise<{ readonly accessToken: string; readonly listenToken: string }> {
    const assertion = this.keys.assertion(this.id, Date.now());
    const path = `/environments/dev/machines/${this.id}/token`;
    const given = await new RestCaller(origin, '', this.#rest.ca).get('POST', path, { assertion });
    return { accessToken: String(given['accessToken']), listenToken: String(given['listenToken']) };
  }

  async hello(): Promise<void> {
    await this.#rest.get('POST', '/environments/dev/agent/hello', {
      v: 1,
      type: 'hello',
      machineId: this.id,
      installId: this.#installId,
      instance: this.instance,
      agentVersion: '1.0.0',
      os: 'linux',
      capacity: { unattended: 10, attended: 1 },
      sessions: [],
      labels: {},
      keys: [],
      clock: new Date().toISOString(),
      transport: 'websocket',
      journal: [],
    });
  }

  /** The whole of a short run. */
  async run(offer: Offer): Promise<void> {
    await this.start(offer);
    await this.succeed(offer);
  }

  async start({ runId, attempt, fence }: Offer): Promise<void> {
    const path = `/environments/dev/agent/runs/${runId}/attempts/${attempt}/start`;
    await this.#rest.get('PUT', path, { fence, instance: this.instance, agentVersion: '1.0.0' });
  }

  async succeed({ runId, attempt, fence }: Offer): Promise<void> {
    const path = `/environments/dev/agent/runs/${runId}/attempts/${attempt}/result`;
    const result = { v: 1, type: 'result', runId, attempt, fence, status: 'Succeeded' };
    await this.#rest.get('PUT', path, { ...result, exitCode: 0 });
  }

  async disconnect(): Promise<void> {
    await this.#listener?.close({ timeoutMs: 0 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.disconnect();
  }

  #isSigned(signature: string, body: string): boolean {
    const jwk = this.#dispatchKey;
    if (!isObject(jwk)) return false;
    const [x, y] = [jwk['x'], jwk['y']].map(part => Buffer.from(String(part), 'base64url'));
    const point = Buffer.concat([Buffer.of(4), x ?? Buffer.of(), y ?? Buffer.of()]);
    const key = verifyingKeyOf(point.toString('base64url'));
    return key !== undefined && openDetached(signature, body, () => key) !== undefined;
  }
}

/** A connection of a machine without credentials, and what a run on it says of itself. */
export async function connectionTo(admin: RestCaller, machineId: string): Promise<string> {
  const made = await admin.get('POST', '/environments/dev/connections', {
    id: randomUUID(),
    name: `at ${machineId}`,
    kind: 'none',
    target: { kind: 'machine', id: machineId },
  });
  return String(made['id']);
}

export async function startRun(
  admin: RestCaller,
  connectionId: string,
  more: object = {},
): Promise<string> {
  const job = { ref: 'test', kind: 'command', command: ['true'] };
  const run = { connectionId, mode: 'attended', job, ...more };
  return String((await admin.get('POST', '/environments/dev/runs', run))['id']);
}

export async function stateOf(admin: RestCaller, runId: string): Promise<string> {
  return String((await admin.get('GET', `/environments/dev/runs/${runId}`))['state']);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
