import type { Socket } from 'node:net';
import { NativeChannel } from './native-channel.ts';
import type { NativePlane } from './native-plane.ts';

/** A connection to another node that carries unmasked frames, and can be had as a socket. */
export interface NodeStream {
  /**
   * Gives the socket away, and the bytes that were read of it; undefined when it cannot be had. `cut` is called
   * when the other node is gone for good; `left` is to be called once the connection is over.
   */
  takeSocket(
    cut?: () => void,
  ): { readonly socket: Socket; readonly head: Buffer; readonly left: () => void } | undefined;
}

/**
 * A stream between nodes as a leg of the native plane. Undefined with the stream untouched when it does not
 * give its socket away; undefined with the stream destroyed when the plane cannot take that.
 */
export function adoptStream(plane: NativePlane, stream: NodeStream): NativeChannel | undefined {
  const taken = stream.takeSocket(() => channel?.destroy());
  if (taken === undefined) return undefined;
  const { socket, head, left } = taken;
  const descriptor = descriptorOf(socket);
  const leg = descriptor === undefined ? 0 : plane.adopt(descriptor, { head });
  // The leg has a descriptor of its own, so this closes only Node's.
  socket.destroy();
  const channel = leg === 0 ? undefined : new NativeChannel(plane, leg, left);
  if (channel === undefined) left();
  return channel;
}

/** Node has no public way to ask. */
function descriptorOf(socket: Socket): number | undefined {
  const handle: unknown = Reflect.get(socket, '_handle');
  if (typeof handle !== 'object' || handle === null || !('fd' in handle)) return undefined;
  return typeof handle.fd === 'number' && handle.fd >= 0 ? handle.fd : undefined;
}
