// Limits and counts of one process, as HTTP senders see them.
import { describe, expect, test } from 'vitest';
import { listen } from '../support/http-listener.ts';
import { send, readInformation, textOf } from '../support/http-sender.ts';
import { startRelay } from '../support/relay.ts';

describe('refusals', () => {
  test('a listener too many is told so, senders too many as well', async () => {
    await using relay = await startRelay({ sendersMax: 2 });
    await using listener = await listen(relay);
    const held = [send(relay, '/hyco'), send(relay, '/hyco')];
    const requests = [await listener.next(), await listener.next()];
    const answer = await send(relay, '/hyco');
    expect(answer.status).toBe(503);
    expect(textOf(answer)).toMatch(/^QuotaExceeded: /);
    for (const request of requests) listener.answer(request);
    await Promise.all(held);
    const again = send(relay, '/hyco');
    listener.answer(await listener.next());
    expect((await again).status).toBe(200);
  });
});

describe('runtime information', () => {
  test('is read with Manage, from the relay and not from a listener', async () => {
    await using relay = await startRelay();
    await using listener = await listen(relay);
    const answer = await readInformation(relay, 'hyco', relay.token());
    expect(answer.status).toBe(200);
    expect(answer.headers['content-type']).toMatch(/^application\/atom\+xml;type=entry/);
    expect(answer.body.toString()).toContain('<ListenerCount>1</ListenerCount>');
    expect(answer.body.toString()).toContain(
      '<RequiresClientAuthorization>true</RequiresClientAuthorization>',
    );
    expect(listener.requests.size).toBe(0);
    expect((await readInformation(relay, 'open', relay.token('open'))).body.toString()).toContain(
      '<RequiresClientAuthorization>false</RequiresClientAuthorization>',
    );
  });
});
