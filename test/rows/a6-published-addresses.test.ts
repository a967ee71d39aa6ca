import { expect, test } from 'vitest';
import { commandResult } from '../cli/run-command.ts';
import { machineBench } from '../support/machine-bench.ts';
import { freePort } from '../support/ports.ts';

// Row A6: the endpoints and addresses of a deployment, served for firewalls, and tried by diagnosis.

async function diagnosed(endpoint: string) {
  const { out } = await commandResult(['machine', 'diagnose', '--json', '--endpoint', endpoint], {
    env: { HALFWAY_STATE_DIR: '/nonexistent' },
  });
  const { checks, destinations } = JSON.parse(out);
  const addresses = checks.find((one: { readonly check: string }) => one.check === 'addresses');
  return { addresses, destinations };
}

test('an operator publishes suffix and addresses, and diagnosis tries exactly that list', async () => {
  await using bench = await machineBench({
    relaySuffix: '*.relay.example.com',
    publishedAddresses: '127.0.0.0/8,127.0.0.9,::1,192.0.2.0/24',
  });
  const { port } = bench.relay;
  const { body } = await bench.person.call({ method: 'GET', path: '/endpoints' });
  expect(body).toEqual({
    relaySuffix: 'relay.example.com',
    host: '127.0.0.1',
    ports: [port],
    addresses: ['127.0.0.0/8', '127.0.0.9/32', '::1/128', '192.0.2.0/24'],
  });
  const { addresses, destinations } = await diagnosed(bench.relay.httpUrl);
  expect(addresses).toMatchObject({ outcome: 'OK' });
  expect(destinations).toEqual([
    { destination: `127.0.0.1:${port}`, state: 'Open' },
    // The relay listens on one address alone.
    { destination: `127.0.0.9:${port}`, state: 'Closed', why: expect.stringMatching(/refused/i) },
    { destination: `[::1]:${port}`, state: 'Closed', why: expect.any(String) },
    { destination: '192.0.2.0/24', state: 'Not tried', why: expect.stringContaining('127.0.0.1') },
  ]);
});

test('an address of the name that is not published is warned of: a firewall would block it', async () => {
  await using bench = await machineBench({ publishedAddresses: '192.0.2.0/24' });
  const { addresses } = await diagnosed(bench.relay.httpUrl);
  expect(addresses).toMatchObject({
    outcome: 'warning',
    text: '127.0.0.1 is 127.0.0.1, which 192.0.2.0/24 does not have',
    advice: expect.stringContaining('--published-addresses'),
  });
});

test('a port of the list that is closed is told so, with the public URL as what is published', async () => {
  const closed = await freePort();
  await using bench = await machineBench({ publicUrl: `http://localhost:${closed}` });
  const { body } = await bench.person.call({ method: 'GET', path: '/endpoints' });
  expect(body).toEqual({
    relaySuffix: 'localhost',
    host: 'localhost',
    ports: [closed],
    addresses: [],
  });
  const { addresses, destinations } = await diagnosed(bench.relay.httpUrl);
  expect(addresses).toBeUndefined();
  expect(destinations).toEqual([
    { destination: `localhost:${closed}`, state: 'Closed', why: expect.any(String) },
  ]);
});
