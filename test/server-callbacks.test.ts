import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:https';
import type { IncomingMessage } from 'node:http';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../src/base/clock.ts';
import { httpsCallbacks, isPublicAddress } from '../src/server-callbacks.ts';
import { makeCertificate } from './support/certificate.ts';
import { FakeClock } from './support/fake-clock.ts';

const certificate = makeCertificate();
const ca = readFileSync(certificate.certFile, 'utf8');
let server: Server;
let port: number;
let status: number | 'never';
let seen: { readonly request: IncomingMessage; readonly body: string }[];

beforeAll(async () => {
  const key = readFileSync(certificate.keyFile);
  server = createServer({ cert: ca, key }, (request, response) => {
    let body = '';
    request.on('data', chunk => (body += String(chunk)));
    request.on('end', () => {
      seen.push({ request, body });
      if (status === 'never') return;
      response.writeHead(status, { location: 'https://127.0.0.1/elsewhere' });
      response.end('x');
    });
  });
  await new Promise<void>(resolve => void server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  port = typeof address === 'object' ? (address?.port ?? 0) : 0;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
  certificate[Symbol.dispose]();
});
beforeEach(() => {
  status = 200;
  seen = [];
});

function leadsTo(...addresses: readonly string[]) {
  return () => Promise.resolve(addresses.map(address => ({ address, family: 4 })));
}

/** `localhost` of the certificate; where the name leads is the test's to say. */
function send(change: { path?: string; host?: string; options?: object } = {}) {
  const { path = '/done?x=1', host = 'localhost', options = {} } = change;
  const sender = httpsCallbacks({
    clock: systemClock,
    ca,
    resolve: leadsTo('127.0.0.1'),
    isAllowed: address => address === '127.0.0.1',
    ...options,
  });
  const headers = { 'content-type': 'application/json', 'webhook-id': 'r1' };
  const url = `https://${host}:${port}${path}`;
  return sender.send({ url, headers, body: '{"a":"ü"}', timeoutMs: 5_000 });
}

describe('httpsCallbacks()', () => {
  test('posts what it is given, with the name of the address and not its number', async () => {
    await expect(send()).resolves.toEqual({ type: 'answer', status: 200 });
    const [one] = seen;
    expect(one?.body).toBe('{"a":"ü"}');
    expect(one?.request).toMatchObject({ method: 'POST', url: '/done?x=1' });
    expect(one?.request.headers).toMatchObject({
      host: `localhost:${port}`,
      'webhook-id': 'r1',
      'content-length': '10',
    });
  });

  test('follows no redirect', async () => {
    status = 307;
    await expect(send()).resolves.toEqual({ type: 'answer', status: 307 });
    expect(seen).toHaveLength(1);
  });

  test('connects to nothing when one address of a name is not allowed', async () => {
    const resolve = leadsTo('127.0.0.1', '10.0.0.1');
    const refused = { type: 'fault', why: 'address-refused' };
    await expect(send({ options: { resolve } })).resolves.toEqual(refused);
    // As it is in a server: the guard itself, and a name that leads home.
    await expect(send({ options: { isAllowed: isPublicAddress } })).resolves.toEqual(refused);
    await expect(send({ options: { resolve: leadsTo() } })).resolves.toEqual(refused);
    expect(seen).toEqual([]);
  });

  test('checks addresses that stand in the URL, however they are written', async () => {
    const options = { isAllowed: isPublicAddress, resolve: undefined };
    for (const host of ['127.0.0.1', '0x7f.1', '2130706433', '[::1]', '[::ffff:127.0.0.1]']) {
      await expect(send({ host, options }), host).resolves.toEqual({
        type: 'fault',
        why: 'address-refused',
      });
    }
    expect(seen).toEqual([]);
  });

  test('goes to the address that was checked, not to where the name leads by then', async () => {
    let times = 0;
    const resolve = () => {
      times += 1;
      return Promise.resolve([{ address: '127.0.0.2', family: 4 }]);
    };
    // The system would find the server under this name; at the address that was checked there is none.
    const options = { resolve, isAllowed: () => true };
    await expect(send({ host: 'localhost', options })).resolves.toEqual({
      type: 'fault',
      why: 'unreachable',
    });
    expect(seen).toEqual([]);
    expect(times).toBe(1);
  });

  test('takes no certificate of another name or of nobody', async () => {
    const unreachable = { type: 'fault', why: 'unreachable' };
    await expect(send({ host: 'example.test' })).resolves.toEqual(unreachable);
    await expect(send({ options: { ca: undefined } })).resolves.toEqual(unreachable);
    expect(seen).toEqual([]);
  });

  test('says what went wrong', async () => {
    const unknown = { resolve: () => Promise.reject(new Error('ENOTFOUND')) };
    await expect(send({ options: unknown })).resolves.toEqual({
      type: 'fault',
      why: 'name-unknown',
    });
    status = 'never';
    const clock = new FakeClock();
    const late = send({ options: { clock } });
    await expect.poll(() => seen.length).toBe(1);
    clock.advance(5_000);
    await expect(late).resolves.toEqual({ type: 'fault', why: 'timeout' });
  });
});

describe('isPublicAddress()', () => {
  test.each(['93.184.216.34', '8.8.8.8', '2606:2800:220:1::1', '::ffff:8.8.8.8'])(
    'takes %s',
    address => expect(isPublicAddress(address)).toBe(true),
  );

  test.each([
    '127.0.0.1',
    '::7f00:1',
    '::127.0.0.1',
    '4000::1',
    '127.8.8.8',
    '0.0.0.0',
    '10.1.2.3',
    '172.16.0.1',
    '172.31.255.255',
    '192.168.1.1',
    '169.254.169.254',
    '100.64.0.1',
    '224.0.0.1',
    '240.0.0.1',
    '255.255.255.255',
    '192.0.2.1',
    '198.18.0.1',
    '::',
    '::1',
    'fe80::1',
    'fe80::1%eth0',
    'fc00::1',
    'fd12:3456::1',
    'ff02::1',
    '::ffff:127.0.0.1',
    '::ffff:a9fe:a9fe',
    '::127.0.0.1',
    '64:ff9b::7f00:1',
    '2002:7f00:1::1',
    '2001:db8::1',
    'localhost',
    '',
    '2130706433',
  ])('refuses %s', address => expect(isPublicAddress(address)).toBe(false));
});
