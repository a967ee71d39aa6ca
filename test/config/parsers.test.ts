import { describe, expect, test } from 'vitest';
import {
  addressRanges,
  hostNames,
  hostSuffix,
  hostToBind,
  isLoopback,
  origin,
} from '../../src/config/parsers.ts';
import { wholeNumber, yesOrNo } from '../../src/config/parsers.ts';

function isTaken(parsed: object): boolean {
  return 'value' in parsed;
}

describe('origin()', () => {
  test.each([
    ['https://relay.example.com', 'https://relay.example.com'],
    ['wss://relay.example.com:8443/', 'wss://relay.example.com:8443'],
    ['http://[::1]:80', 'http://[::1]'],
  ])('takes %s', (text, value) => expect(origin(text)).toEqual({ value }));

  test.each([
    'relay.example.com',
    'ftp://host',
    'https://host/path',
    'https://host/?q',
    'https://u@h',
  ])('refuses %s', text => expect(isTaken(origin(text))).toBe(false));
});

test.each(['Relay.example.com', '*.relay.example.com', '.relay.example.com'])(
  'hostSuffix() takes %s',
  text => expect(hostSuffix(text)).toEqual({ value: 'relay.example.com' }),
);

test.each(['', '*', '*.', 'a b', '10.0.0.1', 'https://relay.example.com', 'a.*.b', 'host:443'])(
  'hostSuffix() refuses "%s"',
  text => expect(isTaken(hostSuffix(text))).toBe(false),
);

describe('hostNames()', () => {
  test.each([
    ['Portal.Example.com.', ['portal.example.com']],
    ['portal.example.com, p.example.org ,', ['portal.example.com', 'p.example.org']],
    ['a.example,A.example', ['a.example']],
    ['', []],
  ])('takes "%s"', (text, value) => expect(hostNames(text)).toEqual({ value }));

  test.each(['portal.example.com:443', 'https://portal', '*.example.com', 'a..b', '[::1]', '.'])(
    'refuses %s among others',
    text =>
      expect(hostNames(`good.example,${text}`)).toEqual({
        fault: expect.stringMatching(/^must be host names .*, without a port, got "[^,]*"$/),
      }),
  );
});

describe('addressRanges()', () => {
  test.each(['10/8', '10.0.0.0/33', '010.0.0.1', 'proxy', '::1/129', '1.2.3.4/8/8'])(
    'refuses %s',
    text => expect(addressRanges(text)).toEqual({ fault: expect.stringContaining(`"${text}"`) }),
  );

  test('unmaps IPv4 in IPv6', () => {
    expect(addressRanges('::ffff:10.0.0.1')).toEqual({ value: ['10.0.0.1/32'] });
  });
});

test.each(['127.0.0.1', '127.9.9.9', '::1', 'LocalHost', '::ffff:127.0.0.1'])(
  'isLoopback() knows %s',
  host => expect(isLoopback(host)).toBe(true),
);

test.each(['0.0.0.0', '::', '10.0.0.1', 'example.com', '127'])(
  'isLoopback() does not trust %s',
  host => expect(isLoopback(host)).toBe(false),
);

test.each(['', 'a b', 'http://x', '-x', 'x:80'])('hostToBind() refuses "%s"', text =>
  expect(isTaken(hostToBind(text))).toBe(false),
);

test.each(['', '-1', '1.5', '1e3', '0x10', ' 1', '9'.repeat(17)])(
  'wholeNumber() refuses "%s"',
  text => expect(isTaken(wholeNumber(0, 10_000)(text))).toBe(false),
);

test('yesOrNo() refuses what YAML 1.1 took for a boolean', () => {
  expect(isTaken(yesOrNo('yes'))).toBe(false);
});
