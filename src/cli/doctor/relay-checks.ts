import { dialWebSocket } from '../../client/dial-websocket.ts';
import { UPGRADE_STRIPPED } from '../../client/refused-answers.ts';
import { RelayError } from '../../client/relay-error.ts';
import { wordsOf } from '../refusal-advice.ts';
import { ask, ANSWER_TIMEOUT_MS } from './ask.ts';
import { failed, notOffered, notTried, ok, warning, type Finding } from './finding.ts';
import { orError, type Patient } from './patient.ts';

/** Beyond it tokens that are good for minutes begin to fail. */
const SKEW_WARNING_MS = 30_000;
const SKEW_FAILED_MS = 300_000;
/** The header has whole seconds. */
const SKEW_UNSEEN_MS = 2_000;

/** This machine's clock against the `Date` of an answer. */
export async function checkClock(patient: Patient): Promise<Finding> {
  const asked = await patient.health();
  if (asked instanceof RelayError) return notTried('there was no answer with a time');
  // oxlint-disable-next-line no-restricted-globals -- reads a text, asks no clock
  const theirMs = Date.parse(asked.headers.date ?? '');
  if (Number.isNaN(theirMs)) return warning('cannot tell: the answer has no Date');
  const skewMs = asked.wallMs - theirMs;
  const size = Math.abs(skewMs);
  if (size <= SKEW_UNSEEN_MS) return ok('as the other end has it');
  const text = `this machine is ${durationText(size)} ${skewMs > 0 ? 'ahead of' : 'behind'} the other end`;
  if (size <= SKEW_WARNING_MS) return ok(text);
  const advice = 'set the clock, by NTP: tokens are refused that have expired, or seem to have';
  return size <= SKEW_FAILED_MS ? warning(text, advice) : failed(text, advice);
}

export async function checkHealth(patient: Patient): Promise<Finding> {
  const asked = await patient.health();
  if (asked instanceof RelayError) return failed(wordsOf(asked));
  const { status, reason, body } = asked;
  if (status === 200 && body.includes('"alive"')) {
    const ready = await orError(ask(patient.options, new URL('/$readyz', patient.url)));
    if (ready instanceof RelayError || ready.status === 200)
      return ok('a Halfway relay, alive and ready');
    const reasons = /"reasons":\[([^\]]*)\]/.exec(ready.body)?.[1] ?? '';
    return warning(
      `a Halfway relay that takes no new work: ${reasons}`,
      'wait, or look at its log',
    );
  }
  if (status >= 500) {
    const advice =
      'what stands before the relay answers, because the relay does not: see that it runs';
    return failed(`got ${status} ${reason}`.trimEnd(), advice);
  }
  return notOffered(
    `got ${status}: no Halfway relay, or its health is not shown; Azure has none either`,
  );
}

/** Whether a handshake arrives as one, and, where we may listen, whether frames come through after it. */
export async function checkWebSocket(patient: Patient): Promise<Finding> {
  const obstacle = await handshakeObstacle(patient);
  if (obstacle === undefined) {
    const opened = await patient.opened('websocket');
    if (opened?.kind === 'closed') return ok('a control channel was opened and closed');
    if (opened?.kind === 'silent') {
      return instead(
        patient,
        'a handshake passes, but what follows is kept back by something on the way',
      );
    }
    return ok(`handshakes reach the relay; whether frames do was not tried: ${NEEDS_LISTEN}`);
  }
  return instead(patient, obstacle);
}

/** WebSockets do not pass. With long-polling everything works all the same. */
async function instead(patient: Patient, obstacle: string): Promise<Finding> {
  const { outcome } = await checkPoll(patient);
  return outcome === 'OK'
    ? warning(obstacle, 'long-polling is used in its place; to be faster, have Upgrade passed on')
    : failed(obstacle, 'have what stands between here and there pass on Upgrade and Connection');
}

/** A handshake that the relay can only refuse: its refusal shows that it got there. */
async function handshakeObstacle(patient: Patient): Promise<string | undefined> {
  const origin = patient.url.origin.replace(/^http/, 'ws');
  const { routes, clock } = patient.options;
  const dial = dialWebSocket(routes);
  const address = `${origin}/$hc/${patient.options.path ?? 'doctor'}?sb-hc-action=doctor`;
  const refused = await orError(dial(address, { clock, timeoutMs: ANSWER_TIMEOUT_MS }));
  if (!(refused instanceof RelayError)) {
    refused.destroy();
    return 'something else than a relay answers handshakes';
  }
  if (refused.message.includes(UPGRADE_STRIPPED)) {
    return 'something on the way takes Upgrade out of handshakes';
  }
  return refused.trackingId === undefined ? wordsOf(refused) : undefined;
}

const NEEDS_LISTEN = 'that takes the right Listen on a hybrid connection that exists';

/** A session that no relay gave out: the answer tells whether there are such things. */
const NO_SESSION = `/$poll/${'0'.repeat(64)}?turn=1&ack=0&credit=0`;

export async function checkPoll(patient: Patient): Promise<Finding> {
  const told = await orError(ask(patient.options, new URL(NO_SESSION, patient.url)));
  if (told instanceof RelayError) return failed(wordsOf(told));
  const text = `${told.reason} ${told.body}`;
  if (!/TrackingId:/i.test(text)) {
    return failed(
      `got ${told.status} ${told.reason}, which is not an answer of a relay`.replace(' ,', ','),
      'check what stands between here and there',
    );
  }
  if (!/long-poll/i.test(text)) return notOffered('the relay has no long-polling; Azure has none');
  const opened = await patient.opened('poll');
  if (opened?.kind === 'closed') return ok('a session was opened and closed');
  if (opened?.kind === 'silent') {
    return failed(
      'a session was opened, and then nothing came',
      'something on the way keeps requests back',
    );
  }
  return ok(`the relay answers; no session was opened: ${NEEDS_LISTEN}`);
}

export function durationText(ms: number): string {
  const seconds = Math.round(ms / 1_000);
  const [minutes, rest] = [Math.floor(seconds / 60), seconds % 60];
  return minutes === 0 ? `${rest} s` : `${minutes} min ${rest} s`;
}
