import { connect, type Socket } from 'node:net';
import type { Clock } from '../../base/clock.ts';
import type { SenderOffer } from '../../client/sender-offer.ts';
import { messageOf } from '../command-error.ts';
import { formatSocketAddress, type SocketAddress } from './socket-address.ts';
import type { Streams } from './streams.ts';

export interface RemoteEndOptions {
  readonly to: SocketAddress;
  readonly streams: Streams;
  readonly clock: Clock;
  readonly report: (text: string) => void;
}

/** How long the target may take to accept; the sender's own wait is 30 s. */
const TARGET_TIMEOUT_MS = 10_000;

/**
 * Connects each sender with a connection of its own to the target. Where that fails the sender gets 502
 * or 504 with the reason, which does not name the target: that is this side's business.
 */
export function remoteEnd(options: RemoteEndOptions): (offer: SenderOffer) => Promise<void> {
  const { to, streams, clock, report } = options;
  return async offer => {
    if (streams.isFull) {
      report(`a connection was turned away: ${streams.size} streams are open, as many as may be`);
      await offer.reject(503, 'The forwarding listener has as many streams as it may have');
      return;
    }
    const target = connect({ ...to, allowHalfOpen: true });
    await streams
      .run(target, async () => {
        try {
          await connected(target, clock);
        } catch (error) {
          const isLate = error instanceof TargetSilent;
          const why = messageOf(error);
          report(`cannot reach ${formatSocketAddress(to)}: ${why}`);
          await offer.reject(isLate ? 504 : 502, `The target cannot be reached: ${why}`);
          throw new Refused();
        }
        return offer.accept();
      })
      .catch((error: unknown) => {
        if (!(error instanceof Refused)) throw error;
      });
  };
}

class TargetSilent extends Error {}

/** The sender was turned away, and all is said. */
class Refused extends Error {}

function connected(socket: Socket, clock: Clock): Promise<void> {
  return new Promise((resolve, reject) => {
    const cancel = clock.after(TARGET_TIMEOUT_MS, () => {
      socket.destroy(new TargetSilent(`no answer within ${TARGET_TIMEOUT_MS / 1_000} s`));
    });
    socket.once('connect', () => {
      cancel();
      resolve();
    });
    socket.once('error', error => {
      cancel();
      reject(error);
    });
  });
}
