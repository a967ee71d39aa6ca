// Pairs of which one leg, or both, are long-poll sessions: what the other leg sees of it.
import { describe, expect, test } from 'vitest';
import { POLL_BATCH_FRAMES_MAX, POLL_FRAME_COST_BYTES } from '../../src/protocol/poll-frames.ts';
import { OPCODE } from '../../src/relay/ports.ts';
import { ChannelRecord } from '../conformance/channel.ts';
import { dialListener, dialSender, onlyListener, openListener } from '../support/azure-clients.ts';
import { HAS_NATIVE } from '../support/data-planes.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { callApi, createHybridConnection } from '../support/management.ts';
import { HttpSession, requestSession } from '../support/poll-http.ts';
import { joinPollPair, PollListener, untilNobody } from '../support/poll-listener.ts';
import type { RawWebSocket } from '../support/raw-websocket.ts';
import { startRelay, type RelayOptions, type TestRelay } from '../support/relay.ts';
import { until, within } from '../support/within.ts';

const CHUNK = Buffer.alloc(65_536, 'c');

/** A sender over a session, joined with a listener that has WebSockets. */
async function joinWithWebSocket(relay: TestRelay): Promise<{
  readonly sender: ChannelRecord;
  readonly session: HttpSession;
  readonly listener: RawWebSocket;
}> {
  const control = await onlyListener(relay);
  const opening = HttpSession.open(relay);
  const listener = await control.acceptNext();
  const session = await opening;
  return { sender: new ChannelRecord(session.channel()), session, listener };
}

function say(record: ChannelRecord, what: string): void {
  record.channel.send(OPCODE.text, true, Buffer.from(what));
}

const queuedBytes = (relay: TestRelay): Promise<number> =>
  relay.metric('halfway_poll_queued_bytes');

// Half-close and back-pressure take the native data plane on the other leg.
describe.runIf(HAS_NATIVE)('a session joined with a WebSocket', () => {
  test('a Close in one direction leaves the other one open, from either side', async () => {
    await using relay = await startRelay();
    const one = await joinWithWebSocket(relay);
    one.sender.channel.close(4001, 'only asking');
    expect(await one.listener.nextClose()).toEqual({ code: 4001, reason: 'only asking' });
    one.listener.send('the answer');
    one.listener.sendClose(4002, 'all said');
    await one.sender.had('gone');
    expect(one.sender.messages().map(({ payload }) => payload.toString())).toEqual(['the answer']);
    expect(one.sender.close()).toMatchObject({ code: 4002, reason: 'all said' });
    one.listener.fin();

    const other = await joinWithWebSocket(relay);
    other.listener.sendClose(4003, '');
    await other.sender.had('closed');
    say(other.sender, 'one more thing');
    expect(await other.listener.nextText()).toBe('one more thing');
    other.sender.channel.close(1000, '');
    expect(await other.listener.nextClose()).toMatchObject({ code: 1000 });
    other.listener.fin();
    await other.sender.had('gone');
    await untilNobody(relay);
  });

  test('a slow answer to the Close of a session arrives; it lingers only when the session is over', async () => {
    const lingerMs = 200;
    await using relay = await startRelay({ lingerMs });
    const { sender, session, listener } = await joinWithWebSocket(relay);
    sender.channel.close(1000, 'only asking');
    expect(await listener.nextClose()).toEqual({ code: 1000, reason: 'only asking' });
    // The plane looks once a second.
    await expect(listener.ended(lingerMs + 3_000)).rejects.toThrow('nothing within');
    listener.send('the answer');
    await until('the answer', () => sender.messages().length === 1);
    await session.end();
    await listener.ended();
    await untilNobody(relay);
  });

  test.each([1000, 1001, 1011, 3000, 4999])('close code %d crosses both ways', async code => {
    await using relay = await startRelay();
    const { sender, listener } = await joinWithWebSocket(relay);
    sender.channel.close(code, 'why');
    expect(await listener.nextClose()).toEqual({ code, reason: 'why' });
    listener.sendClose(code, 'because');
    await sender.had('gone');
    expect(sender.close()).toMatchObject({ code, reason: 'because' });
    listener.fin();
  });

  test('a Close without a code has none at the other end either', async () => {
    await using relay = await startRelay();
    const { sender, listener } = await joinWithWebSocket(relay);
    listener.sendClose();
    await sender.had('closed');
    expect(sender.close()).toMatchObject({ code: 1005, reason: '' });
    sender.channel.close(1005, '');
    expect(await listener.nextClose()).toMatchObject({ code: 1005 });
    listener.fin();
  });

  test('a client that does not poll holds back a WebSocket that writes, and loses nothing', async () => {
    await using relay = await startRelay({ pollBufferBytesMax: 262_144 });
    const control = await openListener(relay);
    const opening = HttpSession.open(relay);
    const listener = await control.acceptNext();
    const session = await opening;
    const count = 400;
    for (let i = 0; i < count; i += 1) listener.send(CHUNK);
    await until('it is full', async () => (await queuedBytes(relay)) > 262_144);
    // One receive of the other leg comes on top.
    expect(await queuedBytes(relay)).toBeLessThan(262_144 + 1_048_576);
    expect(await relay.metric('halfway_paused_sockets')).toBe(1);
    const sender = new ChannelRecord(session.channel());
    await sender.hadBytes(count * CHUNK.length);
    expect(await queuedBytes(relay)).toBeLessThan(262_144 + 1_048_576);
  });

  test('frames without a payload are held back, too', async () => {
    await using relay = await startRelay();
    const control = await openListener(relay);
    const opening = HttpSession.open(relay);
    const listener = await control.acceptNext();
    const session = await opening;
    const count = 60_000;
    const fullBytes = POLL_BATCH_FRAMES_MAX * POLL_FRAME_COST_BYTES;
    for (let i = 0; i < count; i += 1) listener.send('');
    await until('it is full', async () => (await queuedBytes(relay)) >= fullBytes);
    expect(await queuedBytes(relay)).toBeLessThan(count * POLL_FRAME_COST_BYTES);
    expect(await relay.metric('halfway_paused_sockets')).toBe(1);
    const sender = new ChannelRecord(session.channel());
    await sender.wholeMessages(count);
  });

  test('a WebSocket that does not read holds back a client that posts, and loses nothing', async () => {
    await using relay = await startRelay({ pollWindowBytes: 262_144 });
    const { sender, listener } = await joinWithWebSocket(relay);
    listener.pause();
    const count = 400;
    for (let i = 0; i < count; i += 1) sender.channel.send(OPCODE.binary, true, CHUNK);
    await until('the window is full', async () => (await queuedBytes(relay)) > 131_072);
    expect(await queuedBytes(relay)).toBeLessThanOrEqual(262_144);
    listener.resume();
    for (let i = 0; i < count; i += 1) {
      expect((await listener.nextMessage()).payload.length).toBe(CHUNK.length);
    }
  });

  test('a message without an end crosses as it comes', async () => {
    await using relay = await startRelay();
    const { sender, listener } = await joinWithWebSocket(relay);
    listener.send('begun', { fin: false });
    await sender.hadBytes(5);
    sender.channel.send(OPCODE.text, false, Buffer.from('begun, too'));
    const frame = await listener.nextFrame();
    expect([frame.isFinal, Buffer.from(frame.payload).toString()]).toEqual([false, 'begun, too']);
  });
});

describe('the end of one leg', () => {
  test('a WebSocket that breaks is told to the session with 1001', async () => {
    await using relay = await startRelay();
    const { sender, listener } = await joinWithWebSocket(relay);
    await listener.reset();
    await sender.had('closed');
    expect(sender.close()).toMatchObject({ code: 1001, reason: 'The other side went away' });
    sender.channel.close(1001, '');
    await sender.had('gone');
    await untilNobody(relay);
  });

  test('a session that is deleted is told to the WebSocket with 1001', async () => {
    await using relay = await startRelay();
    const { session, listener } = await joinWithWebSocket(relay);
    await session.end();
    expect(await listener.nextClose()).toMatchObject({ code: 1001 });
  });

  test('a session that expires is told to the WebSocket with 1001', async () => {
    const clock = new FakeClock();
    await using relay = await startRelay({}, { clock });
    const control = await openListener(relay);
    const opening = HttpSession.open(relay);
    const listener = await control.acceptNext();
    await opening;
    clock.advance(60_000);
    expect(await listener.nextClose()).toMatchObject({ code: 1001 });
  });

  test('the deletion of the hybrid connection closes every session with 1001', async () => {
    await using relay = await startRelay();
    await createHybridConnection(relay, 'temp');
    const listener = await PollListener.open(relay, { path: 'temp' });
    const opening = HttpSession.open(relay, { path: 'temp' });
    const rendezvous = await listener.acceptNext();
    const sender = new ChannelRecord((await opening).channel());
    const waiting = requestSession(relay, { path: 'temp' });
    await listener.nextAccept();
    await callApi(relay, 'DELETE', '/hybridConnections/temp');
    expect((await waiting).status).toBe(404);
    const close = { code: 1001, reason: 'The hybrid connection was deleted' };
    expect(await listener.closed()).toMatchObject(close);
    for (const end of [sender, rendezvous]) {
      await end.had('closed');
      expect(end.close()).toMatchObject(close);
    }
  });

  test('a drain closes sessions with 1001, answers their polls, and ends when they have it', async () => {
    const options: RelayOptions = { drainDelayMs: 10, drainTimeoutMs: 400 };
    const relay = await startRelay(options);
    const listener = await PollListener.open(relay);
    const { sender, rendezvous } = await joinPollPair(relay, listener);
    const drained = relay.server.drain();
    expect(await listener.closed()).toMatchObject({ code: 1001 });
    expect((await requestSession(relay)).status).toBe(503);
    for (const end of [sender, rendezvous]) {
      await end.had('closed');
      expect(end.close()).toMatchObject({ code: 1001 });
      end.channel.close(1001, '');
    }
    await within('the drain', drained);
    await sender.had('gone');
    await rendezvous.had('gone');
  });

  test('a stop ends sessions at once', async () => {
    const relay = await startRelay();
    const session = await HttpSession.open(relay, { action: 'listen' });
    const held = session.poll().catch(() => ({ reason: 'cut' }));
    await until('it is held', async () => (await relay.metric('halfway_poll_held_polls')) === 1);
    await relay.server.stop();
    expect(await held).toEqual({ reason: expect.stringMatching(/^(?:session-gone|cut)$/) });
  });
});

test('logs say what listeners come over', async () => {
  await using relay = await startRelay();
  await PollListener.open(relay);
  await dialListener(relay).answer;
  const lines = relay.log.lines.filter(line => line.includes('"NewListenerRegistered"'));
  expect(lines.map(line => /"transport":"(\w+)"/.exec(line)?.[1])).toEqual(['poll', 'websocket']);
});

test('logs say what either end of a pair comes over', async () => {
  await using relay = await startRelay();
  const listener = await PollListener.open(relay);
  await joinPollPair(relay, listener);
  const dialling = dialSender(relay);
  await listener.acceptNext();
  await dialling.answer;
  const lines = relay.log.lines.filter(line => line.includes('"SenderListenerConnectionEst'));
  expect(
    lines.map(line => /"transport":"(\w+)","listenerTransport":"(\w+)"/.exec(line)?.slice(1)),
  ).toEqual([
    ['poll', 'poll'],
    ['websocket', 'poll'],
  ]);
});
