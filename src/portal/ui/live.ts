import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import { systemClock } from '../../base/clock.ts';
import type { DispatchError } from '../../dispatch-client/dispatch-error.ts';
import { toProblem } from '../api/problem.ts';

export interface Live<Value> {
  /** The latest; kept while the server cannot be reached. */
  readonly value: Value | undefined;
  /** Why it could not be read the last time. */
  readonly problem: DispatchError | undefined;
  /** Reads at once, such as after a change. */
  readonly reload: () => void;
}

const EVERY_MS = 3_000;
const AFTER_FAULT_MS_MAX = 30_000;

interface State<Value> {
  readonly key: string;
  readonly value?: Value;
  readonly problem?: DispatchError;
}

/**
 * Keeps reading: one request at a time, the next some seconds after the last was answered, none while
 * nobody sees the page. `key` names what is read; another key begins anew, with nothing.
 */
export function useLive<Value>(
  key: string,
  load: (signal: AbortSignal) => Promise<Value>,
  everyMs: number = EVERY_MS,
): Live<Value> {
  const [state, setState] = useState<State<Value>>({ key });
  const [turn, setTurn] = useState(0);
  const latestLoad = useRef(load);
  latestLoad.current = load;

  useEffect(() => {
    const ended = new AbortController();
    let cancelTimer = (): void => undefined;
    let isReading = false;
    let faults = 0;
    const read = async (): Promise<void> => {
      cancelTimer();
      if (isReading || document.hidden) return;
      isReading = true;
      try {
        const value = await latestLoad.current(ended.signal);
        if (ended.signal.aborted) return;
        faults = 0;
        setState({ key, value });
      } catch (error) {
        if (ended.signal.aborted) return;
        faults += 1;
        const problem = toProblem(error);
        setState(before => (before.key === key ? { ...before, problem } : { key, problem }));
      }
      isReading = false;
      const waitMs = Math.min(everyMs * 2 ** faults, Math.max(everyMs, AFTER_FAULT_MS_MAX));
      cancelTimer = systemClock.after(faults === 0 ? everyMs : waitMs, () => void read());
    };
    const onVisible = (): void => void read();
    document.addEventListener('visibilitychange', onVisible);
    void read();
    return () => {
      ended.abort();
      cancelTimer();
      document.removeEventListener('visibilitychange', onVisible);
    };
  }, [key, everyMs, turn]);

  const reload = useCallback(() => setTurn(before => before + 1), []);
  const isOfKey = state.key === key;
  return {
    value: isOfKey ? state.value : undefined,
    problem: isOfKey ? state.problem : undefined,
    reload,
  };
}

/** Draws again every so often, for what counts up by itself. */
export function useTick(everyMs: number): void {
  const [, setTurn] = useState(0);
  useEffect(() => {
    let cancelTimer = (): void => undefined;
    const tick = (): void => {
      setTurn(before => before + 1);
      cancelTimer = systemClock.after(everyMs, tick);
    };
    cancelTimer = systemClock.after(everyMs, tick);
    return () => cancelTimer();
  }, [everyMs]);
}
