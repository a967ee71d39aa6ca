import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ENOUGH, surplusOf, wasInVain, type Spread } from '../../src/cluster/balance.ts';

/** More than any of these need to come to rest. */
const ROUNDS_MAX = 200;

describe('surplusOf()', () => {
  test.each<[why: string, own: number, others: number[], isUnderWay: boolean, surplus: number]>([
    ['a node alone has nowhere to send them', 1_000, [], false, 0],
    ['an even spread stays', 200, [200, 200], false, 0],
    ['what turns and chance make uneven stays', 220, [190, 190], false, 0],
    ['a third node came: down to 1.1 times the average', 300, [300, 0], false, 60],
    ['a second node came: a fifth at most in a round', 600, [0], false, 120],
    ['the last step is as small as it need be', 230, [185, 185], true, 10],
    ['just over 1.25 times the average', 251, [174, 175], false, 31],
    ['just under it', 249, [175, 176], false, 0],
    ['a small set-up: the surplus is not worth it', 25, [0, 0], false, 0],
    ['the least that is', 30, [0, 0], false, 6],
    ['one over the average by 19 stays', 38, [0], false, 0],
    ['one over it by 20 does not', 40, [0], false, 8],
    ['one that has begun goes on below 1.25', 240, [200, 160], true, 20],
    ['and is done at 1.1', 220, [200, 180], true, 0],
    ['having less than others is no reason', 0, [300, 300], true, 0],
    ['nobody listens', 0, [0, 0], true, 0],
  ])('%s', (_why, own, others, isUnderWay, surplus) => {
    expect(surplusOf({ own, others }, isUnderWay)).toBe(surplus);
  });

  test('is never so much that another node would have to give it back', () => {
    const count = fc.integer({ min: 0, max: 100_000 });
    fc.assert(
      fc.property(count, fc.array(count, { maxLength: 10 }), fc.boolean(), (own, others, on) => {
        const surplus = surplusOf({ own, others }, on);
        const average = others.reduce((sum, one) => sum + one, own) / (others.length + 1);
        expect(surplus).toBeGreaterThanOrEqual(0);
        expect(surplus).toBeLessThanOrEqual(Math.max(1, own / 5));
        if (surplus > 0) expect(own - surplus).toBeGreaterThan(ENOUGH * average - 1);
      }),
    );
  });

  test.each(['to the emptiest', 'in turns'])(
    'brings any number of nodes to rest when the balancer sends those who come %s',
    how => {
      const count = fc.integer({ min: 0, max: 2_000 });
      fc.assert(
        fc.property(fc.array(count, { minLength: 2, maxLength: 8 }), start => {
          const nodes = [...start];
          const isUnderWay = nodes.map(() => false);
          let turn = 0;
          const step = (): number => {
            const surplus = nodes.map((own, i) => {
              const others = nodes.filter((_, j) => j !== i);
              return surplusOf({ own, others }, isUnderWay[i] ?? false);
            });
            surplus.forEach((moved, i) => {
              nodes[i] = (nodes[i] ?? 0) - moved;
              isUnderWay[i] = moved > 0;
            });
            const coming = surplus.reduce((sum, moved) => sum + moved, 0);
            for (let i = 0; i < coming; i += 1) {
              const to =
                how === 'in turns' ? turn++ % nodes.length : nodes.indexOf(Math.min(...nodes));
              nodes[to] = (nodes[to] ?? 0) + 1;
            }
            return coming;
          };
          let rounds = 0;
          while (rounds < ROUNDS_MAX && step() > 0) rounds += 1;
          expect(rounds).toBeLessThan(ROUNDS_MAX);
          expect(step()).toBe(0);
          // Nobody has clearly too many.
          const average = nodes.reduce((sum, own) => sum + own, 0) / nodes.length;
          for (const own of nodes)
            expect(own).toBeLessThanOrEqual(Math.max(1.25 * average, average + 20));
        }),
        { numRuns: 50 },
      );
    },
  );
});

describe('wasInVain()', () => {
  const before: Spread = { own: 300, others: [300, 0] };
  test.each<[why: string, now: Spread, isInVain: boolean]>([
    ['all went to the new node', { own: 240, others: [240, 120] }, false],
    ['the balancer takes turns', { own: 280, others: [280, 40] }, false],
    ['all came back', { own: 300, others: [300, 0] }, true],
    ['all came back, and everywhere others came, too', { own: 400, others: [400, 0] }, true],
    ['they went, and everywhere others came', { own: 380, others: [380, 140] }, false],
  ])('%s', (_why, now, isInVain) => {
    expect(wasInVain(before, 60, now)).toBe(isInVain);
  });
});
