import { expect, test } from 'vitest';
import { isHostOf, portalFault } from '../../src/transports/portal-guard.ts';

const HOSTS = ['portal.example.com', 'p.example.org'];

test.each([
  'portal.example.com',
  'Portal.Example.COM',
  'portal.example.com.',
  'portal.example.com:8443',
  'PORTAL.example.com.:80',
  'p.example.org',
])('isHostOf() knows %s', host => expect(isHostOf(HOSTS, host)).toBe(true));

test.each(['', 'example.com', 'x.portal.example.com', 'portal.example.com.evil.test', '[::1]:80'])(
  'isHostOf() does not take "%s" for one of them',
  host => expect(isHostOf(HOSTS, host)).toBe(false),
);

test('portalFault() keeps hosts of the portal free of everything else, whatever a proxy says', () => {
  const guard = { hosts: HOSTS };
  expect(portalFault(guard, [['host', 'p.example.org']])).toBe('portal-host');
  const elsewhere = [
    ['host', 'relay.example.com'],
    ['x-forwarded-host', 'p.example.org'],
    ['service-worker', 'script'],
  ] as const;
  expect(portalFault(guard, elsewhere)).toBeUndefined();
});

test('portalFault() refuses scripts of service workers where the portal is at every host', () => {
  const guard = { hosts: [] };
  expect(portalFault(guard, [['service-worker', 'script']])).toBe('service-worker');
  expect(portalFault(guard, [['host', 'relay.example.com']])).toBeUndefined();
  expect(portalFault(undefined, [['service-worker', 'script']])).toBeUndefined();
});
