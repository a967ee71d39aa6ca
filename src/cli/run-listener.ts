import type { TransportName } from '../client/frame-channel.ts';
import type { HybridConnectionListener } from '../client/hybrid-connection-listener.ts';
import { CommandError, EXIT } from './command-error.ts';
import type { CommandContext } from './context.ts';
import { adviceOn } from './refusal-advice.ts';

/** Where a listener listens, and whom to tell how it goes. */
export interface ListenerPlace {
  /** Name of the hybrid connection. */
  readonly path: string;
  /** `ws://host:port` or `wss://host:port` of the relay. */
  readonly origin: string;
  readonly report: (text: string) => void;
}

export interface ListenerRun {
  readonly context: CommandContext;
  /** At the first time and whenever it is online again. */
  readonly onOnline: (transport: TransportName) => void;
  /** Resolves when all is done that a signal leaves to do. */
  readonly stop: () => Promise<void>;
}

/**
 * Opens a listener and resolves when a signal has ended it; the library connects again meanwhile. A
 * second signal ends the program at once. Throws `CommandError` when the relay does not let it in.
 */
export async function runListener(
  listener: HybridConnectionListener,
  { path, origin, report }: ListenerPlace,
  { context, onOnline, stop }: ListenerRun,
): Promise<void> {
  let isUp = false;
  listener.on('online', transport => {
    isUp = true;
    onOnline(transport);
  });
  listener.on('reconnecting', ({ why, delayMs }) => {
    const what = `${isUp ? 'lost' : 'cannot reach'} ${origin}`;
    isUp = false;
    report(`${adviceOn(what, why)}; trying again in ${(delayMs / 1_000).toFixed(1)} s`);
  });
  const signal = new AbortController();
  const stopped = untilStopped(context, () => {
    signal.abort();
    return stop();
  });
  try {
    await listener.open();
  } catch (error) {
    if (!signal.signal.aborted) {
      throw new CommandError(adviceOn(`Cannot listen on "${path}"`, error));
    }
  }
  await stopped;
}

/** Resolves when `stop` has done what a signal leaves to do; a second signal ends the program at once. */
export function untilStopped(context: CommandContext, stop: () => Promise<void>): Promise<void> {
  let isStopping = false;
  return new Promise((resolve, reject) => {
    context.onSignal(['SIGINT', 'SIGTERM'], () => {
      if (isStopping) {
        context.exit(EXIT.failed);
        return;
      }
      isStopping = true;
      stop().then(resolve, reject);
    });
  });
}
