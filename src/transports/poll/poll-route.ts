import type { HttpResponse } from 'uWebSockets.js';
import { BATCH_HEADER_BYTES, parsePollBatch } from '../../protocol/poll-frames.ts';
import {
  formatPollProgress,
  isPollSessionId,
  parsePollQuery,
  POLL_PATH,
  type PollSessionId,
} from '../../protocol/poll-session.ts';
import type { PollDoor, PollRefused, PollsElsewhere } from '../../relay/poll-door.ts';
import type { RelayRequest } from '../../relay/ports.ts';
import type { Relay } from '../../relay/relay.ts';
import { findDoor } from './poll-doors.ts';
import { PollExchange, type PollExchangeOptions } from './poll-exchange.ts';
import { POLL_BATCH_BYTES_MAX, type PollSessions } from './poll-sessions.ts';

export interface PollRouteOptions extends PollExchangeOptions {
  readonly relay: Relay;
  readonly sessions: PollSessions;
  /** Undefined: this node is alone. */
  readonly elsewhere: PollsElsewhere | undefined;
}

/** A request to `/$poll/…` as it was read. */
export interface PollRequest {
  readonly method: string;
  readonly request: RelayRequest;
  /** 0: none; infinite: not known beforehand; undefined: cannot be told. */
  readonly bodyLength: number | undefined;
}

/** `GET`, `POST` and `DELETE` of `/$poll/{session}`. */
export function answerPoll(
  options: PollRouteOptions,
  response: HttpResponse,
  incoming: PollRequest,
): void {
  const { method, bodyLength } = incoming;
  const exchange = new PollExchange(response, options, {
    isHead: method === 'HEAD',
    hasBody: bodyLength !== 0,
  });
  const refuse = ({ reason, detail, progress }: PollRefused): void =>
    exchange.refuse(options.relay.refuse(reason, incoming.request, 'poll', detail), progress);

  if (method !== 'GET' && method !== 'POST' && method !== 'DELETE') {
    refuse({ reason: 'method-unsupported' });
    return;
  }
  const id = sessionOf(incoming.request);
  if (id === undefined) {
    refuse({ reason: 'session-unknown' });
    return;
  }
  const found = findDoor(id, options.sessions, options.elsewhere);
  if ('reason' in found) {
    refuse(found);
    return;
  }
  const { door } = found;
  if (method === 'DELETE') {
    exchange.later(() =>
      door.end(id, answer => {
        if (answer === 'ended') exchange.noContent();
        else refuse(answer);
      }),
    );
  } else if (method === 'GET') {
    poll(exchange, { door, id }, incoming.request.query.userQuery, refuse);
  } else {
    post(exchange, { door, id }, bodyLength, refuse);
  }
}

type Refuse = (refusal: PollRefused) => void;

function poll(
  exchange: PollExchange,
  about: { readonly door: PollDoor; readonly id: PollSessionId },
  rawQuery: string,
  refuse: Refuse,
): void {
  const question = parsePollQuery(rawQuery);
  if (typeof question === 'string') {
    refuse({ reason: 'poll-malformed', detail: question });
    return;
  }
  const bytesMax = POLL_BATCH_BYTES_MAX - BATCH_HEADER_BYTES;
  exchange.later(() => {
    exchange.onAborted = about.door.poll(about.id, { ...question, bytesMax }, answer => {
      if ('reason' in answer) refuse(answer);
      else exchange.batch(answer);
    });
  });
}

function post(
  exchange: PollExchange,
  about: { readonly door: PollDoor; readonly id: PollSessionId },
  bodyLength: number | undefined,
  refuse: Refuse,
): void {
  if (bodyLength === undefined) {
    refuse({ reason: 'poll-malformed', detail: 'Content-Length or Transfer-Encoding' });
    return;
  }
  if (bodyLength !== Infinity && bodyLength > POLL_BATCH_BYTES_MAX) {
    refuse({ reason: 'batch-too-large' });
    return;
  }
  const take = (bytes: Uint8Array): void => {
    const batch = parsePollBatch(bytes);
    if (typeof batch === 'string') {
      refuse({ reason: 'poll-malformed', detail: batch });
      return;
    }
    about.door.post(about.id, batch, answer => {
      if ('reason' in answer) refuse(answer);
      else exchange.json(formatPollProgress(answer));
    });
  };
  if (bodyLength === 0) take(new Uint8Array(0));
  else exchange.readBody({ bytes: bodyLength, whole: take, failed: reason => refuse({ reason }) });
}

/** The session that a path names; undefined: the path is none of a session. */
export function sessionOf({ path }: RelayRequest): PollSessionId | undefined {
  const [first, id, ...others] = path.segments;
  if (first !== POLL_PATH || id === undefined || others.length > 0) return undefined;
  return isPollSessionId(id) ? id : undefined;
}
