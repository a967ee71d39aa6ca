import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatRendezvousId } from '../../src/protocol/ids.ts';
import {
  formatRendezvousAddress,
  parseRelayQuery,
  rejectionOf,
} from '../../src/protocol/relay-url.ts';
import queries from '../fixtures/relay-queries.json' with { type: 'json' };

const ID = formatRendezvousId(
  '0f6b9f0e-5f0a-4c53-8f0c-7b7a2d6f5d11',
  '00112233445566778899aabbccddeeff',
);
const ORIGIN = 'wss://node3.relay.example.com:443';

/** Bits of queries, so that chance makes ones worth trying. */
const queryText = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        'sb-hc-',
        'SB-HC-id',
        'sb%2Dhc-token',
        '=',
        '&',
        '+',
        '%',
        '%2',
        '%ff',
        '"',
        '{',
      ),
      fc.string({ unit: 'binary', maxLength: 5 }),
    ),
  )
  .map(parts => parts.join(''));

/** What java.net.URI takes for a query, roughly; strict about escapes and about everything in `\^"<>`. */
const STRICT_QUERY = /^(?:%[0-9a-f]{2}|[\w\-.~!$&'()*+,;=:@/?[\]])*$/i;

describe('parseRelayQuery()', () => {
  test.each(queries)('with $name', ({ sent, seen, fields }) => {
    expect(parseRelayQuery(sent)).toEqual({ ...fields, userQuery: seen });
  });

  test('never throws, and leaves a strictly valid query without protocol pairs', () => {
    fc.assert(
      fc.property(queryText, text => {
        const { userQuery } = parseRelayQuery(text);
        expect(userQuery).toMatch(STRICT_QUERY);
        expect(parseRelayQuery(userQuery)).toEqual({ userQuery });
      }),
    );
  });

  test('reads the fields that were form-encoded', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (token, id) => {
        const ours = new URLSearchParams({ 'sb-hc-token': token, 'sb-hc-id': id });
        expect(parseRelayQuery(`a=1&${ours.toString()}&b=2`)).toEqual({
          token,
          id,
          userQuery: 'a=1&b=2',
        });
      }),
    );
  });
});

describe('formatRendezvousAddress()', () => {
  test('of an accept carries path and user query of the sender', () => {
    expect(
      formatRendezvousAddress({
        origin: ORIGIN,
        rawPath: 'hyco/chat%20room',
        userQuery: 'room=7&x=a=b',
        action: 'accept',
        id: ID,
      }),
    ).toBe(`${ORIGIN}/$hc/hyco/chat%20room?room=7&x=a=b&sb-hc-action=accept&sb-hc-id=${ID}`);
  });

  test('of an accept without a user query has the protocol pairs alone', () => {
    expect(
      formatRendezvousAddress({
        origin: ORIGIN,
        rawPath: 'hyco',
        userQuery: '',
        action: 'accept',
        id: ID,
      }),
    ).toBe(`${ORIGIN}/$hc/hyco?sb-hc-action=accept&sb-hc-id=${ID}`);
  });

  test('of a request leaves the user query out, as two equals signs make Java drop its channel', () => {
    expect(
      formatRendezvousAddress({
        origin: ORIGIN,
        rawPath: 'hyco/orders',
        userQuery: 'a=b=c',
        action: 'request',
        id: ID,
      }),
    ).toBe(`${ORIGIN}/$hc/hyco/orders?sb-hc-action=request&sb-hc-id=${ID}`);
  });

  test('encodes what no URI may hold', () => {
    expect(
      formatRendezvousAddress({
        origin: ORIGIN,
        rawPath: 'hyco/a"b{c}|d^e`f<g>h[i]ø%zz',
        userQuery: '',
        action: 'request',
        id: ID,
      }),
    ).toContain('/$hc/hyco/a%22b%7Bc%7D%7Cd%5Ee%60f%3Cg%3Eh%5Bi%5D%C3%B8%25zz?');
  });

  test('gives, when dialled, the user query back', () => {
    fc.assert(
      fc.property(queryText, text => {
        const { userQuery } = parseRelayQuery(text);
        const address = formatRendezvousAddress({
          origin: ORIGIN,
          rawPath: 'hyco',
          userQuery,
          action: 'accept',
          id: ID,
        });
        const dialled = parseRelayQuery(address.slice(address.indexOf('?') + 1));
        expect(dialled).toEqual({ action: 'accept', id: ID, userQuery });
        expect(rejectionOf(dialled, userQuery)).toBeUndefined();
      }),
    );
  });
});

/** What a listener's dial says that appended something to the address it was given. */
function rejected(appended: string, offered = ''): ReturnType<typeof rejectionOf> {
  const address = formatRendezvousAddress({
    origin: ORIGIN,
    rawPath: 'hyco',
    userQuery: offered,
    action: 'accept',
    id: ID,
  });
  return rejectionOf(parseRelayQuery(address.slice(address.indexOf('?') + 1) + appended), offered);
}

describe('rejectionOf()', () => {
  test.each([
    ['.NET', '&sb-hc-statusCode=403&sb-hc-statusDescription=no+such+room', 403, 'no such room'],
    ['spaces as %20', '&sb-hc-statusCode=403&sb-hc-statusDescription=no%20room', 403, 'no room'],
    ['no description', '&sb-hc-statusCode=999', 999, ''],
    ['names in lower case', '&sb-hc-statuscode=100&sb-hc-statusdescription=x', 100, 'x'],
    ['hyco-websocket', '&statusCode=401&statusDescription=go%20away%26', 401, 'go away&'],
    ['hyco-websocket without a description', '&statusCode=401', 401, ''],
  ])('reads the rejection of %s', (_, appended, status, description) => {
    expect(rejected(appended)).toEqual({ status, description });
    expect(rejected(appended, 'room=7&statusCode=1')).toEqual({ status, description });
  });

  test.each(['', 'abc', '99', '1000', '0403', '4e2', '-403', ' 403', '403.0'])(
    'calls the status "%s" invalid',
    status => {
      expect(rejected(`&sb-hc-statusCode=${status}`)).toBe('invalid');
      expect(rejected(`&statusCode=${status}`)).toBe('invalid');
    },
  );

  test('calls a description without a status invalid', () => {
    expect(rejected('&sb-hc-statusDescription=no')).toBe('invalid');
  });

  test("takes a sender's own parameter statusCode for what it is", () => {
    expect(rejected('', 'statusCode=403')).toBeUndefined();
    expect(rejected('', 'a=1&statusCode=403&statusDescription=x')).toBeUndefined();
  });

  test('takes anything else that was appended for an accept', () => {
    expect(rejected('&compress=yes')).toBeUndefined();
    expect(rejected('statusCode=403', 'a=1')).toBeUndefined();
    expect(rejectionOf({ userQuery: 'b=1&statusCode=403' }, 'a=1')).toBeUndefined();
    expect(rejectionOf({ userQuery: 'a=12&statusCode=403' }, 'a=1')).toBeUndefined();
    expect(rejectionOf({ userQuery: 'a=1xstatusCode=403' }, 'a=1')).toBeUndefined();
  });
});
