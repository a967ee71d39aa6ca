import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  closeReason,
  refusalBody,
  REFUSALS,
  refusalText,
  type RefusalReason,
} from '../../src/protocol/refusals.ts';

const TRACKING_ID = '5d1d5b55-0c2f-4c0f-9a0e-3d8a6f1f7e21';
const ABOUT = {
  trackingId: TRACKING_ID,
  host: 'relay.example.com',
  path: 'nohyco',
  wallMs: 1_893_499_200_000,
};
const TRACKING = `TrackingId:${TRACKING_ID}, SystemTracker:sb://relay.example.com/nohyco, Timestamp:2030-01-01T12:00:00`;

function isReason(text: string): text is RefusalReason {
  return text in REFUSALS;
}
const REASONS = Object.keys(REFUSALS).filter(isReason);

describe('REFUSALS', () => {
  test('has exactly the labels that dashboards count, with their statuses', () => {
    const statuses = Object.fromEntries(
      REASONS.map(reason => [reason, REFUSALS[reason].httpStatus]),
    );
    expect(statuses).toEqual({
      'token-missing': 401,
      'token-malformed': 401,
      'token-expired': 401,
      'signature-invalid': 401,
      'audience-wrong': 401,
      'right-missing': 403,
      'endpoint-unknown': 404,
      'path-malformed': 404,
      'no-listener': 404,
      'no-allowed-listener': 404,
      'listeners-max': 403,
      'action-unknown': 400,
      'not-websocket': 400,
      'upgrade-outside-hc': 400,
      'handshake-malformed': 400,
      'request-malformed': 400,
      'address-unknown': 403,
      'status-code-invalid': 400,
      rejected: 410,
      'listener-silent': 504,
      'response-late': 504,
      'listener-lost': 502,
      'response-invalid': 502,
      'method-unsupported': 405,
      'body-stalled': 408,
      'senders-max': 503,
      overloaded: 503,
      draining: 503,
      'portal-host': 404,
      'service-worker': 403,
      'session-unknown': 404,
      'session-gone': 410,
      'session-superseded': 409,
      'sessions-max': 503,
      'poll-malformed': 400,
      'sequence-gap': 409,
      'credit-exceeded': 409,
      'frames-malformed': 400,
      'ack-unknown': 400,
      'batch-too-large': 413,
      internal: 500,
    });
  });

  test.each(REASONS)('%s closes with a code that every client takes', reason => {
    expect([1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011]).toContain(
      REFUSALS[reason].closeCode,
    );
  });

  test('gives a listener 404 only for a path that is wrong: .NET stops for good on it', () => {
    const notFound = REASONS.filter(reason => REFUSALS[reason].httpStatus === 404);
    const ofSendersOnly = ['no-listener', 'no-allowed-listener'];
    // .NET has no long-poll sessions.
    const ofPollsOnly = ['session-unknown'];
    expect(notFound).toEqual([
      'endpoint-unknown',
      'path-malformed',
      ...ofSendersOnly,
      'portal-host',
      ...ofPollsOnly,
    ]);
  });
});

describe('refusalText()', () => {
  test.each<[RefusalReason, string | undefined, string]>([
    ['endpoint-unknown', undefined, 'Endpoint does not exist. '],
    ['no-listener', undefined, 'There are no listeners connected for the endpoint. '],
    ['signature-invalid', undefined, 'InvalidSignature: The token has an invalid signature. '],
    [
      'token-expired',
      "'2030-01-01 00:00:00Z'",
      "ExpiredToken: The token is expired. Expiration time: '2030-01-01 00:00:00Z'. ",
    ],
    [
      'audience-wrong',
      undefined,
      'InvalidAudience: The authorization header contains a token with a wrong audience. ',
    ],
    ['token-missing', undefined, 'MissingToken: The authorization header was not found. '],
    ['right-missing', 'Listen', 'Authorization failed for specified action: Listen. '],
    ['action-unknown', "'shout'", "Unsupported action 'shout'. "],
    ['not-websocket', undefined, 'This endpoint is only for web-socket requests. '],
    ['status-code-invalid', undefined, 'sb-hc-statusCode must be an integer between 100 and 999. '],
    [
      'listener-silent',
      '00:00:30',
      'The listener did not rendezvous to accept the request within the allotted time 00:00:30. ',
    ],
    [
      'response-late',
      undefined,
      'The request was routed to the listener but the listener did not respond in the required time. ',
    ],
  ])('of %s with detail %j is the text that clients know', (reason, detail, message) => {
    const about = detail === undefined ? ABOUT : { ...ABOUT, detail };
    expect(refusalText(reason, about)).toBe(message + TRACKING);
  });

  test('says the quota of listeners by its name', () => {
    expect(refusalText('listeners-max', ABOUT)).toContain('MaximumListenersPerEndpoint');
  });

  test('asks a question without a full stop behind it', () => {
    expect(refusalText('address-unknown', ABOUT)).toContain('accepting too late? TrackingId:');
  });

  test('tells a rejecting listener nothing but Gone', () => {
    expect(refusalText('rejected', ABOUT)).toBe('Gone');
  });

  test('is one line of bounded ASCII, whatever a stranger put into it', () => {
    const text = fc.string({ unit: 'binary', size: 'large' });
    fc.assert(
      fc.property(fc.constantFrom(...REASONS), text, text, text, (reason, detail, host, path) => {
        const said = refusalText(reason, { ...ABOUT, detail, host, path });
        expect(said).toMatch(/^[ -~]{1,1024}$/);
        if (reason !== 'rejected') expect(said).toContain(`TrackingId:${TRACKING_ID}, `);
      }),
    );
  });

  test('has room for the longest name and host', () => {
    const path = 'p'.repeat(260);
    const said = refusalText('no-allowed-listener', { ...ABOUT, path, host: 'h'.repeat(253) });
    expect(said).toContain(`/${path}, Timestamp:2030-01-01T12:00:00`);
  });
});

test('refusalBody() is the JSON of the gateway, its code a number', () => {
  const text = refusalText('endpoint-unknown', ABOUT);
  expect(JSON.parse(refusalBody('endpoint-unknown', text))).toEqual({
    error: { code: 3, message: text },
  });
  expect(REASONS.map(reason => REFUSALS[reason].code).every(code => code >= 1 && code <= 5)).toBe(
    true,
  );
});

function bytes(text: string): number {
  return new TextEncoder().encode(text).length;
}

describe('closeReason()', () => {
  test('keeps a short text', () => {
    expect(closeReason('Normal Closure')).toBe('Normal Closure');
    expect(closeReason('a'.repeat(123))).toBe('a'.repeat(123));
  });

  test('keeps message and tracking id of a refusal', () => {
    expect(closeReason(refusalText('endpoint-unknown', ABOUT))).toBe(
      `Endpoint does not exist. TrackingId:${TRACKING_ID}`,
    );
  });

  test.each(REASONS.filter(reason => reason !== 'rejected'))(
    'of %s fits a frame, with its tracking id',
    reason => {
      const reasonText = closeReason(refusalText(reason, ABOUT));
      expect(bytes(reasonText)).toBeLessThanOrEqual(123);
      expect(reasonText.startsWith(REFUSALS[reason].text.slice(0, 60))).toBe(true);
      expect(reasonText.endsWith(` TrackingId:${TRACKING_ID}`)).toBe(true);
    },
  );

  test('is at most 123 bytes of UTF-8, never ending in half a character', () => {
    expect(closeReason('ø'.repeat(100))).toBe('ø'.repeat(61));
    expect(closeReason('🙂'.repeat(100))).toBe('🙂'.repeat(30));
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary' }),
        fc.constantFrom(
          '',
          'TrackingId:',
          `TrackingId:${TRACKING_ID}`,
          `TrackingId:${'x'.repeat(200)}, `,
        ),
        fc.string({ unit: 'grapheme', size: 'large' }),
        (before, tracking, after) => {
          expect(bytes(closeReason(before + tracking + after))).toBeLessThanOrEqual(123);
        },
      ),
    );
  });
});
