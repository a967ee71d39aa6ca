import type { Clock } from '../base/clock.ts';
import type { Channel } from '../relay/ports.ts';
import { NativeChannel } from './native-channel.ts';
import type { NativePlane } from './native-plane.ts';

/** Connections of clients that go from one process of this machine to another, which then reads and writes them alone. */
export interface HandOver {
  /**
   * Takes what others give under `name`, until the returned function is called; undefined when the name cannot be had.
   * Whoever can see the name can give: `record` must prove who it is, and what is not wanted is to be destroyed.
   */
  take(
    name: string,
    onTaken: (channel: Channel, record: Uint8Array) => void,
  ): (() => void) | undefined;
  /**
   * Gives a channel that nobody has joined or received from. True: it is gone from here, and its client knows nothing
   * of it. False: it stays as it was.
   */
  give(channel: Channel, name: string, record: Uint8Array): Promise<boolean>;
}

/**
 * A queue takes but ten or so (`net.unix.max_dgram_qlen`), and the other process empties it in each of its turns: when
 * many are given at once they wait for each other. Twice as long each time; in all about a quarter of a second.
 */
const ATTEMPTS = 10;
const FIRST_WAIT_MS = 1;

export function nativeHandOver(
  plane: Pick<NativePlane, 'handOver' | 'takeOvers'> &
    ConstructorParameters<typeof NativeChannel>[0],
  clock: Clock,
  messageBytesMax: number,
): HandOver {
  return {
    take: (name, onTaken) =>
      plane.takeOvers(name, { messageBytesMax }, (leg, record) =>
        onTaken(new NativeChannel(plane, leg), record),
      ),
    async give(channel, name, record) {
      if (!(channel instanceof NativeChannel)) return false;
      for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
        const outcome = plane.handOver(channel.leg, name, record);
        if (outcome !== 'later') return outcome === 'given';
        await new Promise<void>(resolve => {
          // A socket that was just upgraded needs no more than the end of this turn.
          if (attempt < 2) setImmediate(resolve);
          else clock.after(FIRST_WAIT_MS * 2 ** (attempt - 2), resolve);
        });
      }
      return false;
    },
  };
}
