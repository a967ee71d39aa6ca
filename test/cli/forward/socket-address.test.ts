import { describe, expect, test } from 'vitest';
import {
  formatSocketAddress,
  parseSocketAddress,
} from '../../../src/cli/forward/socket-address.ts';

describe('parseSocketAddress()', () => {
  test.each([
    ['5432', { host: '127.0.0.1', port: 5432 }],
    ['0', { host: '127.0.0.1', port: 0 }],
    ['localhost:22', { host: 'localhost', port: 22 }],
    ['0.0.0.0:22', { host: '0.0.0.0', port: 22 }],
    ['[::1]:22', { host: '::1', port: 22 }],
    ['unix:/run/x.sock', { path: '/run/x.sock' }],
    ['unix:x:1', { path: 'x:1' }],
  ])('reads %s', (text, address) => {
    expect(parseSocketAddress(text)).toEqual(address);
  });

  test.each([
    '',
    ':22',
    'host',
    'host:',
    'host:x',
    'host:65536',
    '65536',
    '::1:22',
    '[::1]',
    'http://host:22',
    'unix:',
    `unix:/${'x'.repeat(107)}`,
  ])('refuses "%s"', text => {
    expect(parseSocketAddress(text)).toBeUndefined();
  });
});

test.each(['127.0.0.1:5432', '[::1]:22', 'unix:/run/x.sock'])(
  'formatSocketAddress() writes %s as it is read',
  text => {
    const address = parseSocketAddress(text);
    expect(address && formatSocketAddress(address)).toBe(text);
  },
);
