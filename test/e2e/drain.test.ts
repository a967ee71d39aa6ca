import { expect, test } from 'vitest';
import { dialListener, dialSender, joinPair, openListener } from '../support/azure-clients.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { startRelay, type TestRelay } from '../support/relay.ts';
import { until } from '../support/within.ts';

const DRAIN = { drainDelayMs: 2_000, drainTimeoutMs: 30_000 };

/** Lets time pass until the drain is over, as the event loop turns. */
async function passTime(clock: FakeClock, drained: Promise<void>, stepMs: number): Promise<void> {
  let isOver = false;
  void drained.then(() => (isOver = true));
  await until('the drain is over', async () => {
    clock.advance(stepMs);
    await new Promise(setImmediate);
    return isOver;
  });
}

const isReady = async (relay: TestRelay): Promise<number> =>
  (await fetch(`${relay.adminUrl}/readyz`)).status;

test('a drain says so at once, and takes new work until balancers have noticed', async () => {
  const clock = new FakeClock();
  await using relay = await startRelay(DRAIN, { clock });
  const listener = await openListener(relay);
  expect(await isReady(relay)).toBe(200);
  const drained = relay.server.drain();
  expect(await isReady(relay)).toBe(503);
  const dialling = dialSender(relay);
  const rendezvous = await listener.acceptNext();
  const { socket: sender } = await dialling.answer;
  expect((await dialListener(relay).answer).status).toBe(101);
  sender?.sendClose(1000);
  rendezvous.sendClose(1000);
  sender?.fin();
  rendezvous.fin();
  await passTime(clock, drained, 100);
});

test('a drain moves listeners with 1001, one after another, and waits for joined pairs', async () => {
  const clock = new FakeClock();
  await using relay = await startRelay(DRAIN, { clock });
  const pair = await joinPair(relay);
  const others = [await openListener(relay), await openListener(relay), await openListener(relay)];
  const drained = relay.server.drain();
  clock.advance(DRAIN.drainDelayMs);
  await new Promise(setImmediate);
  clock.advance(0);
  const closes = [pair.control, ...others].map(({ control }) => control.nextClose());
  expect(await closes[0]).toEqual({
    code: 1001,
    reason: 'The relay is shutting down; connect again',
  });
  expect(relay.server.status().listeners).toBe(3);
  clock.advance(DRAIN.drainTimeoutMs / 4);
  expect((await Promise.all(closes)).map(({ code }) => code)).toEqual([1001, 1001, 1001, 1001]);

  pair.sender.send('not done yet');
  expect(await pair.listener.nextText()).toBe('not done yet');
  pair.sender.sendClose(1000, 'done');
  expect(await pair.listener.nextClose()).toEqual({ code: 1000, reason: 'done' });
  pair.listener.sendClose(1000);
  pair.sender.fin();
  pair.listener.fin();
  await passTime(clock, drained, 100);
  expect(relay.server.status().senders).toBe(0);
});

test('nobody new gets in while it drains', async () => {
  const clock = new FakeClock();
  await using relay = await startRelay(DRAIN, { clock });
  await joinPair(relay);
  const drained = relay.server.drain();
  clock.advance(DRAIN.drainDelayMs);
  await new Promise(setImmediate);
  for (const dialling of [dialListener(relay), dialSender(relay)]) {
    const outcome = await dialling.answer.then(
      ({ status }) => status,
      () => 'cut',
    );
    expect(['cut', 503]).toContain(outcome);
  }
  await passTime(clock, drained, 1_000);
});

test('a drain cuts what is left at its deadline', async () => {
  const clock = new FakeClock();
  await using relay = await startRelay(DRAIN, { clock });
  const pair = await joinPair(relay);
  const drained = relay.server.drain();
  await passTime(clock, drained, 1_000);
  await pair.sender.ended();
  await pair.listener.ended();
});
