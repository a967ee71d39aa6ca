import type { HttpRequest, HttpResponse } from 'uWebSockets.js';
import type { Clock } from '../base/clock.ts';
import { IdleTimer } from '../base/idle-timer.ts';
import {
  formatRuntimeError,
  formatRuntimeInformation,
  isForServiceBus,
  RUNTIME_ERROR_TYPE,
  RUNTIME_INFORMATION_TYPE,
} from '../protocol/runtime-information.ts';
import { POLL_PATH, POLL_TRANSPORT } from '../protocol/poll-session.ts';
import type { RefusalReason } from '../protocol/refusals.ts';
import { INLINE_BODY_BYTES_MAX } from '../relay/limits.ts';
import type { RequestBody } from '../relay/ports.ts';
import type { Relay } from '../relay/relay.ts';
import type { RelayedRequest } from '../relay/relayed-request.ts';
import { UwsHttpSender } from './http-sender.ts';
import { readIncoming, type Incoming, type IncomingOptions } from './incoming.ts';
import type { Outbox } from './outbox.ts';
import { openPollSession, type PollOpeningOptions } from './poll/poll-opening.ts';
import { answerPoll, type PollRouteOptions } from './poll/poll-route.ts';
import { writeRefusal } from './refusal-response.ts';
import { header } from './request-snapshot.ts';

export interface HttpRouteOptions {
  readonly relay: Relay;
  readonly clock: Clock;
  readonly outbox: Outbox;
  readonly incoming: IncomingOptions;
  readonly bodyBufferBytesMax: number;
  /** How long a request body may stand still while it is gathered. */
  readonly bodyIdleTimeoutMs: number;
  /** Switches uWebSockets.js's own time limit off: bodies may trickle, we have limits of our own. */
  readonly disarmTimeout: (response: HttpResponse) => void;
  /** `/$healthz` and the like; false: nothing of ours has this path. */
  readonly reserved: (firstSegment: string, response: HttpResponse, isHead: boolean) => boolean;
  readonly poll: PollRouteOptions & PollOpeningOptions;
}

/** All plain HTTP: senders' requests, health, and management reads. */
export function httpRoute(
  options: HttpRouteOptions,
): (response: HttpResponse, request: HttpRequest) => void {
  const { relay } = options;
  return (response, request) => {
    const incoming = readIncoming(response, request, options.incoming);
    const isHead = incoming.method === 'HEAD';
    const { path, headers } = incoming.request;
    const isOfPortal = incoming.fault === 'portal-host';
    if (path.kind === 'reserved' && path.segments[0] === POLL_PATH && !isOfPortal) {
      answerPoll(options.poll, response, { ...incoming, bodyLength: bodyLength(incoming) });
      return;
    }
    if (path.kind === 'reserved' && options.reserved(path.segments[0] ?? '', response, isHead)) {
      return;
    }
    const refuse: Refuse = (reason, detail) =>
      writeRefusal(response, relay.refuse(reason, incoming.request, 'http', detail), {
        closeConnection: true,
        isHead,
      });
    if (incoming.fault === 'handshake-malformed') refuse('request-malformed', 'Host');
    else if (incoming.fault !== undefined) refuse(incoming.fault);
    else if (path.kind === 'websocket') openPoll(options, response, incoming, refuse);
    else if (path.kind === 'reserved') refuse('endpoint-unknown');
    else if (incoming.method === 'CONNECT') refuse('method-unsupported');
    else if (header(headers, 'upgrade') !== undefined) refuse('upgrade-outside-hc');
    else if (isForServiceBus(headers)) describe(relay, response, incoming);
    else relayRequest(options, response, incoming);
  };
}

type Refuse = (reason: RefusalReason, detail?: string) => void;

/** What is a WebSocket handshake elsewhere, for those that cannot have one. */
function openPoll(
  options: HttpRouteOptions,
  response: HttpResponse,
  incoming: Incoming,
  refuse: Refuse,
): void {
  const length = bodyLength(incoming);
  if (incoming.request.query.transport !== POLL_TRANSPORT) refuse('not-websocket');
  else if (incoming.method !== 'POST') refuse('method-unsupported');
  // Of a body whose length is not said none is expected either.
  else if (length !== 0 && length !== Infinity)
    refuse('request-malformed', 'a body is not expected');
  else openPollSession(options.poll, response, incoming.request);
}

function relayRequest(options: HttpRouteOptions, response: HttpResponse, incoming: Incoming): void {
  const { relay, outbox } = options;
  const admitted = relay.http(incoming.request, incoming.method);
  const isHead = incoming.method === 'HEAD';
  const length = bodyLength(incoming);
  if ('reason' in admitted) {
    writeRefusal(response, admitted, { closeConnection: length !== 0, isHead });
    return;
  }
  if (length === undefined) {
    const refused = relay.refuse(
      'request-malformed',
      incoming.request,
      'http',
      'Content-Length or Transfer-Encoding',
    );
    writeRefusal(response, refused, { closeConnection: true, isHead });
    return;
  }
  let relayed: RelayedRequest | undefined;
  let stalled: IdleTimer | undefined;
  const sender = new UwsHttpSender(response, outbox, {
    isHead,
    bufferBytesMax: options.bodyBufferBytesMax,
    disarmTimeout: () => options.disarmTimeout(response),
    onAborted: () => {
      stalled?.stop();
      relayed?.senderGone();
    },
  });
  if (length === 0) {
    relayed = admitted.relay(sender, { kind: 'none' });
    return;
  }
  if (length > INLINE_BODY_BYTES_MAX) {
    sender.takeBody();
    relayed = admitted.relay(sender, { kind: 'stream', stream: sender });
    return;
  }
  sender.takeBody(() => {
    stalled = new IdleTimer(options.clock, options.bodyIdleTimeoutMs, () =>
      sender.refuse(relay.refuse('body-stalled', incoming.request, 'http')),
    );
  });
  collect(sender, length, {
    progress: () => stalled?.touch(),
    done: bytes => {
      stalled?.stop();
      if (!sender.isOver) relayed = admitted.relay(sender, { kind: 'whole', bytes });
    },
  });
}

/** Gathers a body of a known, small length. */
function collect(
  source: RequestBody,
  length: number,
  on: { readonly progress: () => void; readonly done: (body: Uint8Array) => void },
): void {
  // Filled to the last byte, or nobody sees it.
  const body = Buffer.allocUnsafe(length);
  let filled = 0;
  source.read((chunk, isLast) => {
    body.set(chunk, filled);
    filled += chunk.length;
    on.progress();
    if (isLast) on.done(body);
  });
  source.resume();
}

const LENGTH = /^\d{1,15}$/;

/**
 * 0: no body; infinite: its length is not known beforehand; undefined: framing that uWebSockets.js
 * takes for something else than it says, or refuses only after this route has had its turn.
 */
function bodyLength({ request }: Incoming): number | undefined {
  let length: number | undefined = 0;
  let fields = 0;
  for (const [name, value] of request.headers) {
    if (name === 'content-length') length = LENGTH.test(value) ? Number(value) : undefined;
    else if (name === 'transfer-encoding') length = isChunked(value) ? Infinity : undefined;
    else continue;
    fields += 1;
  }
  return fields > 1 ? undefined : length;
}

function isChunked(encoding: string): boolean {
  return encoding.toLowerCase() === 'chunked';
}

/** `GetRuntimeInformationAsync` of .NET. Such a request is never relayed. Source: section 6.5. */
function describe(relay: Relay, response: HttpResponse, { request }: Incoming): void {
  const described = relay.describe(request);
  if ('reason' in described) {
    response
      .writeStatus(`${described.status} ${described.text}`)
      .writeHeader('Content-Type', RUNTIME_ERROR_TYPE)
      .end(formatRuntimeError(described.status, described.text), true);
    return;
  }
  response.writeHeader('Content-Type', RUNTIME_INFORMATION_TYPE).end(
    formatRuntimeInformation({
      createdAtMs: described.createdAtMs,
      updatedAtMs: described.updatedAtMs,
      requiresClientAuthorization: described.requiresClientAuthorization,
      userMetadata: described.userMetadata,
      listenerCount: described.listeners.length,
    }),
    true,
  );
}
