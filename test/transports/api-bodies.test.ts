import { expect, test } from 'vitest';
import type { RequestBody } from '../../src/relay/ports.ts';
import { HeldBodies } from '../../src/transports/api-bodies.ts';
import { FakeClock } from '../support/fake-clock.ts';

const LIMITS = { heldBytesMax: 1_000, bodyIdleMs: 1_000, bodyBytesPerSecondMin: 10 };

/** A body that comes as it is told to. */
class DrivenBody implements RequestBody {
  sink: Parameters<RequestBody['read']>[0] = () => undefined;

  read(sink: Parameters<RequestBody['read']>[0]): void {
    this.sink = sink;
  }

  pause(): void {}

  resume(): void {}
}

function reading(bytesMax: number) {
  const clock = new FakeClock();
  const bodies = new HeldBodies(clock, LIMITS);
  const source = new DrivenBody();
  const body = bodies.bodyOf(source, new AbortController().signal);
  return { clock, bodies, source, body, read: body.read(bytesMax) };
}

test('a body that drips is given up, however regularly it drips', async () => {
  const { clock, bodies, source, body, read } = reading(50);
  const outcome = expect(read).rejects.toMatchObject({ reason: 'stalled' });
  // A second, and five for its 50 bytes.
  for (let n = 0; n < 12; n += 1) {
    source.sink(Buffer.from('x'), false);
    clock.advance(500);
  }
  await outcome;
  body.release();
  expect(bodies.bytes).toBe(0);
});

test('a body that came whole is not given up later', async () => {
  const { clock, source, read } = reading(50);
  source.sink(Buffer.from('ab'), false);
  clock.advance(900);
  source.sink(Buffer.from('cd'), true);
  clock.advance(60_000);
  expect(Buffer.from(await read).toString()).toBe('abcd');
});
