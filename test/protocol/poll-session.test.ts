import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  formatPollProgress,
  formatPollQuery,
  formatPollTerms,
  isPollSessionId,
  parsePollProgress,
  parsePollQuery,
  parsePollReason,
  parsePollTerms,
  pollSessionIdParts,
} from '../../src/protocol/poll-session.ts';

const SECRET = '0123456789abcdef0123456789abcdef';
const MAC = 'fedcba9876543210fedcba9876543210';

describe('session ids', () => {
  test('come apart into what is signed, MAC and node', () => {
    const clustered = `${SECRET}${MAC}0badcafe`;
    if (!isPollSessionId(clustered)) throw new Error('no id');
    expect(pollSessionIdParts(clustered)).toEqual({
      signed: `${SECRET}0badcafe`,
      macHex: MAC,
      nodeTag: '0badcafe',
    });
    const alone = `${SECRET}${MAC}`;
    if (!isPollSessionId(alone)) throw new Error('no id');
    expect(pollSessionIdParts(alone)).toEqual({ signed: SECRET, macHex: MAC, nodeTag: '' });
  });

  test.each([
    '',
    SECRET,
    `${SECRET}${MAC}0bad`,
    `${SECRET}${MAC}0badcafe0`,
    `${SECRET}${MAC.toUpperCase()}`,
    `${SECRET}${MAC}\n`,
    `${SECRET}${MAC.slice(1)}/`,
  ])('are not %j', text => {
    expect(isPollSessionId(text)).toBe(false);
  });
});

describe('parsePollTerms()', () => {
  const terms = {
    session: `${SECRET}${MAC}`,
    protocol: 'wss, x',
    holdMs: 25_000,
    expiryMs: 60_000,
    credit: 1_048_576,
    batchBytesMax: 1_048_576,
  };

  test('reads what formatPollTerms() writes, and ignores what later versions add', () => {
    expect(parsePollTerms(formatPollTerms(terms))).toEqual(terms);
    expect(parsePollTerms(JSON.stringify({ ...terms, later: [1] }))).toEqual(terms);
  });

  test.each([
    '',
    '<html>captive portal</html>',
    'null',
    '[]',
    '{}',
    JSON.stringify({ ...terms, session: 1 }),
    JSON.stringify({ ...terms, holdMs: -1 }),
    JSON.stringify({ ...terms, credit: '1' }),
    JSON.stringify({ ...terms, expiryMs: 1.5 }),
    JSON.stringify({ ...terms, batchBytesMax: 1e300 }),
  ])('refuses %j', text => {
    expect(parsePollTerms(text)).toBeUndefined();
  });
});

describe('parsePollQuery()', () => {
  const numbers = fc.nat({ max: Number.MAX_SAFE_INTEGER });
  const questions = fc.record(
    { turn: numbers, ack: numbers, credit: numbers, waitMs: numbers },
    { requiredKeys: ['turn', 'ack', 'credit'] },
  );

  test('reads what formatPollQuery() writes', () => {
    fc.assert(
      fc.property(questions, question => {
        expect(parsePollQuery(formatPollQuery(question))).toEqual(question);
      }),
    );
  });

  test.each([
    '',
    'turn=1&ack=0',
    'turn=1&ack=0&credit=',
    'turn=1&ack=-1&credit=0',
    'turn=1&ack=1e3&credit=0',
    'turn=1&ack=0x1&credit=0',
    'turn=9007199254740992&ack=0&credit=0',
    'turn=99999999999999999999&ack=0&credit=0',
    'turn=1&ack=0&credit=0&wait=',
    'turn=1&ack=0&credit=0&wait=soon',
    'turn=%31&ack=0&credit=0',
  ])('refuses %j', query => {
    expect(typeof parsePollQuery(query)).toBe('string');
  });

  test('ignores names that it does not know, and never throws', () => {
    expect(parsePollQuery('x&=&y=1&turn=1&ack=2&credit=3&&z')).toEqual({
      turn: 1,
      ack: 2,
      credit: 3,
    });
    fc.assert(fc.property(fc.string({ unit: 'binary' }), query => void parsePollQuery(query)));
  });
});

describe('parsePollProgress() and parsePollReason()', () => {
  test('read answers and refusals', () => {
    expect(parsePollProgress(formatPollProgress({ ack: 3, credit: 9 }))).toEqual({
      ack: 3,
      credit: 9,
    });
    const refusal = '{"error":{"code":5,"message":"m"},"reason":"sequence-gap","ack":1,"credit":2}';
    expect(parsePollProgress(refusal)).toEqual({ ack: 1, credit: 2 });
    expect(parsePollReason(refusal)).toBe('sequence-gap');
  });

  test.each(['', '<html>', '[]', '{"ack":1}', '{"ack":"1","credit":2}', '{"reason":5}'])(
    'take nothing from %j',
    text => {
      expect(parsePollProgress(text)).toBeUndefined();
      expect(parsePollReason(text)).toBeUndefined();
    },
  );
});
