import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  advance,
  backOffMs,
  NEW_LINK,
  STEADY_MS,
  type LinkEvent,
  type LinkState,
} from '../../src/cluster/link-state.ts';

const due: LinkEvent = { type: 'due' };
const refused: LinkEvent = { type: 'refused', by: 'peer', reason: 'proof-wrong' };
const changed: LinkEvent = { type: 'changed' };
const closed: LinkEvent = { type: 'closed' };
const opened = (atMs: number): LinkEvent => ({ type: 'opened', atMs });
const lost = (atMs: number): LinkEvent => ({ type: 'ended', reason: 'lost', atMs });

describe('advance()', () => {
  test('goes from apart by dialling to up', () => {
    expect(run(due, opened(5))).toEqual({ phase: 'up', attempts: 0, sinceMs: 5 });
  });

  test('goes to up when the other node dialled', () => {
    expect(run(opened(5)).phase).toBe('up');
  });

  test('counts what was refused, and remembers why', () => {
    expect(run(due, refused, due, refused)).toEqual({
      phase: 'apart',
      attempts: 2,
      why: { type: 'refused', by: 'peer', reason: 'proof-wrong' },
    });
  });

  test('a link that stood for a while starts its count anew, one that broke at once does not', () => {
    expect(run(due, refused, due, opened(0), lost(STEADY_MS))).toMatchObject({ attempts: 0 });
    expect(run(due, refused, due, opened(0), lost(STEADY_MS - 1))).toMatchObject({ attempts: 2 });
  });

  test('a node that changed is dialled without a wait', () => {
    expect(run(due, refused, due, refused, changed)).toMatchObject({ phase: 'apart', attempts: 0 });
  });

  test('a refusal that comes after the other node dialled changes nothing', () => {
    const up = run(due, opened(1));
    expect(advance(up, refused)).toBe(up);
  });

  test('closed is final, whatever comes', () => {
    fc.assert(
      fc.property(fc.array(events), history => {
        const end = advance(run(...history), closed);
        for (const event of history) expect(advance(end, event)).toEqual({ phase: 'closed' });
      }),
    );
  });

  test('it is up exactly when the last that happened to a connection is that it opened', () => {
    fc.assert(
      fc.property(fc.array(events), history => {
        const last = history.findLast(({ type }) => type === 'opened' || type === 'ended');
        expect(run(...history).phase === 'up').toBe(last?.type === 'opened');
      }),
    );
  });

  test('attempts never fall but by a change of the node or a link that stood', () => {
    fc.assert(
      fc.property(fc.array(events), history => {
        let state: LinkState = NEW_LINK;
        for (const event of history) {
          const next = advance(state, event);
          if ('attempts' in state && 'attempts' in next && next.attempts < state.attempts) {
            const stood = state.phase === 'up' && event.type === 'ended';
            expect(event.type === 'changed' || stood).toBe(true);
          }
          state = next;
        }
      }),
    );
  });
});

describe('backOffMs()', () => {
  const backOff = { firstMs: 100, longestMs: 5_000 };

  test('doubles from the first to the longest', () => {
    const waits = [0, 1, 2, 3, 6, 7, 50, 5_000].map(attempts => backOffMs(attempts, backOff, 0));
    expect(waits).toEqual([0, 100, 200, 400, 3_200, 5_000, 5_000, 5_000]);
  });

  test('takes off at most a half', () => {
    fc.assert(
      fc.property(
        fc.nat(100),
        fc.double({ min: 0, max: 0.999, noNaN: true }),
        (attempts, random) => {
          const whole = backOffMs(attempts, backOff, 0);
          const wait = backOffMs(attempts, backOff, random);
          expect(wait).toBeLessThanOrEqual(whole);
          expect(wait).toBeGreaterThanOrEqual(whole / 2);
        },
      ),
    );
  });
});

const events = fc.oneof(
  fc.constantFrom(due, refused, changed),
  fc.nat(30_000).map(opened),
  fc.nat(30_000).map(lost),
);

function run(...history: readonly LinkEvent[]): LinkState {
  let state: LinkState = NEW_LINK;
  for (const event of history) state = advance(state, event);
  return state;
}
