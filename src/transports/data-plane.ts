import type { HttpResponse, us_socket_context_t } from 'uWebSockets.js';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { Channel, DataPlane, Meter } from '../relay/ports.ts';
import { MessageChannel } from './message-channel.ts';
import { NativeSocket, nativeDataPlane } from './native-channel.ts';
import { nativeHandOver, type HandOver } from './native-hand-over.ts';
import { adoptStream, type NodeStream } from './native-stream.ts';
import {
  loadNativePlane,
  selfTest,
  startSweeping,
  type NativePlane,
  type NativePlaneStats,
} from './native-plane.ts';
import type { UpgradedSocket } from './upgraded-socket.ts';

export interface DataPlaneOptions {
  /** `native` refuses to start without the addon; `messages` does not even look for it. */
  readonly dataPlane: 'auto' | 'native' | 'messages';
  readonly controlMessageBytesMax: number;
  readonly messageBytesMax: number;
  readonly fallbackMessageBytesMax: number;
  readonly fallbackQueueBytesMax: number;
  readonly lingerMs: number;
  /** 0: never. */
  readonly stallTimeoutMs: number;
}

/** How relayed WebSockets are carried, chosen once at start. */
export interface OpenDataPlane {
  readonly joiner: DataPlane;
  /** Why whole messages have to do; undefined: frames, by the addon. */
  readonly degraded: string | undefined;
  /** What uWebSockets.js may gather at most, on the one route that all WebSockets share. */
  readonly wholeMessageBytesMax: number;
  readonly prepare: (context: us_socket_context_t) => void;
  readonly channelSocket: (onChannel: (channel: Channel) => void) => UpgradedSocket;
  /** Calls `write` at once; what that writes to the client in pieces leaves together, if it can be had. */
  readonly gathering: (response: HttpResponse, write: () => void) => void;
  /** A stream between nodes as a channel that the joiner knows; undefined: it cannot, take it otherwise. */
  readonly streamChannel: (stream: NodeStream) => Channel | undefined;
  /** Undefined: connections cannot go to other processes. */
  readonly handOver: HandOver | undefined;
  readonly remotePort: (response: HttpResponse) => number;
  readonly disarmTimeout: (response: HttpResponse) => void;
  stats(): NativePlaneStats | undefined;
  close(): void;
}

/**
 * Loads and tests the native data plane; where it cannot be had, the announced fallback over whole
 * messages, or `unavailable` when the operator insists.
 */
export async function openDataPlane(
  options: DataPlaneOptions,
  deps: { readonly log: Logger; readonly clock: Clock; readonly meter: Meter },
): Promise<OpenDataPlane | { readonly unavailable: string }> {
  if (options.dataPlane === 'messages') {
    return messagePlane(options, deps.meter, 'whole messages only, as configured');
  }
  const loaded = loadNativePlane();
  const fault = 'plane' in loaded ? await selfTest(loaded.plane) : loaded.unavailable;
  if ('plane' in loaded && fault === undefined)
    return nativePlane(loaded.plane, options, deps.clock);
  const why = fault ?? 'unknown';
  if (options.dataPlane === 'native') {
    return { unavailable: `Cannot start with --data-plane native: ${why}` };
  }
  deps.log.warn(
    { event: 'DataPlaneDegraded', reason: why },
    'native data plane missing: whole messages only, no half-close, no back-pressure',
  );
  return messagePlane(options, deps.meter, `whole messages only: ${why}`);
}

function nativePlane(plane: NativePlane, options: DataPlaneOptions, clock: Clock): OpenDataPlane {
  plane.configure({
    lingerMs: options.lingerMs,
    stallMs: options.stallTimeoutMs === 0 ? Number.MAX_SAFE_INTEGER : options.stallTimeoutMs,
  });
  const stopSweeping = startSweeping(plane, clock);
  return {
    joiner: nativeDataPlane(plane),
    degraded: undefined,
    // Twice the limit, so that most of what exceeds it is answered with 1009 and not with a cut.
    wholeMessageBytesMax: 2 * options.controlMessageBytesMax,
    prepare: context => void plane.hook(context),
    channelSocket: onChannel => new NativeSocket(plane, options.messageBytesMax, onChannel),
    gathering: (response, write) => plane.gathering(response, write),
    streamChannel: stream => adoptStream(plane, stream),
    handOver: nativeHandOver(plane, clock, options.messageBytesMax),
    remotePort: response => plane.remotePort(response),
    disarmTimeout: response => plane.setTimeoutSeconds(response, 0),
    stats: () => plane.stats(),
    close: stopSweeping,
  };
}

function messagePlane(options: DataPlaneOptions, meter: Meter, degraded: string): OpenDataPlane {
  const onOverflow = (): void => meter.count('halfway_fallback_overflows_total', {});
  return {
    joiner: { join: () => false },
    degraded,
    wholeMessageBytesMax: options.fallbackMessageBytesMax,
    prepare: () => {},
    channelSocket: onChannel =>
      new MessageChannel(options.fallbackQueueBytesMax, onChannel, onOverflow),
    gathering: (_response, write) => write(),
    streamChannel: () => undefined,
    handOver: undefined,
    remotePort: () => 0,
    disarmTimeout: () => {},
    stats: () => undefined,
    close: () => {},
  };
}
