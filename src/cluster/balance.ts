// Who has too many listeners, and how many it gives up. Pure: rebalancer.ts acts upon it.

/** A node with more than this times the average share of listeners has too many. */
export const TOO_MANY = 1.25;
/** It goes on until it has at most this times the average: less than where it began, so that it comes to rest. */
export const ENOUGH = 1.1;
/** Fewer than this above the average are not worth moving: small set-ups are left as they are. */
export const SURPLUS_MIN = 20;
/** The most that a node gives up in one round, of its own. */
export const ROUND_SHARE = 0.2;

/** How listeners are spread over the nodes that may have some: this one, and others that are well. */
export interface Spread {
  readonly own: number;
  readonly others: readonly number[];
}

export function averageOf({ own, others }: Spread): number {
  return others.reduce((sum, count) => sum + count, own) / (others.length + 1);
}

/**
 * How many listeners this node gives up now; 0: none. `isUnderWay`: a round went before and its node had not
 * come down to enough.
 */
export function surplusOf(spread: Spread, isUnderWay: boolean): number {
  const { own, others } = spread;
  if (others.length === 0) return 0;
  const average = averageOf(spread);
  const isTooMuch = own > TOO_MANY * average && own - average >= SURPLUS_MIN;
  if (!isTooMuch && !isUnderWay) return 0;
  const toEnough = Math.ceil(own - ENOUGH * average);
  return Math.max(0, Math.min(toEnough, Math.max(1, Math.floor(own * ROUND_SHARE))));
}

/**
 * Whether those who moved came back here: with a balancer that sends every client to the same node again,
 * asking does nothing but disturb. One that takes turns sends a share of `1 / nodes` elsewhere even when all
 * nodes but one give up some; half of that is good enough.
 */
export function wasInVain(before: Spread, moved: number, now: Spread): boolean {
  const share = (spread: Spread): number => spread.own / averageOf(spread);
  const gain = moved / averageOf(before) / (before.others.length + 1);
  return share(now) > share(before) - gain / 2;
}
