import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseRedisUrl } from '../../src/redis/redis-url.ts';

const LOOPBACK = { host: '127.0.0.1', port: 6379 };
const NONE = { tls: false, master: '', database: 0 };

describe('parseRedisUrl()', () => {
  test.each([
    [
      'redis://127.0.0.1',
      { ...NONE, kind: 'single', hosts: [LOOPBACK], shown: 'redis://127.0.0.1:6379' },
    ],
    [
      'rediss://r.example:1/2',
      {
        ...NONE,
        kind: 'single',
        tls: true,
        database: 2,
        hosts: [{ host: 'r.example', port: 1 }],
        shown: 'rediss://r.example:1/2',
      },
    ],
    [
      'redis://[::1]:7/',
      { ...NONE, kind: 'single', hosts: [{ host: '::1', port: 7 }], shown: 'redis://[::1]:7' },
    ],
    [
      'redis://u%40:p%3A%2F@127.0.0.1',
      {
        ...NONE,
        kind: 'single',
        hosts: [LOOPBACK],
        username: 'u@',
        password: 'p:/',
        shown: 'redis://127.0.0.1:6379',
      },
    ],
    [
      'redis://:secret@127.0.0.1',
      {
        ...NONE,
        kind: 'single',
        hosts: [LOOPBACK],
        password: 'secret',
        shown: 'redis://127.0.0.1:6379',
      },
    ],
    [
      'redis+sentinel://s1,s2:5/mymaster/3',
      {
        ...NONE,
        kind: 'sentinel',
        hosts: [
          { host: 's1', port: 26_379 },
          { host: 's2', port: 5 },
        ],
        master: 'mymaster',
        database: 3,
        shown: 'redis+sentinel://s1:26379,s2:5/mymaster/3',
      },
    ],
    [
      'rediss+cluster://u:p@c1:7000,c2',
      {
        ...NONE,
        kind: 'cluster',
        tls: true,
        hosts: [
          { host: 'c1', port: 7000 },
          { host: 'c2', port: 6379 },
        ],
        username: 'u',
        password: 'p',
        shown: 'rediss+cluster://c1:7000,c2:6379',
      },
    ],
  ])('reads %s', (url, target) => {
    expect(parseRedisUrl(url)).toEqual({ target });
  });

  test.each([
    ['http://127.0.0.1', 'must be redis[s]://'],
    ['redis://', 'must be redis[s]://'],
    ['redis://one,two', 'names several hosts'],
    ['redis://host:0', 'must name hosts'],
    ['redis://host:65536', 'must name hosts'],
    ['redis://host/x', 'whole number as database'],
    ['redis://host/1/2', 'whole number as database'],
    ['redis+sentinel://host', 'name of the master'],
    ['redis+cluster://host/1', 'database 0 only'],
    ['redis://u:%zz@host', 'percent-encoded'],
    [`redis+cluster://${'h,'.repeat(32)}h`, 'at most 32 hosts'],
  ])('refuses %s', (url, fault) => {
    expect(parseRedisUrl(url)).toEqual({ fault: expect.stringContaining(fault) });
  });

  test('never throws, and never shows what stands before the @', () => {
    const part = fc.stringMatching(/^[A-Za-z0-9%:,/?+-]{0,20}$/);
    const scheme = fc.constantFrom('redis', 'rediss', 'redis+sentinel', 'redis+cluster', 'x');
    fc.assert(
      fc.property(scheme, part, part, (name, before, after) => {
        const parsed = parseRedisUrl(`${name}://SECRET${before}@${after}`);
        const shown = 'fault' in parsed ? parsed.fault : parsed.target.shown;
        expect(shown).not.toContain('SECRET');
      }),
    );
  });
});
