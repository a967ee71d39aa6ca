import {
  parsePollTerms,
  POLL_PATH,
  POLL_TRANSPORT,
  type PollTerms,
} from '../../protocol/poll-session.ts';
import { exchange } from './poll-exchange.ts';
import type { Dial } from '../frame-channel.ts';
import { PollChannel } from './poll-channel.ts';
import { POST_BYTES_MIN, type SessionDeps, type SessionPlace } from './poll-requests.ts';
import { httpUrlOf } from '../dial-websocket.ts';
import { attemptOf, doing, refusalError, type Attempt } from '../refused-answers.ts';
import { RelayError } from '../relay-error.ts';
import { originOf } from '../transport-memory.ts';

/** A sender waits until a listener has taken it. */
const OPENING_TIMEOUT_MS = 70_000;
const ANSWER_BYTES_MAX = 65_536;

/**
 * Opens long-poll sessions. Frames are fetched from the beginning, as many as there is room for.
 * `wayBack` opens WebSockets, over which sessions go on when one passes; without it they never do.
 */
export function dialPoll(deps: SessionDeps, wayBack?: Dial): Dial {
  return async (address, options) => {
    const url = httpUrlOf(withTransport(address));
    const attempt = attemptOf(url);
    const origin = originOf(url, deps.routes);
    const { protocols = [], signal } = options;
    const answer = await exchange(
      { routes: deps.routes, clock: options.clock },
      {
        doing: doing(attempt),
        method: 'POST',
        url,
        headers: {
          ...options.headers,
          ...(protocols.length > 0 ? { 'Sec-WebSocket-Protocol': protocols.join(', ') } : {}),
        },
        answerTimeoutMs: options.timeoutMs ?? OPENING_TIMEOUT_MS,
        answerBytesMax: ANSWER_BYTES_MAX,
        signal,
        isOnce: true,
      },
    );
    if ('error' in answer) throw answer.error;
    const { status, reason } = answer;
    const body = answer.body.toString('utf8');
    if (status !== 201) throw refusalError(attempt, { status, reason, body });
    const terms = parsePollTerms(body);
    if (terms === undefined) throw notOurs(attempt, 'the answer is not one of the relay');
    const place = placeOf(url, { attempt, terms, location: answer.location });
    return new PollChannel({ ...place, origin }, deps, wayBack);
  };
}

/** Adds the parameter as it stands, and changes nothing else. */
function withTransport(address: string): string {
  const hash = address.indexOf('#');
  const bare = hash === -1 ? address : address.slice(0, hash);
  return `${bare}${bare.includes('?') ? '&' : '?'}sb-hc-transport=${POLL_TRANSPORT}`;
}

function placeOf(
  opened: URL,
  answer: {
    readonly attempt: Attempt;
    readonly terms: PollTerms;
    readonly location: string | undefined;
  },
): Omit<SessionPlace, 'origin'> {
  const { attempt, terms, location = `/${POLL_PATH}/${terms.session}` } = answer;
  if (terms.batchBytesMax < POST_BYTES_MIN || terms.expiryMs <= terms.holdMs) {
    throw notOurs(attempt, 'the terms of the session are such that nothing could be sent in it');
  }
  const url = URL.canParse(location, opened.href) ? new URL(location, opened) : undefined;
  // Who opened a session over TLS is not to be led out of it.
  const isKept = url?.protocol === opened.protocol || url?.protocol === 'https:';
  if (url === undefined || !isKept) throw notOurs(attempt, 'the session is nowhere to be reached');
  url.hash = '';
  return { url, terms };
}

function notOurs(attempt: Attempt, fault: string): RelayError {
  return new RelayError('ProtocolError', `Cannot ${doing(attempt)}: ${fault}`);
}
