import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  formatConnectionString,
  httpOrigin,
  parseConnectionString,
  webSocketOrigin,
} from '../../src/protocol/connection-string.ts';

const KEY = 'MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=';
const AZURE = `Endpoint=sb://relay.example.com/;SharedAccessKeyName=listenRule;SharedAccessKey=${KEY};EntityPath=hyco`;

function faultsOf(text: string): readonly string[] {
  const parsed = parseConnectionString(text);
  return parsed.ok ? [] : parsed.faults;
}

describe('parseConnectionString()', () => {
  test("reads Azure's form, values split off at the first equals sign", () => {
    expect(parseConnectionString(AZURE)).toEqual({
      ok: true,
      value: {
        endpoint: { scheme: 'sb', host: 'relay.example.com', port: 443 },
        sharedAccessKeyName: 'listenRule',
        sharedAccessKey: KEY,
        entityPath: 'hyco',
      },
    });
  });

  test('reads keys in any case, in any order, with white space and empty parts around', () => {
    expect(
      parseConnectionString(
        ` entitypath = a/b ;;ENDPOINT=SB://Relay.Example.COM:8443;sharedaccesssignature=SharedAccessSignature sr=x&sig=y; `,
      ),
    ).toEqual({
      ok: true,
      value: {
        endpoint: { scheme: 'sb', host: 'relay.example.com', port: 8_443 },
        entityPath: 'a/b',
        sharedAccessSignature: 'SharedAccessSignature sr=x&sig=y',
      },
    });
  });

  test.each([
    ['sb://relay.example.com/', 'https://relay.example.com:443', 'wss://relay.example.com:443'],
    ['sb://localhost:8080', 'https://localhost:8080', 'wss://localhost:8080'],
    ['https://localhost:8443/', 'https://localhost:8443', 'wss://localhost:8443'],
    ['http://127.0.0.1:8080', 'http://127.0.0.1:8080', 'ws://127.0.0.1:8080'],
    ['http://localhost', 'http://localhost:80', 'ws://localhost:80'],
    ['http://[::1]:8080/', 'http://[::1]:8080', 'ws://[::1]:8080'],
  ])('takes %s for an endpoint', (endpoint, http, webSocket) => {
    const parsed = parseConnectionString(`Endpoint=${endpoint}`);
    if (!parsed.ok) throw new Error(parsed.faults.join('; '));
    expect(httpOrigin(parsed.value.endpoint)).toBe(http);
    expect(webSocketOrigin(parsed.value.endpoint)).toBe(webSocket);
  });

  test.each([
    ['00:01:00', 60_000],
    ['1.02:03:04.5', 93_784_500],
    ['00:00:00.0010000', 1],
    ['01:30', 5_400_000],
    ['70', 70_000],
  ])('reads the time-out %s', (text, operationTimeoutMs) => {
    expect(parseConnectionString(`Endpoint=sb://h/;OperationTimeout=${text}`)).toEqual({
      ok: true,
      value: { endpoint: { scheme: 'sb', host: 'h', port: 443 }, operationTimeoutMs },
    });
  });

  test.each([
    'relay.example.com',
    'ws://h',
    'sb://',
    'sb://h/hyco',
    'sb://u@h/',
    'sb://h:0/',
    'sb://h:65536/',
  ])('refuses the endpoint %s', endpoint => {
    expect(faultsOf(`Endpoint=${endpoint}`)).toEqual([
      'Endpoint must be sb://HOST[:PORT]/, https://… or http://…',
    ]);
  });

  test('tells all faults at once, none of them with a value', () => {
    const faults = faultsOf(
      `Endpoint=sb://h/x;Endpoint=sb://h/;SharedAccessKey=${KEY};EntityPath=/secret;OperationTimeout=secret;` +
        'SharedAccessSignature=secret;Authentication=Managed Identity;Password=secret;SharedAccessKeyName=',
    );
    expect(faults).toHaveLength(9);
    expect(faults.join()).not.toMatch(/secret|MDEy/);
  });

  test.each([
    ['', 'Endpoint is missing'],
    [
      'Endpoint=sb://h/;SharedAccessKeyName=r',
      'SharedAccessKeyName and SharedAccessKey must be given together',
    ],
    [
      `Endpoint=sb://h/;SharedAccessKeyName=r;SharedAccessKey=${'k'.repeat(257)}`,
      'SharedAccessKey is longer than 256 characters',
    ],
    [
      'Endpoint=sb://h/;OperationTimeout=00:60:00',
      'OperationTimeout must be a time such as 00:01:00, or whole seconds',
    ],
  ])('says of "%s" what is wrong', (text, fault) => {
    expect(faultsOf(text)).toEqual([fault]);
  });

  test('never throws', () => {
    const part = fc.oneof(
      fc.constantFrom(
        'Endpoint=',
        'sb://h/',
        ';',
        '=',
        'EntityPath',
        'OperationTimeout=',
        '1.',
        '00:',
      ),
      fc.string({ unit: 'binary', maxLength: 5 }),
    );
    fc.assert(
      fc.property(fc.array(part), parts => {
        const parsed = parseConnectionString(parts.join(''));
        expect(parsed.ok || parsed.faults.length > 0).toBe(true);
      }),
    );
  });
});

test('formatConnectionString() writes what parseConnectionString() reads', () => {
  const text = fc.stringMatching(/^[!-:<-~]{1,20}$/);
  const endpoint = fc.record({
    scheme: fc.constantFrom('sb', 'https', 'http'),
    host: fc.constantFrom('relay.example.com', '127.0.0.1', '[::1]'),
    port: fc.oneof(fc.constantFrom(80, 443), fc.integer({ min: 1, max: 65_535 })),
  });
  const optional = {
    entityPath: fc.constantFrom('hyco', 'a/b'),
    operationTimeoutMs: fc.integer({ min: 0, max: 8_000_000_000 }),
  };
  const value = fc.oneof(
    fc.record({ endpoint, ...optional }, { requiredKeys: ['endpoint'] }),
    fc.record({ endpoint, sharedAccessSignature: text }),
    fc.record({ endpoint, sharedAccessKeyName: text, sharedAccessKey: text }),
  );
  fc.assert(
    fc.property(value, connection => {
      expect(parseConnectionString(formatConnectionString(connection))).toEqual({
        ok: true,
        value: connection,
      });
    }),
  );
  const parsed = parseConnectionString(AZURE);
  if (!parsed.ok) throw new Error(parsed.faults.join('; '));
  expect(formatConnectionString(parsed.value)).toBe(AZURE);
});
