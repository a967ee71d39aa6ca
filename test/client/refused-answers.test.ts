import { describe, expect, test } from 'vitest';
import { attemptOf, refusalError } from '../../src/client/refused-answers.ts';

const TRACKED =
  'TrackingId:5d1d5b55-0c2f-4c0f-9a0e-3d8a6f1f7e21_G3, SystemTracker:sb://r/a, Timestamp:2030-01-01T12:00:00';

function attempt(action: string) {
  return attemptOf(new URL(`https://r.example/$hc/a/b?x=1&sb-hc-action=${action}&sb-hc-id=secret`));
}

describe('refusalError()', () => {
  test.each([
    ['connect', 400, 'This endpoint is only for web-socket requests.', 'ProtocolError', false],
    [
      'connect',
      401,
      'InvalidSignature: The token has an invalid signature.',
      'Unauthorized',
      false,
    ],
    ['listen', 401, 'ExpiredToken: The token is expired.', 'Unauthorized', false],
    ['listen', 403, 'Authorization failed for specified action.', 'Forbidden', false],
    ['listen', 403, 'QuotaExceeded: MaximumListenersPerEndpoint.', 'QuotaExceeded', true],
    ['accept', 403, 'Unknown Connection ID.', 'Timeout', false],
    ['connect', 404, 'Endpoint does not exist.', 'EndpointNotFound', false],
    [
      'connect',
      404,
      'There are no listeners connected for the endpoint.',
      'EndpointNotFound',
      true,
    ],
    ['connect', 408, 'Late.', 'Timeout', true],
    ['connect', 410, 'The long-poll session is over.', 'ConnectionLost', true],
    ['connect', 429, 'Too many.', 'QuotaExceeded', true],
    ['connect', 500, 'Failed.', 'Unavailable', true],
    ['send', 502, 'The listener went away.', 'Unavailable', true],
    ['listen', 503, 'The relay is shutting down; connect again.', 'Unavailable', true],
    ['connect', 503, 'QuotaExceeded: The relay is full.', 'QuotaExceeded', true],
    ['connect', 504, 'The listener did not rendezvous.', 'Timeout', true],
    ['connect', 418, 'A pot.', 'ProtocolError', false],
  ])('%s refused with %i %s is %s', (action, status, text, code, isTransient) => {
    const reason = `${text} ${TRACKED}`;
    const error = refusalError(attempt(action), { status, reason, body: '{}' });
    expect(error).toMatchObject({
      code,
      status,
      reason,
      isTransient,
      trackingId: '5d1d5b55-0c2f-4c0f-9a0e-3d8a6f1f7e21_G3',
    });
    expect(error.message).toMatch(`${status} ${text}`);
    expect(error.message).not.toMatch('secret');
  });

  test('reads the message of the body where something on the way changed the reason phrase', () => {
    const body = `{"error":{"code":3,"message":"There are no \\"listeners\\" connected. ${TRACKED}"}}`;
    const error = refusalError(attempt('connect'), { status: 404, reason: 'Not Found', body });
    expect(error).toMatchObject({ code: 'EndpointNotFound', isTransient: true });
    expect(error.message).toMatch('There are no "listeners" connected.');
  });

  test('without tracking id and body it is the listener that rejects a connection, and nobody else', () => {
    const answer = { status: 503, reason: 'Busy; come back', body: '' };
    expect(refusalError(attempt('connect'), answer)).toMatchObject({
      code: 'Rejected',
      status: 503,
      reason: 'Busy; come back',
    });
    expect(refusalError(attempt('listen'), answer)).toMatchObject({ code: 'Unavailable' });
  });

  test.each([
    [403, 'ProtocolError', false],
    [502, 'Unavailable', true],
    [302, 'ProtocolError', false],
  ])(
    '%i without tracking id and with a body comes from something on the way',
    (status, code, isTransient) => {
      const answer = { status, reason: 'Blocked', body: '<html>Blocked</html>' };
      const error = refusalError(attempt('connect'), answer);
      expect(error).toMatchObject({ code, isTransient, trackingId: undefined });
      expect(error.message).toMatch(/not an answer of the relay/);
    },
  );

  test('shows no signature, should an answer repeat one', () => {
    const reason = `Bad token: SharedAccessSignature sr=x&sig=c2VjcmV0&se=1. ${TRACKED}`;
    const { message } = refusalError(attempt('connect'), { status: 401, reason, body: '' });
    expect(message).not.toMatch('c2VjcmV0');
  });
});
