import { randomUUID } from 'node:crypto';
import type { Clock } from '../../base/clock.ts';
import { makeDial } from '../../client/dial.ts';
import type { FrameChannel } from '../../client/frame-channel.ts';
import { RelayError } from '../../client/relay-error.ts';
import type { Routes } from '../../client/routes.ts';
import { CLOSE_CODE_LOST } from '../../protocol/frames.ts';
import { ANSWER_TIMEOUT_MS } from './ask.ts';

/** How long the relay may take to answer our Close: an intermediary may keep back what is sent. */
const CLOSE_TIMEOUT_MS = 5_000;

/** How a control channel was opened and closed. */
export type Opened =
  | { readonly kind: 'closed' }
  /** It was opened, and then nothing came through. */
  | { readonly kind: 'silent' }
  | { readonly kind: 'refused'; readonly why: RelayError };

/** Listens and leaves at once. A sender who comes in between is passed on by the relay. */
export async function openListener(
  transport: 'websocket' | 'poll',
  way: {
    readonly origin: URL;
    readonly path: string;
    readonly token: string;
    readonly routes: Routes;
    readonly clock: Clock;
  },
): Promise<Opened> {
  const { origin, path, token, routes, clock } = way;
  const dial = makeDial({ transport, routes, clock });
  const webSocketOrigin = origin.origin.replace(/^http/, 'ws');
  const address = `${webSocketOrigin}/$hc/${path}?sb-hc-action=listen&sb-hc-id=${randomUUID()}`;
  try {
    const channel = await dial(address, {
      clock,
      headers: { ServiceBusAuthorization: token },
      timeoutMs: ANSWER_TIMEOUT_MS,
    });
    return { kind: (await isCloseAnswered(channel, clock)) ? 'closed' : 'silent' };
  } catch (error) {
    if (error instanceof RelayError) return { kind: 'refused', why: error };
    throw error;
  }
}

function isCloseAnswered(channel: FrameChannel, clock: Clock): Promise<boolean> {
  return new Promise(resolve => {
    const cancel = clock.after(CLOSE_TIMEOUT_MS, () => channel.destroy());
    channel.receive({
      fragment: () => undefined,
      closed: () => undefined,
      gone: code => {
        cancel();
        resolve(code !== CLOSE_CODE_LOST);
      },
    });
    channel.close(1000, 'Normal Closure');
  });
}
