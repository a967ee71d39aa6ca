import type { Channel } from '../relay/ports.ts';
import { NativeChannel } from './native-channel.ts';
import type { LegHandle, NativePlane } from './native-plane.ts';
import { descriptorOf, type NodeStream } from './native-stream.ts';

/** A connection to another node that carries the streams of many pairs, each with a flow control of its own. */
export interface Trunk {
  /** A new stream, as a channel that the joiner knows; undefined: the trunk is over. */
  open(record: Uint8Array): Channel | undefined;
  /** Streams on it that are not over. */
  readonly streams: number;
  /** Cuts it with all its streams. Safe to call twice. */
  destroy(): void;
}

export interface TrunkHandlers {
  /** The other node opened a stream and said this about it. What is not wanted is to be destroyed. */
  opened(channel: Channel, record: Uint8Array): void;
  /** It is over, and so are its streams. Once, and last. */
  gone(): void;
}

/**
 * Makes a trunk of a connection whose other end does the same; one of both `opens` its streams. Undefined with the
 * stream destroyed when it cannot be.
 */
export function nativeTrunk(
  plane: NativePlane,
  stream: NodeStream,
  side: 'opens' | 'takes',
  handlers: TrunkHandlers,
): Trunk | undefined {
  const taken = stream.takeSocket(() => trunk?.destroy());
  if (taken === undefined) return undefined;
  const { socket, head, left } = taken;
  const descriptor = descriptorOf(socket);
  let streams = 0;
  const channelOf = (leg: LegHandle): Channel => {
    streams += 1;
    return new NativeChannel(plane, leg, () => {
      streams -= 1;
    });
  };
  const number =
    descriptor === undefined
      ? 0
      : plane.makeTrunk(descriptor, head, side === 'opens', {
          opened: (leg, record) => handlers.opened(channelOf(leg), record),
          gone() {
            left();
            handlers.gone();
          },
        });
  // The plane has a descriptor of its own, so this closes only Node's.
  socket.destroy();
  if (number === 0) left();
  const trunk: Trunk | undefined =
    number === 0
      ? undefined
      : {
          open(record) {
            const leg = plane.openStream(number, record);
            return leg === 0 ? undefined : channelOf(leg);
          },
          get streams() {
            return streams;
          },
          destroy: () => plane.destroyTrunk(number),
        };
  return trunk;
}
