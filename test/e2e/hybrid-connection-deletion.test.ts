// What a deletion by the management API means to those who are connected.
import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import HycoWs from 'hyco-ws';
import { describe, expect, test } from 'vitest';
import WebSocket from 'ws';
import { dialListener, dialSender, openListener } from '../support/azure-clients.ts';
import { DATA_PLANES } from '../support/data-planes.ts';
import { closeOf, listen, responseText } from '../support/http-listener.ts';
import { headOf, openRequest, send, wholeOf } from '../support/http-sender.ts';
import { callApi, createHybridConnection } from '../support/management.ts';
import { open } from '../support/raw-websocket.ts';
import { ROOT_KEY, startRelay, type TestRelay } from '../support/relay.ts';
import { until, within } from '../support/within.ts';

const DELETED = 'The hybrid connection was deleted';
/** Larger than what travels on the control channel, so that the listener has to dial. */
const LONG = Buffer.alloc(100_000, 'x');

async function startWithTemp(dataPlane: 'native' | 'messages' = 'native'): Promise<TestRelay> {
  const relay = await startRelay({ dataPlane });
  await createHybridConnection(relay, 'temp');
  return relay;
}

async function deleteTemp(relay: TestRelay): Promise<void> {
  const { status } = await callApi(relay, 'DELETE', '/hybridConnections/temp');
  expect(status).toBe(200);
}

describe.each(DATA_PLANES)('a deleted hybrid connection on $dataPlane', ({ dataPlane }) => {
  test('closes the control channel and both ends of a pair of hyco-ws with 1001', async () => {
    await using relay = await startWithTemp(dataPlane);
    const uri = `http://127.0.0.1:${relay.port}/temp`;
    const token = HycoWs.createRelayToken(uri, 'root', ROOT_KEY);
    const server = HycoWs.createRelayedServer({
      server: `${relay.wsUrl}/$hc/temp?sb-hc-action=listen`,
      token: () => token,
    });
    const accepted = new Promise<InstanceType<typeof HycoWs>>(resolve => {
      server.once('connection', resolve);
    });
    await within('the listener', once(server, 'listening'));
    const sender = HycoWs.relayedConnect(`${relay.wsUrl}/$hc/temp?sb-hc-action=connect`, token);
    await within('the sender', once(sender, 'open'));
    const listener = await within('the accepted end', accepted);

    const closes = Promise.all(
      [sender, listener, server.controlChannel].map(socket => once(socket, 'close')),
    );
    // Otherwise the package opens its control channel again, and again.
    server.closeRequested = true;
    await deleteTemp(relay);
    const codes = (await within('the closes', closes)).map(([code]: unknown[]) => code);
    expect(codes).toEqual([1001, 1001, 1001]);
    await until('nobody is left', () => relay.server.status().senders === 0);
    expect(relay.server.status()).toMatchObject({ listeners: 0, waitingSenders: 0 });
    server.close(() => {});
  });

  test('closes a pair of ws with 1001 and a reason that says why', async () => {
    await using relay = await startWithTemp(dataPlane);
    const control = await openListener(relay, 'temp');
    const sender = new WebSocket(`${relay.wsUrl}/$hc/temp?sb-hc-action=connect`, {
      headers: { ServiceBusAuthorization: relay.token('temp') },
    });
    const listener = new WebSocket((await control.nextAccept()).address);
    await Promise.all([once(sender, 'open'), once(listener, 'open')]);
    const closes = Promise.all([closeOf(sender), closeOf(listener)]);
    await deleteTemp(relay);
    const close = { code: 1001, reason: DELETED };
    expect(await closes).toEqual([close, close]);
    expect(await control.control.nextClose()).toEqual(close);
    expect(await relay.metric('halfway_listener_disconnects_total{reason="deleted"}')).toBe(1);
  });
});

describe('a deleted hybrid connection', () => {
  test('refuses a waiting sender with 404, and its address is void', async () => {
    await using relay = await startWithTemp();
    const control = await openListener(relay, 'temp');
    const dialling = dialSender(relay, 'temp');
    const { address } = await control.nextAccept();
    await deleteTemp(relay);
    const { status, reason } = await dialling.answer;
    expect(status).toBe(404);
    expect(reason).toMatch(/^Endpoint does not exist\. TrackingId:/);
    await expect(open(address)).rejects.toThrow('403');
    expect(relay.server.status()).toMatchObject({ senders: 0, waitingSenders: 0 });
  });

  test('refuses a request that has no answer yet with 404', async () => {
    await using relay = await startWithTemp();
    await using listener = await listen(relay, { path: 'temp' });
    const answer = send(relay, '/temp/x');
    await listener.next();
    await deleteTemp(relay);
    expect((await answer).status).toBe(404);
  });

  test('closes the rendezvous of a request with 1001', async () => {
    await using relay = await startWithTemp();
    await using listener = await listen(relay, { path: 'temp', fetches: false });
    const answer = send(relay, '/temp/x', { method: 'POST', body: LONG });
    const rendezvous = await listener.dial(await listener.pointers.next());
    const close = closeOf(rendezvous);
    await deleteTemp(relay);
    expect(await close).toEqual({ code: 1001, reason: DELETED });
    expect((await answer).status).toBe(404);
  });

  test('breaks an answer that has begun, so that nobody takes it for whole', async () => {
    await using relay = await startWithTemp();
    await using listener = await listen(relay, { path: 'temp' });
    const request = openRequest(relay, '/temp/x', { method: 'POST' });
    const head = headOf(request);
    request.end(LONG);
    const received = await listener.next();
    received.channel.send(responseText(received.id, { body: 'begin' }));
    received.channel.send(Buffer.from('begin'), { binary: true, fin: false });
    const whole = wholeOf(await head);
    const close = closeOf(received.channel);
    await deleteTemp(relay);
    await expect(whole).rejects.toThrow();
    expect((await close).code).toBe(1001);
  });

  test('refuses a request whose body was still on its way', async () => {
    await using relay = await startWithTemp();
    await using listener = await listen(relay, { path: 'temp' });
    const headers = { 'Content-Length': '10' };
    const request = openRequest(relay, '/temp/x', { method: 'POST', headers });
    const head = headOf(request);
    request.write('half ');
    // Admitted, and its body due: nothing tells the outside so.
    await pause(50);
    await deleteTemp(relay);
    request.end('other');
    expect((await head).statusCode).toBe(404);
    expect(listener.requests.size).toBe(0);
  });

  test('is unknown from then on, and as new when it is created again', async () => {
    await using relay = await startWithTemp();
    const control = await openListener(relay, 'temp');
    await deleteTemp(relay);
    await control.control.nextClose();
    expect((await dialListener(relay, 'temp').answer).status).toBe(404);
    expect((await dialSender(relay, 'temp').answer).status).toBe(404);
    await createHybridConnection(relay, 'temp');
    const again = await openListener(relay, 'temp');
    const dialling = dialSender(relay, 'temp');
    await again.acceptNext();
    expect((await dialling.answer).status).toBe(101);
    const { body } = await callApi(relay, 'GET', '/hybridConnections/temp');
    expect(body).toMatchObject({ properties: { listenerCount: 1 } });
  });

  test('of the emulator comes back when a listener opens it again', async () => {
    await using relay = await startRelay({ autoCreate: true });
    const control = await openListener(relay, 'hello');
    const { body } = await callApi(relay, 'GET', '/hybridConnections/hello');
    expect(body).toMatchObject({ properties: { definedBy: 'auto-created', listenerCount: 1 } });
    expect((await callApi(relay, 'DELETE', '/hybridConnections/hello')).status).toBe(200);
    expect((await control.control.nextClose()).code).toBe(1001);
    await openListener(relay, 'hello');
  });
});
