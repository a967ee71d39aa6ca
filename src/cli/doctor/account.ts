import { randomUUID } from 'node:crypto';
import type { Clock } from '../../base/clock.ts';
import { RelayError } from '../../client/relay-error.ts';
import type { Routes } from '../../client/routes.ts';
import { ask, type Told } from './ask.ts';

/** What the relay says to a token and a hybrid connection. */
export interface Account {
  /** Why the token does not count at all. */
  readonly tokenFault: string | undefined;
  readonly manage: boolean;
  /** Undefined: no answer tells. */
  readonly send: boolean | undefined;
  /** Of the hybrid connection; undefined: no answer tells. */
  readonly exists: boolean | undefined;
  /** Undefined: no answer tells. */
  readonly hasListener: boolean | undefined;
  readonly listenerCount: number | undefined;
}

/**
 * Finds out rights by two questions that reach no listener: for the description of the hybrid
 * connection (Manage), and for a listener whose id nobody has (Send).
 */
export async function readAccount(
  way: { readonly routes: Routes; readonly clock: Clock },
  url: URL,
  token: string,
): Promise<Account> {
  const authorization = { ServiceBusAuthorization: token };
  const described = await answerTo(
    ask(way, new URL('?api-version=2016-07', url), {
      ...authorization,
      'X-PROCESS-AT': 'ServiceBus',
    }),
  );
  const sent = await answerTo(
    ask(way, url, { ...authorization, 'Microsoft-Relay-AllowedListeners': randomUUID() }),
  );
  const count = /<ListenerCount>(\d+)</.exec(described.body)?.[1];
  const listenerCount = count === undefined ? undefined : Number(count);
  const isDescribed = described.status === 200 && described.body.includes('HybridConnectionDesc');
  // Existence is looked at after the right.
  const manage = described.status === 200 || isUnknown(described);
  const sending = sendingOf(sent);
  // For a name that is none Azure has an empty feed.
  const isNone = isUnknown(described) || (manage && described.body.includes('<feed'));
  return {
    tokenFault: tokenFaultOf(described) ?? tokenFaultOf(sent),
    manage,
    send: manage ? true : sending.send,
    exists: isDescribed ? true : isNone ? false : sending.exists,
    hasListener: listenerCount === undefined ? sending.hasListener : listenerCount > 0,
    listenerCount,
  };
}

interface Words {
  readonly status: number;
  /** Reason phrase and body: something on the way may have replaced the former. */
  readonly text: string;
  readonly body: string;
}

async function answerTo(told: Promise<Told>): Promise<Words> {
  try {
    const { status, reason, body } = await told;
    return { status, text: `${reason} ${body}`, body };
  } catch (error) {
    if (error instanceof RelayError) return { status: 0, text: '', body: '' };
    throw error;
  }
}

function sendingOf(sent: Words): Pick<Account, 'send' | 'exists' | 'hasListener'> {
  if (isUnknown(sent)) return { send: true, exists: false, hasListener: false };
  if (/no listeners connected/i.test(sent.text)) {
    return { send: true, exists: true, hasListener: false };
  }
  if (/AllowedListeners/i.test(sent.text) || (sent.status >= 200 && sent.status < 400)) {
    return { send: true, exists: true, hasListener: true };
  }
  const isRefused = sent.status === 401 || sent.status === 403;
  return { send: isRefused ? false : undefined, exists: undefined, hasListener: undefined };
}

function isUnknown({ status, text }: Words): boolean {
  return status === 404 && /Endpoint does not exist/i.test(text);
}

/** The relay's words for a token that is none; a right that it lacks is no fault of the token. */
function tokenFaultOf({ status, text }: Words): string | undefined {
  if (status !== 401) return undefined;
  const known = /(MissingToken|MalformedToken|ExpiredToken|InvalidSignature|InvalidAudience)/.exec(
    text,
  );
  return known?.[1];
}
