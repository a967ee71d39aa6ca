import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { optionList, OPTIONS } from '../../src/config/options.ts';

// What the shipped files say must fit the relay's own defaults; no program would notice when it did not.

const ROOT = join(import.meta.dirname, '../..');
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

/** The only group of the only match. */
function captured(text: string, pattern: RegExp): string {
  const matches = [...text.matchAll(new RegExp(pattern, 'gm'))];
  expect(matches, String(pattern)).toHaveLength(1);
  return matches[0]?.[1] ?? '';
}

const DRAIN_MS = OPTIONS.drainDelayMs.default + OPTIONS.drainTimeoutMs.default;
const ANSWER_MS = Math.max(
  OPTIONS.requestTimeoutMs.default,
  OPTIONS.responseIdleTimeoutMs.default,
  OPTIONS.acceptTimeoutMs.default,
);

test('HAProxy waits longer for an answer than the relay itself', () => {
  const config = read('deploy/haproxy.cfg');
  expect(Number(captured(config, /^ +timeout server (\d+)s$/)) * 1000).toBeGreaterThan(ANSWER_MS);
  expect(Number(captured(config, /^ +timeout client (\d+)s$/)) * 1000).toBeGreaterThan(ANSWER_MS);
});

test('HAProxy notices a drain before the port closes', () => {
  const check = read('deploy/haproxy.cfg');
  const interval = Number(captured(check, /^ +server .* inter (\d+)ms/));
  const fall = Number(captured(check, /^ +server .* fall (\d+)/));
  // One interval more, because the drain can begin just after a check.
  expect(interval * (fall + 1)).toBeLessThan(OPTIONS.drainDelayMs.default);
});

test('systemd leaves time for a whole drain', () => {
  const seconds = Number(captured(read('deploy/halfway.service'), /^TimeoutStopSec=(\d+)$/));
  expect(seconds * 1000).toBeGreaterThan(DRAIN_MS + 5_000);
});

test('the receive buffer stays below what uWebSockets.js reads at once', () => {
  const most = captured(read('deploy/99-halfway.conf'), /^net\.ipv4\.tcp_rmem = \d+ \d+ (\d+)$/);
  expect(Number(most)).toBeLessThan(512 * 1024);
});

test('the image and the README look for the configuration in the same place', () => {
  const place = captured(read('Dockerfile'), /HALFWAY_CONFIG=(\S+)/);
  expect(read('README.md')).toContain(place);
  expect(read('deploy/README.md')).toContain(place);
});

test('the image is told its ports where the relay listens', () => {
  expect(Number(captured(read('Dockerfile'), /^EXPOSE (\d+)$/))).toBe(OPTIONS.port.default);
});

/** Variables of the balancers' and the test scripts' own. */
const NOT_THE_RELAYS = /^HALFWAY_(BIND|CERT|NODE|STATS|MAXCONN|CONNECTION_STRING(_FILE)?)$/;

test.each([
  'Dockerfile',
  ...readdirSync(join(ROOT, 'deploy'), { recursive: true, encoding: 'utf8' })
    .filter(path => path.includes('.'))
    .map(path => `deploy/${path}`),
])('%s names only variables that there are', path => {
  const variables = new Set(
    optionList.flatMap(({ env, secret }) => (secret === true ? [env, `${env}_FILE`] : [env])),
  );
  const named = new Set(read(path).match(/HALFWAY_[A-Z_]*[A-Z]/g));
  const foreign = [...named].filter(name => !NOT_THE_RELAYS.test(name));
  expect(foreign.filter(name => !variables.has(name))).toEqual([]);
});
