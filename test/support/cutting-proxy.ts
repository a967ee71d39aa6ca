import { once } from 'node:events';
import {
  Agent,
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http';
import { below, seeded } from './seeded.ts';

/** What is done to a request. */
export const MISHAPS = [
  'cut-before',
  'cut-in-request',
  'cut-before-response',
  'cut-in-response',
  'repeated-at-once',
  'repeated-later',
  'arrives-after-cut',
  'delayed',
  'response-delayed',
  'answered-by-proxy',
  'page-for-answer',
  'truncated-unseen',
] as const;
export type Mishap = (typeof MISHAPS)[number];

export interface CuttingProxy extends AsyncDisposable {
  readonly port: number;
  /** How often each was done. */
  readonly done: ReadonlyMap<Mishap | 'nothing', number>;
  /** Share of requests to which something happens, from 0 to 1. */
  share: number;
}

interface Asked {
  readonly method: string;
  readonly target: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
}

interface Answered {
  readonly status: number;
  readonly reason: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
}

/**
 * An HTTP intermediary that fails in every way that one can, but for opening a session, which must not
 * be repeated. Each request goes to one of `targetPorts` by chance. What happens depends on the seed
 * and on the number of the request.
 */
export async function startCuttingProxy(options: {
  readonly targetPorts: readonly number[];
  readonly seed: number;
  readonly share: number;
}): Promise<CuttingProxy> {
  const random = seeded(options.seed);
  const agent = new Agent({ keepAlive: true });
  const done = new Map<Mishap | 'nothing', number>();
  const open = new Set<ReturnType<typeof setTimeout>>();
  const later = (task: () => void): void => {
    const timer = setTimeout(
      () => {
        open.delete(timer);
        task();
      },
      below(random, 150),
    );
    open.add(timer);
  };
  const port = (): number => options.targetPorts[below(random, options.targetPorts.length)] ?? 0;
  const forward = (asked: Asked): Promise<Answered> => send(asked, { port: port(), agent });

  const proxy = { share: options.share };
  const server = createServer((request, response) => {
    request.on('error', () => undefined);
    response.on('error', () => undefined);
    void read(request).then(asked => {
      if (asked === undefined) return;
      const isOpening = asked.target.includes('sb-hc-transport=poll');
      const mishap =
        isOpening || random() >= proxy.share
          ? 'nothing'
          : (MISHAPS[below(random, MISHAPS.length)] ?? 'nothing');
      done.set(mishap, (done.get(mishap) ?? 0) + 1);
      const cut = cutterOf(response);
      const pass = (): void => void forward(asked).then(answer => give(response, answer), cut);
      switch (mishap) {
        case 'nothing':
          return pass();
        case 'cut-before':
          return cut();
        case 'cut-in-request':
          cut();
          return sendPart(asked, { port: port(), agent }, below(random, asked.body.length + 1));
        case 'cut-before-response':
          return void forward(asked).then(cut, cut);
        case 'cut-in-response':
          return void forward(asked).then(answer => {
            response.writeHead(answer.status, answer.reason, answer.headers);
            response.flushHeaders();
            response.write(answer.body.subarray(0, below(random, answer.body.length)), cut);
          }, cut);
        case 'repeated-at-once': {
          const both = [forward(asked), forward(asked)];
          const chosen = both[below(random, 2)] ?? forward(asked);
          both.forEach(each => void each.catch(() => undefined));
          return void chosen.then(answer => give(response, answer), cut);
        }
        case 'repeated-later':
          later(() => void forward(asked).catch(() => undefined));
          return pass();
        case 'arrives-after-cut':
          later(() => void forward(asked).catch(() => undefined));
          return cut();
        case 'delayed':
          return later(pass);
        case 'response-delayed':
          return void forward(asked).then(answer => later(() => give(response, answer)), cut);
        case 'answered-by-proxy': {
          const status =
            [408, 429, 500, 502, 503, 504, 404, 410, 400, 413][below(random, 10)] ?? 502;
          response.writeHead(status, 'Of The Proxy', { 'content-type': 'text/html' });
          return void response.end('<html><body>Something went wrong</body></html>');
        }
        case 'page-for-answer':
          response.writeHead(200, 'OK', { 'content-type': 'text/html' });
          return void response.end('<html><body>Please log in</body></html>');
        case 'truncated-unseen':
          // As by a proxy that ends the body with the connection.
          return void forward(asked).then(answer => {
            const { 'content-length': _length, ...headers } = answer.headers;
            response.useChunkedEncodingByDefault = false;
            response.writeHead(answer.status, answer.reason, { ...headers, connection: 'close' });
            response.end(answer.body.subarray(0, below(random, answer.body.length + 1)));
          }, cut);
      }
    });
  });
  server.keepAliveTimeout = 0;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return Object.assign(proxy, {
    port: address.port,
    done,
    async [Symbol.asyncDispose]() {
      for (const timer of open) clearTimeout(timer);
      agent.destroy();
      server.closeAllConnections();
      await new Promise(resolve => void server.close(resolve));
    },
  });
}

/** A whole request; undefined when its sender did not finish it. */
async function read(request: IncomingMessage): Promise<Asked | undefined> {
  const parts: Buffer[] = [];
  try {
    for await (const part of request) if (Buffer.isBuffer(part)) parts.push(part);
  } catch {
    return undefined;
  }
  const { method = 'GET', url = '/', headers } = request;
  return { method, target: url, headers, body: Buffer.concat(parts) };
}

function begin(
  asked: Asked,
  to: { readonly port: number; readonly agent: Agent },
): ReturnType<typeof httpRequest> {
  const { method, target: path, headers } = asked;
  return httpRequest({ host: '127.0.0.1', port: to.port, agent: to.agent, method, path, headers });
}

async function send(
  asked: Asked,
  to: { readonly port: number; readonly agent: Agent },
): Promise<Answered> {
  return new Promise((resolve, reject) => {
    const request = begin(asked, to);
    request.on('error', reject);
    request.on('response', response => {
      const parts: Buffer[] = [];
      response.on('data', (part: Buffer) => parts.push(part));
      response.on('error', reject);
      response.on('end', () => {
        const { statusCode: status = 0, statusMessage: reason = '', headers } = response;
        resolve({ status, reason, headers, body: Buffer.concat(parts) });
      });
    });
    request.end(asked.body);
  });
}

/** Sends the beginning of a body, and leaves. */
function sendPart(
  asked: Asked,
  to: { readonly port: number; readonly agent: Agent },
  bytes: number,
): void {
  const request = begin(asked, to);
  request.on('error', () => undefined);
  request.on('response', response => response.resume());
  request.write(asked.body.subarray(0, bytes), () => request.destroy());
}

function give(response: ServerResponse, { status, reason, headers, body }: Answered): void {
  response.writeHead(status, reason, headers);
  response.end(body);
}

function cutterOf(response: ServerResponse): () => void {
  return () => void response.socket?.destroy();
}
