import { useEffect, useRef, useState } from 'preact/hooks';
import { systemClock } from '../../base/clock.ts';
import type { DispatchError } from '../../dispatch-client/dispatch-error.ts';
import { toProblem } from '../api/problem.ts';

export interface FeedPage<Item> {
  readonly items: readonly Item[];
  readonly next: number;
  readonly isOver: boolean;
}

/** How long the server holds a request until there is something. */
export const FEED_WAIT_SECONDS = 20;
const AGAIN_AFTER_FAULT_MS = 3_000;
/** Where the server does not hold requests, this page does not hammer it. */
const EMPTY_PAUSE_MS = 250;

/**
 * Follows something that grows, by long polls, until it is over: `onItems` gets each item once and in order.
 * Nothing is asked while nobody sees the page.
 */
export function useFeed<Item>(
  key: string,
  load: (after: number, signal: AbortSignal) => Promise<FeedPage<Item>>,
  onItems: (items: readonly Item[]) => void,
): { readonly isOver: boolean; readonly problem: DispatchError | undefined } {
  const [isOver, setOver] = useState(false);
  const [problem, setProblem] = useState<DispatchError>();
  const latest = useRef({ load, onItems });
  latest.current = { load, onItems };

  useEffect(() => {
    const ended = new AbortController();
    const { signal } = ended;
    setOver(false);
    const follow = async (): Promise<void> => {
      let after = 0;
      for (;;) {
        await untilVisible(signal);
        if (signal.aborted) return;
        try {
          const page = await latest.current.load(after, signal);
          if (aborted(signal)) return;
          setProblem(undefined);
          after = page.next;
          if (page.items.length > 0) latest.current.onItems(page.items);
          if (page.isOver && page.items.length === 0) {
            setOver(true);
            return;
          }
          if (page.items.length === 0) await pause(EMPTY_PAUSE_MS);
        } catch (error) {
          if (aborted(signal)) return;
          setProblem(toProblem(error));
          await pause(AGAIN_AFTER_FAULT_MS);
        }
      }
    };
    void follow();
    return () => ended.abort();
  }, [key]);

  return { isOver, problem };
}

/** Asked by a function, since it changes between two looks at it. */
function aborted(signal: AbortSignal): boolean {
  return signal.aborted;
}

function pause(ms: number): Promise<void> {
  return new Promise(resolve => void systemClock.after(ms, resolve));
}

function untilVisible(signal: AbortSignal): Promise<void> {
  if (!document.hidden) return Promise.resolve();
  return new Promise(resolve => {
    const look = (): void => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener('visibilitychange', look);
      signal.removeEventListener('abort', look);
      resolve();
    };
    document.addEventListener('visibilitychange', look);
    signal.addEventListener('abort', look);
  });
}
