import { randomUUID } from 'node:crypto';
import type { HttpRequest, HttpResponse, TemplatedApp } from 'uWebSockets.js';
import { FrameError, refusalOf, refusalResponse } from '../api/api-error.ts';
import type { ApiHandler, ApiRequest, ApiResponse } from '../api/api-request.ts';
import type { Clock } from '../base/clock.ts';
import { IdleTimer } from '../base/idle-timer.ts';
import { STATUS_PHRASES } from '../protocol/status-phrases.ts';
import type { ResponseHead } from '../relay/ports.ts';
import { HeldBodies, type BodyLimits } from './api-bodies.ts';
import { UwsHttpSender } from './http-sender.ts';
import type { Outbox } from './outbox.ts';
import { peerOf, type PeerSources } from './peers.ts';
import { snapshot, type RequestSnapshot } from './request-snapshot.ts';

export interface ApiRoutesOptions {
  readonly handle: ApiHandler;
  readonly clock: Clock;
  readonly outbox: Outbox;
  readonly peers: PeerSources;
  /** Switches uWebSockets.js's own time limit off: there are limits here. */
  readonly disarmTimeout: (response: HttpResponse) => void;
  readonly reportBug: (bug: unknown) => void;
  readonly limits?: Partial<ApiLimits>;
}

export interface ApiLimits extends BodyLimits {
  /** Requests that have not been answered yet, those that are held included. */
  readonly requestsMax: number;
}

const LIMITS: ApiLimits = {
  requestsMax: 8_192,
  heldBytesMax: 256 * 1024 * 1024,
  bodyIdleMs: 30_000,
  bodyBytesPerSecondMin: 16 * 1024,
};
/** Of a body that nobody has asked for yet; then its socket is not read. */
const EARLY_BODY_BYTES_MAX = 64 * 1024;
/** A client that takes nothing of an answer for so long has lost interest. */
const READER_IDLE_MS = 60_000;

/** What is under way, for metrics. */
export interface ApiTraffic {
  /** Requests now. */
  readonly requests: number;
  /** Bytes of bodies that are held now. */
  readonly heldBytes: number;
  /** Requests that were refused at a limit, since the start. */
  readonly refused: number;
}

/** Adds `/$api` and all below it. Call it before the catch-all of the port is added. */
export function addApiRoutes(app: TemplatedApp, options: ApiRoutesOptions): ApiTraffic {
  const limits = { ...LIMITS, ...options.limits };
  const bodies = new HeldBodies(options.clock, limits);
  const underWay = new Set<AbortController>();
  let refused = 0;
  const route = (response: HttpResponse, request: HttpRequest): void => {
    const head = snapshot(request);
    if (!isFramedClearly(head)) {
      // Whoever is before us may see another request behind this one: the connection ends here.
      response.writeStatus('400 Bad Request').end('', true);
      return;
    }
    const isHead = head.method === 'HEAD';
    const leaving = new AbortController();
    const sender = new UwsHttpSender(response, options.outbox, {
      isHead,
      bufferBytesMax: EARLY_BODY_BYTES_MAX,
      disarmTimeout: () => options.disarmTimeout(response),
      onAborted: () => leaving.abort(),
    });
    // Whatever the head says: only so does uWebSockets.js tell when a body is there after all.
    sender.takeBody();
    if (underWay.size >= limits.requestsMax) {
      refused += 1;
      respond(sender, overloaded(), isHead);
      return;
    }
    underWay.add(leaving);
    answer(options, head, { response, sender, leaving, bodies })
      .catch(options.reportBug)
      .finally(() => {
        underWay.delete(leaving);
      });
  };
  app.any('/$api', route);
  app.any('/$api/*', route);
  return {
    get requests() {
      return underWay.size;
    },
    get heldBytes() {
      return bodies.bytes;
    },
    get refused() {
      return refused + bodies.refused;
    },
  };
}

async function answer(
  options: ApiRoutesOptions,
  head: RequestSnapshot,
  of: {
    readonly response: HttpResponse;
    readonly sender: UwsHttpSender;
    readonly leaving: AbortController;
    readonly bodies: HeldBodies;
  },
): Promise<void> {
  const { sender, leaving, bodies } = of;
  const body = bodies.bodyOf(sender, leaving.signal);
  const request: ApiRequest = {
    method: head.method,
    path: head.url,
    query: new URLSearchParams(head.query),
    headers: joined(head),
    readBody: bytesMax => body.read(bytesMax),
    remoteAddress: peerOf(of.response, head.headers, options.peers).remote.address,
    signal: leaving.signal,
  };
  const response = await options.handle(request);
  body.release();
  const isHead = head.method === 'HEAD';
  if (sender.isOver) return;
  if (isStream(response.body) && !isHead) {
    const { signal } = leaving;
    await stream(sender, response, response.body, { clock: options.clock, signal });
  } else respond(sender, response, isHead);
}

function respond(
  sender: UwsHttpSender,
  { status, headers, body }: ApiResponse,
  isHead: boolean,
): void {
  const bytes = isStream(body) || body === undefined ? new Uint8Array() : Buffer.from(body);
  const bodyless = isHead || status === 204;
  const length = isStream(body) ? {} : { contentLength: bytes.length };
  sender.respond({ ...headOf(status, headers), bodyless, ...length }, bytes);
}

const NOTHING = (): void => undefined;

/** Takes the next part when the client has taken the last. */
async function stream(
  sender: UwsHttpSender,
  { status, headers }: ApiResponse,
  parts: AsyncIterable<Uint8Array>,
  about: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<void> {
  let goOn = NOTHING;
  const timer = new IdleTimer(about.clock, READER_IDLE_MS, () => {
    sender.abort();
    goOn();
  });
  about.signal.addEventListener('abort', () => goOn(), { once: true });
  sender.start({ ...headOf(status, headers), bodyless: false }, () => goOn());
  try {
    for await (const part of parts) {
      if (sender.isOver) return;
      const isTaken = new Promise<void>(resolve => {
        goOn = resolve;
      });
      if (!sender.write(part)) await isTaken;
      timer.touch();
    }
    if (!sender.isOver) sender.end();
  } catch (error) {
    // Half an answer must not look like a whole one.
    sender.abort();
    throw error;
  } finally {
    timer.stop();
  }
}

function headOf(status: number, headers: ApiResponse['headers']): Omit<ResponseHead, 'bodyless'> {
  return {
    status,
    reasonPhrase: STATUS_PHRASES[status] ?? '',
    headers: [
      ['Cache-Control', 'no-store'],
      ['X-Content-Type-Options', 'nosniff'],
      ...Object.entries(headers),
    ],
  };
}

/** Before anything of the request is looked at. */
function overloaded(): ApiResponse {
  return refusalResponse(refusalOf(new FrameError('Overloaded')), randomUUID());
}

/** One field says where the body ends, in a way that nobody reads differently. */
function isFramedClearly({ headers }: RequestSnapshot): boolean {
  const framing = headers.filter(
    ([name]) => name === 'content-length' || name === 'transfer-encoding',
  );
  if (framing.length > 1) return false;
  return framing.every(([name, value]) =>
    name === 'content-length' ? /^\d{1,15}$/.test(value) : value.toLowerCase() === 'chunked',
  );
}

function joined({ headers }: RequestSnapshot): ReadonlyMap<string, string> {
  const all = new Map<string, string>();
  for (const [name, value] of headers) {
    const before = all.get(name);
    all.set(name, before === undefined ? value : `${before}, ${value}`);
  }
  return all;
}

function isStream(body: ApiResponse['body']): body is AsyncIterable<Uint8Array> {
  return typeof body === 'object' && Symbol.asyncIterator in body;
}
