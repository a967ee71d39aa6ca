import { channel } from 'node:diagnostics_channel';
import { connect, Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock, type Clock } from '../../src/base/clock.ts';
import { CorkLender } from '../../src/transports/cork-lender.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { until, within } from '../support/within.ts';

describe('CorkLender', () => {
  /** The lender's own ends, in the order of their dialling; nothing else dials here. */
  const dialled: Socket[] = [];
  const lenders: CorkLender[] = [];
  let onDialled: ((socket: Socket) => void) | undefined;
  const record = (message: unknown): void => {
    if (typeof message !== 'object' || message === null || !('socket' in message)) return;
    if (!(message.socket instanceof Socket)) return;
    dialled.push(message.socket);
    onDialled?.(message.socket);
  };
  const created = channel('net.client.socket');

  beforeEach(() => created.subscribe(record));
  afterEach(() => {
    created.unsubscribe(record);
    for (const lender of lenders.splice(0)) lender.close();
    dialled.splice(0);
    onDialled = undefined;
  });

  async function open(clock: Clock = systemClock): Promise<CorkLender> {
    const lender = await CorkLender.open(clock);
    lenders.push(lender);
    return lender;
  }

  test('upgrades at once, inside a cork, for the library warns otherwise', async () => {
    const lender = await open();
    expect(lender.isOpen).toBe(true);
    expect(upgradeBy(lender)).toEqual(['cork', 'upgrade', 'returned']);
  });

  test('nobody else can get to where it was dialled', async () => {
    await open();
    const stranger = connect(dialled[0]?.remotePort ?? 0, '127.0.0.1');
    const refusal = await within(
      'a refusal',
      new Promise<NodeJS.ErrnoException>(resolve => void stranger.once('error', resolve)),
    );
    expect(refusal.code).toBe('ECONNREFUSED');
  });

  test('makes another connection a second after it lost its own', async () => {
    const clock = new FakeClock();
    const lender = await open(clock);
    for (let lost = 1; lost <= 3; lost += 1) {
      dialled.at(-1)?.resetAndDestroy();
      await until('it is lost', () => !lender.isOpen);
      // Meanwhile the response must not be corked: that is what cuts clients.
      expect(upgradeBy(lender)).toEqual(['upgrade', 'returned']);
      clock.advance(999);
      expect(dialled).toHaveLength(lost);
      clock.advance(1);
      await until('it is there again', () => lender.isOpen);
      expect(dialled).toHaveLength(lost + 1);
    }
    expect(upgradeBy(lender)).toEqual(['cork', 'upgrade', 'returned']);
  });

  test('tries again a second after an attempt that failed', async () => {
    const clock = new FakeClock();
    onDialled = socket => socket.destroy();
    const lender = await open(clock);
    expect(lender.isOpen).toBe(false);
    expect(upgradeBy(lender)).toEqual(['upgrade', 'returned']);
    onDialled = undefined;
    clock.advance(999);
    expect(dialled).toHaveLength(1);
    clock.advance(1);
    await until('it is there', () => lender.isOpen);
    expect(dialled).toHaveLength(2);
  });

  test('close() ends both ends, and it stays closed', async () => {
    const clock = new FakeClock();
    const lender = await open(clock);
    const [end] = dialled;
    lender.close();
    lender.close();
    expect(lender.isOpen).toBe(false);
    await until('the other end is gone', () => end?.destroyed === true);
    expect(clock.pendingTasks).toBe(0);
  });

  test('close() ends the attempts, too', async () => {
    const clock = new FakeClock();
    onDialled = socket => socket.destroy();
    const lender = await open(clock);
    expect(clock.pendingTasks).toBe(1);
    lender.close();
    expect(clock.pendingTasks).toBe(0);
  });
});

/** What a late upgrade does with it: the order of what happens. */
function upgradeBy(lender: CorkLender): string[] {
  const events: string[] = [];
  const cork = (write: () => void): void => {
    events.push('cork');
    write();
  };
  lender.cork({ cork }, () => events.push('upgrade'));
  events.push('returned');
  return events;
}
