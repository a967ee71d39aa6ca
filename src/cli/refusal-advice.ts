import { RelayError } from '../client/relay-error.ts';
import { messageOf } from './command-error.ts';

/** What to do about a refusal, by status; the relay's own text says what is wrong. */
const ADVICE: Readonly<Record<number, string>> = {
  400: 'check PATH: it must name a hybrid connection, without dot segments',
  401: "check the key in the connection string, its rule, and this machine's clock",
  403: 'use a rule that grants the right: Listen to listen, Send to send',
  404: 'check PATH, and when sending, that a listener is connected (`halfway listen PATH`)',
  409: 'another program holds this place; stop it, or try again later',
  429: 'a limit of the relay is reached; try again later, or raise it there',
  502: 'the listener could not take it; look at its output',
  503: 'the relay takes nothing new now, perhaps because it is shutting down; try again',
  504: 'the listener did not answer in time; look at its output',
};

/** One line on why a relay could not be reached or said no, and what to do. */
export function adviceOn(what: string, error: unknown): string {
  if (!(error instanceof RelayError)) return `${what}: ${messageOf(error)}`;
  const { code, status, reason = '', trackingId, cause } = error;
  if (status !== undefined && (trackingId !== undefined || code === 'Rejected')) {
    const advice = ADVICE[status];
    const refused = `${what}: refused with ${status} ${reason}`.trimEnd();
    return advice === undefined ? refused : `${refused}\n  ${advice}`;
  }
  // Of a proxy that is not there the library says that it is the proxy.
  const isPlain = code === 'ConnectionFailed' && !error.message.includes('the proxy');
  return `${what}: ${isPlain && cause !== undefined ? messageOf(cause) : wordsOf(error)}`;
}

export function adviceOnStatus(status: number): string | undefined {
  return ADVICE[status];
}

/** The library's words without what was tried, which the command says itself, and with this program's options. */
export function wordsOf(error: RelayError): string {
  return error.message
    .replace(/^Cannot [a-z ]+ ".*?" at \S+: /, '')
    .replace('give its certificate as `ca`', 'give its certificate with --ca FILE');
}
