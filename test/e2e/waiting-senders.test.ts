import { describe, expect, test } from 'vitest';
import { LISTENER_LOSS_GRACE_MS } from '../../src/relay/limits.ts';
import { dialSender, openListener } from '../support/azure-clients.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { dial, open } from '../support/raw-websocket.ts';
import { startRelay } from '../support/relay.ts';
import { until } from '../support/within.ts';

const ACCEPT_TIMEOUT_MS = 30_000;
const TIMEOUT = { acceptTimeoutMs: ACCEPT_TIMEOUT_MS };

describe('a sender whose listener', () => {
  test('does not dial gets 504 when its wait is over, and the address is void', async () => {
    const clock = new FakeClock();
    await using relay = await startRelay(TIMEOUT, { clock });
    const control = await openListener(relay);
    const dialling = dialSender(relay);
    const { address } = await control.nextAccept();
    clock.advance(ACCEPT_TIMEOUT_MS);
    const answer = await dialling.answer;
    expect(answer.status).toBe(504);
    expect(answer.reason).toMatch(
      /^The listener did not rendezvous to accept the request within the allotted time\. TrackingId:/,
    );
    const late = await dial(address).answer;
    expect(late.status).toBe(403);
    expect(late.reason).toMatch(/^Unknown Connection ID: .*accepting too late/);
    expect(relay.server.status()).toMatchObject({ senders: 0, waitingSenders: 0 });
    expect(
      await relay.metric('halfway_refusals_total{reason="listener-silent",role="sender"}'),
    ).toBe(1);
  });

  test('does not dial is put before the next one, and the first address is void', async () => {
    const clock = new FakeClock();
    await using relay = await startRelay(TIMEOUT, { clock });
    const one = (await openListener(relay)).nextAccept();
    const two = (await openListener(relay)).nextAccept();
    const dialling = dialSender(relay);
    const [asked, next] = await Promise.race([
      one.then(accept => [accept, two] as const),
      two.then(accept => [accept, one] as const),
    ]);
    clock.advance(ACCEPT_TIMEOUT_MS / 3);
    const { address } = await next;
    expect((await dial(asked.address).answer).status).toBe(403);
    await open(address);
    expect((await dialling.answer).status).toBe(101);
  });

  test('goes away is put before another at once', async () => {
    await using relay = await startRelay(TIMEOUT);
    const first = await openListener(relay);
    const dialling = dialSender(relay);
    await first.nextAccept();
    const second = await openListener(relay);
    await first.control.reset();
    await second.acceptNext();
    expect((await dialling.answer).status).toBe(101);
  });

  test('comes back is put before it again', async () => {
    const clock = new FakeClock();
    await using relay = await startRelay(TIMEOUT, { clock });
    const first = await openListener(relay);
    const dialling = dialSender(relay);
    await first.nextAccept();
    await first.control.reset();
    await until('the listener is gone', () => relay.server.status().listeners === 0);
    const again = await openListener(relay);
    clock.advance(LISTENER_LOSS_GRACE_MS);
    await again.acceptNext();
    expect((await dialling.answer).status).toBe(101);
  });

  test('goes away can still be accepted by it', async () => {
    await using relay = await startRelay(TIMEOUT);
    const first = await openListener(relay);
    const dialling = dialSender(relay);
    const { address } = await first.nextAccept();
    await first.control.reset();
    await until('the listener is gone', () => relay.server.status().listeners === 0);
    await open(address);
    expect((await dialling.answer).status).toBe(101);
  });

  test('goes away for good gets 502', async () => {
    const clock = new FakeClock();
    await using relay = await startRelay(TIMEOUT, { clock });
    const first = await openListener(relay);
    const dialling = dialSender(relay);
    await first.nextAccept();
    await first.control.reset();
    await until('the listener is gone', () => relay.server.status().listeners === 0);
    clock.advance(LISTENER_LOSS_GRACE_MS);
    const answer = await dialling.answer;
    expect(answer.status).toBe(502);
    expect(answer.reason).toMatch(/listener went away before it answered/);
  });
});

test.each(['with its handshake', 'while it waits'])(
  'a sender that speaks %s is cut, and nobody else notices',
  async when => {
    await using relay = await startRelay();
    const control = await openListener(relay);
    const early = Buffer.concat([Buffer.from([0x81, 0x85, 0, 0, 0, 0]), Buffer.from('early')]);
    const rude = dialSender(relay, 'hyco', when === 'while it waits' ? {} : { early });
    if (when === 'while it waits') {
      await control.nextAccept();
      rude.speak(early);
    }
    const outcome = await rude.answer.then(
      ({ status }) => status,
      () => 'cut',
    );
    expect(outcome).not.toBe(101);
    await until('the sender is forgotten', () => relay.server.status().waitingSenders === 0);
    // Whether it was announced before it spoke or not: an announcement of it leads nowhere.
    const polite = dialSender(relay, 'hyco/polite');
    let accept = await control.nextAccept();
    if (!accept.address.includes('/polite')) accept = await control.nextAccept();
    await open(accept.address);
    expect((await polite.answer).status).toBe(101);
  },
);

test('many senders wait at one listener, and each is joined with its own', async () => {
  await using relay = await startRelay();
  const control = await openListener(relay);
  const count = 200;
  const diallings = Array.from({ length: count }, (_, i) =>
    dialSender(relay, `hyco/${i}`, { query: `i=${i}` }),
  );
  const echoes = Array.from({ length: count }, async () => {
    const { address } = await control.nextAccept();
    const listener = await open(address);
    listener.send(/\?i=(\d+)&/.exec(address)?.[1] ?? 'none');
  });
  for (const [i, dialling] of diallings.entries()) {
    const { socket } = await dialling.answer;
    expect(await socket?.nextText()).toBe(String(i));
  }
  await Promise.all(echoes);
  expect(relay.server.status()).toMatchObject({ senders: count, waitingSenders: 0 });
});
