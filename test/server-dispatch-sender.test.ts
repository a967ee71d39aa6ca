import { expect, test } from 'vitest';
import { Problem } from '../src/dispatch/problem.ts';
import type { RefusalReason } from '../src/protocol/refusals.ts';
import { relayHttp, type AdmittedHttp } from '../src/relay/http-relaying.ts';
import type { HttpSender, Refused, RelayRequest } from '../src/relay/ports.ts';
import { RelayedRequest } from '../src/relay/relayed-request.ts';
import { RelayMachineSender } from '../src/server-dispatch-sender.ts';
import { hybridConnection } from './support/control-channels.ts';
import { FakeClock } from './support/fake-clock.ts';
import { CountingRandomness, FakeChannel, pendingOffer } from './support/relay-doubles.ts';
import { silentLogger } from './support/silent-logger.ts';

const LIMITS = {
  acceptTimeoutMs: 30_000,
  requestTimeoutMs: 60_000,
  responseIdleTimeoutMs: 60_000,
  controlMessageBytesMax: 65_536,
};

function refusal(reason: RefusalReason): Refused {
  return { reason, status: 500, text: reason };
}

/** The relay as far as a sender sees it; the test answers in the listener's place. */
function bench(options: { readonly refuses?: RefusalReason } = {}) {
  const clock = new FakeClock();
  const asked: { readonly request: RelayRequest; readonly method: string }[] = [];
  const offers: { readonly json: string; readonly body: Uint8Array | undefined }[] = [];
  let relayed: RelayedRequest | undefined;
  let gone = 0;
  const begin = (sender: HttpSender, offer: () => boolean): RelayedRequest => {
    relayed = new RelayedRequest(clock, sender, {
      id: pendingOffer().id,
      method: 'POST',
      viaHost: 'host',
      limits: LIMITS,
      traffic: new Float64Array(4),
      onDone: status => {
        if (status === undefined) gone += 1;
      },
      offer,
      refusal,
    });
    return relayed;
  };
  const entity = hybridConnection();
  entity.setElsewhere([
    {
      listenerId: 'one',
      origin: 'ws://host',
      outstanding: 0,
      offer: (_pending, json, body) => {
        offers.push({ json, body });
        return true;
      },
      settled: () => undefined,
    },
  ]);
  const sender = new RelayMachineSender({
    relay: {
      http(request, method): AdmittedHttp | Refused {
        asked.push({ request, method });
        if (options.refuses !== undefined) return refusal(options.refuses);
        return {
          relay: (http, body) =>
            relayHttp(body, {
              request,
              method,
              hybridConnection: entity,
              random: new CountingRandomness(),
              stripAuthorization: false,
              originFor: () => 'ws://host',
              begin: (_choice, offer) => begin(http, offer),
            }),
        };
      },
    },
    tokens: {
      mint: (path, right, seconds) =>
        path.endsWith('/gone')
          ? Promise.reject(new Problem('EndpointDoNotExist'))
          : Promise.resolve(`${right} ${path} ${seconds}`),
    },
    clock,
    log: silentLogger,
    host: 'relay.example.com',
  });
  const send = (body = '{}', machineId = 'one') =>
    sender.send({
      environment: 'dev',
      machineId,
      path: 'runs/r1',
      body,
      signature: 'signed',
      timeoutMs: 25_000,
    });
  return {
    clock,
    sender,
    asked,
    offers,
    send,
    relayed: () => relayed,
    /** Answers that did not come. */
    gone: () => gone,
  };
}

const RESPONSE = {
  type: 'response',
  requestId: pendingOffer().id,
  statusCode: 200,
  statusDescription: 'OK',
  responseHeaders: [],
  body: true,
} as const;

async function turn(): Promise<void> {
  await new Promise(resolve => void setImmediate(resolve));
}

test('send() asks the machine with a token to send there, and gives its answer', async () => {
  const { asked, offers, relayed, send } = bench();
  const sent = send('{"v":1}');
  await turn();
  relayed()?.answerInline(RESPONSE, Buffer.from('{"type":"accept"}'));
  expect(await sent).toEqual({ type: 'answer', status: 200, body: '{"type":"accept"}' });
  const [{ request, method } = { request: undefined, method: '' }] = asked;
  expect(method).toBe('POST');
  expect(request).toMatchObject({
    host: 'relay.example.com',
    query: { token: 'Send dev/m/one 600' },
    path: { segments: ['dev', 'm', 'one', 'runs', 'r1'] },
  });
  const [{ json, body } = { json: '', body: undefined }] = offers;
  expect(Buffer.from(body ?? []).toString()).toBe('{"v":1}');
  expect(JSON.parse(json)).toMatchObject({
    request: { requestHeaders: { 'Halfway-Signature': 'signed' } },
  });
});

test('send() lets the machine fetch an offer that is too long for a control channel', async () => {
  const { offers, relayed, send } = bench();
  const text = JSON.stringify({ inputs: 'x'.repeat(300_000) });
  const sent = send(text);
  await turn();
  expect(offers[0]?.body).toBeUndefined();
  const channel = new FakeChannel();
  relayed()?.dialled(channel);
  const [head = '', ...chunks] = channel.calls.filter(call => call.startsWith('send'));
  expect(head).toContain('"method":"POST"');
  expect(chunks.map(chunk => chunk.replace(/^send \d+ (?:more|fin) /, '')).join('')).toBe(text);
  relayed()?.answerInline(RESPONSE, Buffer.from('{}'));
  expect(await sent).toMatchObject({ type: 'answer', body: '{}' });
});

test('send() gathers an answer that comes in pieces', async () => {
  const { relayed, send } = bench();
  const sent = send();
  await turn();
  const channel = new FakeChannel();
  relayed()?.dialled(channel);
  const head = JSON.stringify({ response: { ...RESPONSE, responseHeaders: {}, statusCode: 409 } });
  channel.receiver?.fragment(1, true, Buffer.from(head));
  channel.receiver?.fragment(2, false, Buffer.from('{"a":'));
  channel.receiver?.fragment(0, true, Buffer.from('1}'));
  expect(await sent).toEqual({ type: 'answer', status: 409, body: '{"a":1}' });
});

test.each<[RefusalReason, string]>([
  ['endpoint-unknown', 'EndpointDoNotExist'],
  ['no-listener', 'NoListenerConnected'],
  ['overloaded', 'ConnectionNotEstablished'],
  ['draining', 'ConnectionNotEstablished'],
  ['signature-invalid', 'ConnectionNotEstablished'],
])('send() says for a refusal of %s that it did not come: %s', async (refuses, code) => {
  const { send } = bench({ refuses });
  expect(await send()).toEqual({ type: 'fault', code });
});

test('send() says that whether it came is not known when no answer comes in time', async () => {
  const { clock, send, gone } = bench();
  const sent = send();
  await turn();
  clock.advance(25_000);
  expect(await sent).toEqual({ type: 'fault', code: 'ConnectionTimeout' });
  expect(gone()).toBe(1);
  expect(clock.pendingTasks).toBe(0);
});

test('send() finds no endpoint where none is', async () => {
  const { send } = bench();
  expect(await send('{}', 'gone')).toEqual({ type: 'fault', code: 'EndpointDoNotExist' });
});

test('close() waits for nobody', async () => {
  const { sender, send } = bench();
  const sent = send();
  await turn();
  sender.close();
  expect(await sent).toEqual({ type: 'fault', code: 'ConnectionTimeout' });
});

test('echo() measures the round trip, and ends with whoever asked', async () => {
  const { asked, clock, relayed, sender } = bench();
  const heard = sender.echo('dev', 'one', new AbortController().signal);
  await turn();
  clock.advance(12);
  relayed()?.answerInline(RESPONSE, Buffer.from('hello'));
  expect(await heard).toEqual({ type: 'answer', status: 200, roundTripMs: 12 });
  expect(asked[0]).toMatchObject({
    method: 'GET',
    request: { path: { rawPath: 'dev/m/one/echo' } },
  });
  const asker = new AbortController();
  const unheard = sender.echo('dev', 'one', asker.signal);
  await turn();
  asker.abort();
  expect(await unheard).toEqual({ type: 'fault', code: 'ConnectionTimeout' });
});
