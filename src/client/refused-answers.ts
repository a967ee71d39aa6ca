import { RelayError, type RelayErrorCode } from './relay-error.ts';

/** An answer that was not what was hoped for: not a 101, or an HTTP answer that is not the listener's. */
export interface RefusingAnswer {
  readonly status: number;
  /** Reason phrase. */
  readonly reason: string;
  /** The body, or the beginning of it. */
  readonly body: string;
  readonly rawHeaders?: readonly string[];
}

/** What was being done, as an address says it; never with its query, which holds secrets. */
export interface Attempt {
  readonly action: 'listen' | 'connect' | 'send' | 'accept' | 'request';
  /** Of the hybrid connection, and what is below it. */
  readonly path: string;
  readonly origin: string;
}

const DOING: Readonly<Record<Attempt['action'], string>> = {
  listen: 'listen on',
  connect: 'connect to',
  send: 'send a request to',
  accept: 'take a sender of',
  request: 'answer a request to',
};

export function doing({ action, path, origin }: Attempt): string {
  return `${DOING[action]} "${path}" at ${origin}`;
}

/** Reads what an address is for; one without an action is one to connect to, or as given. */
export function attemptOf(url: URL, byDefault: 'connect' | 'send' = 'connect'): Attempt {
  const action = url.searchParams.get('sb-hc-action');
  const path = url.pathname.replace(/^\/(?:\$hc\/)?/i, '');
  const isKnown = action === 'listen' || action === 'accept' || action === 'request';
  const origin = `${url.protocol}//${url.host}`;
  return { action: isKnown ? action : byDefault, path, origin };
}

/** The relay says this where an upgrade reached it without its `Upgrade` header: something on the way took it out. */
export const UPGRADE_STRIPPED = 'This endpoint is only for web-socket requests';

/**
 * What an answer means that refused. The relay puts `TrackingId:` into its reason phrase and into the
 * message of its JSON body; a listener's rejection comes in its own words and without a body; all else
 * is of something between here and there.
 */
export function refusalError(attempt: Attempt, answer: RefusingAnswer): RelayError {
  const { status, reason } = answer;
  const text = textOf(answer);
  const trackingId = /TrackingId:\s*([\w-]+)/i.exec(text)?.[1];
  const { body, rawHeaders = [] } = answer;
  const details = { status, reason, trackingId, answer: { rawHeaders, body } };
  if (trackingId === undefined) {
    if (attempt.action === 'connect' && answer.body === '') {
      const message = `The listener of "${attempt.path}" rejected the connection: ${status} ${reason}`;
      return new RelayError('Rejected', message.trimEnd(), details);
    }
    const message =
      `Cannot ${doing(attempt)}: got ${status} ${withoutSecrets(reason)}`.trimEnd() +
      ', which is not an answer of the relay; check the address, and what is between here and there';
    const isTransient = status >= 500;
    return new RelayError(isTransient ? 'Unavailable' : 'ProtocolError', message, {
      ...details,
      isTransient,
    });
  }
  const { code, advice, isTransient } = meaningOf(attempt, status, text);
  const said = withoutSecrets(text);
  const message = `Cannot ${doing(attempt)}: ${status} ${said}${advice === undefined ? '' : ` (${advice})`}`;
  return new RelayError(code, message, { ...details, isTransient });
}

/** The reason phrase, or, where something on the way has replaced it, the message of the body. */
function textOf({ reason, body }: RefusingAnswer): string {
  if (/TrackingId:/i.test(reason) || !/TrackingId:/i.test(body)) return reason;
  return /"message"\s*:\s*"((?:[^"\\]|\\.)*)"/.exec(body)?.[1]?.replaceAll('\\"', '"') ?? reason;
}

/** No answer repeats a token; should one do so, the signature does not end up in a log. */
function withoutSecrets(text: string): string {
  return text.replaceAll(/\bsig=[^&\s]+/gi, 'sig=…');
}

interface Meaning {
  readonly code: RelayErrorCode;
  readonly isTransient: boolean;
  readonly advice?: string;
}

const BY_STATUS: Readonly<Record<number, Meaning>> = {
  401: {
    code: 'Unauthorized',
    isTransient: false,
    advice: "check the key, the name of its rule, and this machine's clock",
  },
  404: {
    code: 'EndpointNotFound',
    isTransient: false,
    advice: 'check the name of the hybrid connection',
  },
  408: { code: 'Timeout', isTransient: true },
  410: { code: 'ConnectionLost', isTransient: true },
  429: { code: 'QuotaExceeded', isTransient: true, advice: 'try again later' },
  500: { code: 'Unavailable', isTransient: true },
  502: {
    code: 'Unavailable',
    isTransient: true,
    advice: 'the listener could not take it; look at its output',
  },
  503: { code: 'Unavailable', isTransient: true, advice: 'try again later' },
  504: {
    code: 'Timeout',
    isTransient: true,
    advice: 'the listener did not answer in time; look at its output',
  },
};

function meaningOf(attempt: Attempt, status: number, text: string): Meaning {
  if (/Quota ?Exceeded|MaximumListeners/i.test(text)) {
    return { code: 'QuotaExceeded', isTransient: true, advice: 'free a place, or raise the limit' };
  }
  if (status === 403 && (attempt.action === 'accept' || attempt.action === 'request')) {
    return {
      code: 'Timeout',
      isTransient: false,
      advice: 'its sender has gone, or it was too late',
    };
  }
  if (status === 403) {
    const right = attempt.action === 'listen' ? 'Listen' : 'Send';
    return { code: 'Forbidden', isTransient: false, advice: `use a rule with the right ${right}` };
  }
  if (status === 404 && /listener/i.test(text)) {
    const advice = 'start a listener, and check the name';
    return { code: 'EndpointNotFound', isTransient: true, advice };
  }
  return BY_STATUS[status] ?? { code: 'ProtocolError', isTransient: false };
}
