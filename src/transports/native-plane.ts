import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { HttpResponse, us_socket_context_t, WebSocket } from 'uWebSockets.js';
import type { Clock } from '../base/clock.ts';
import { nativePlane, type NativeBinding } from './native-binding.ts';
import { uwsAddonPath } from './uws.ts';

/**
 * A WebSocket that the native data plane has taken over, or a connection to another node (a *raw* leg). Carries a generation: the handle of a socket that is gone
 * is refused by every call and never names another one.
 */
export type LegHandle = number;

/**
 * Why the receiving direction of a leg ended: it sent Close; it was lost without one (FIN, reset, or closed by
 * uWebSockets.js); it broke the protocol (1002) or a size limit (1009); it did not read for too long; we were asked to
 * close it; or it was well, and ended because its pair did.
 */
export type LegEndCause =
  | 'close'
  | 'lost'
  | 'protocol-error'
  | 'too-big'
  | 'stalled'
  | 'closed-by-us'
  | 'pair-ended';

export interface LegEnd {
  /** Code of the Close frame that this leg sent: 1005 when it had none, 1006 when no Close frame came. */
  readonly closeCode: number;
  readonly cause: LegEndCause;
  /** Whether the socket had to be cut, because its client neither took the rest nor closed in time. */
  readonly lingered: boolean;
}

/** How a splice ended, for logs and metrics. Bytes are payload of data frames; frames are data frames, as they came. */
export interface SpliceEnd {
  readonly a: LegEnd;
  readonly b: LegEnd;
  /** Whose end came first. */
  readonly first: 'a' | 'b';
  readonly bytesFromA: number;
  readonly bytesFromB: number;
  readonly framesFromA: number;
  readonly framesFromB: number;
}

/**
 * Takes what one leg sends. Never called from inside a call into the plane: always from the event loop. What it throws
 * becomes an uncaught exception of the process and leaves the leg as it was. Nothing is called after `gone`.
 */
export interface FrameReceiver {
  /**
   * A part of a data frame, as it came: `firstByte` holds FIN and opcode of the frame, the flags say whether its first
   * and its last payload byte are in this part. Pings and pongs are dealt with by the leg. `payload` is lent for the
   * call: copy what is kept.
   */
  chunk(firstByte: number, isFirst: boolean, isLast: boolean, payload: Uint8Array): void;
  /** The queue that made a write return more than 0 is empty again. */
  drain(): void;
  /** The peer's Close frame, 1005 when it had no code; nothing more will come. Answer by `close`. */
  closeFrame(code: number, reason: string): void;
  /** The peer broke the protocol (1002) or a size limit (1009). It has been answered, and is being closed. */
  error(code: number): void;
  /** The socket is gone. Exactly once, and last. */
  gone(): void;
}

export interface AttachOptions {
  /** Largest payload of one frame that is accepted from this leg, 0 for no limit; beyond it Close 1009. */
  readonly frameBytesMax: number;
  /** Largest payload of one message, its fragments together; 0 for no limit. */
  readonly messageBytesMax: number;
}

export interface AdoptOptions {
  /** What was read of the connection already. Copied. */
  readonly head: Uint8Array;
}

export interface NativePlaneOptions {
  /** How long a closing socket may stay without taking or ending anything, before it is cut. */
  readonly lingerMs: number;
  /** How long a reader may leave a full queue untouched, before its socket is cut. */
  readonly stallMs: number;
  /** Bytes that all legs together may have sent before they are paired; beyond it unpaired legs are not read. */
  readonly parkedBytesMax: number;
  /** Close code for the end whose peer was lost. */
  readonly lostCode: number;
  /** Idle seconds after which TCP asks whether a client still exists; 0 for never. Applies to legs attached later. */
  readonly keepAliveSeconds: number;
}

export const NATIVE_PLANE_DEFAULTS: NativePlaneOptions = {
  lingerMs: 10_000,
  stallMs: 120_000,
  parkedBytesMax: 64 * 1024 * 1024,
  lostCode: 1001,
  keepAliveSeconds: 60,
};

export interface NativePlaneStats {
  /** Legs whose socket is open, and those whose end has not been told yet. */
  readonly legs: number;
  /** Of them, those that lead to other nodes. */
  readonly rawLegs: number;
  /** Legs that wait for a splice or a receiver. */
  readonly parkedLegs: number;
  readonly splices: number;
  /** Legs that are not read because the other side is slow, or by request. */
  readonly pausedLegs: number;
  /** Bytes that wait to be written, and bytes received that wait to be looked at. */
  readonly queuedBytes: number;
  readonly heldBytes: number;
  /** Totals since the start. */
  readonly attachedTotal: number;
  /** Of those attached, raw legs. */
  readonly adoptedTotal: number;
  /** Of those attached, connections that another process gave; and those that were given to one. */
  readonly takenTotal: number;
  readonly givenTotal: number;
  readonly splicedTotal: number;
  readonly pausesTotal: number;
  readonly endsTotal: { readonly [Cause in LegEndCause]: number };
  readonly lingeredTotal: number;
}

export interface LegStats {
  readonly state: 'parked' | 'spliced' | 'delivering' | 'finishing' | 'gone';
  readonly isPaused: boolean;
  readonly queuedBytes: number;
  readonly heldBytes: number;
  /** Payload bytes and data frames that came from this leg. */
  readonly bytesReceived: number;
  readonly framesReceived: number;
}

/**
 * The native data plane: WebSockets of hooked routes, joined frame by frame below JavaScript.
 *
 * On plain TCP and Unix sockets only. Once attached, a WebSocket must not be used for `send`, `end`, `ping`, `cork` or
 * `publish` again; its address getters and `close` are fine. The route's own `close` handler still runs, always with
 * code 1006, and may run inside `destroy`. `onEnd` and all calls to a receiver come from the event loop, never from
 * inside a call into the plane.
 */
export interface NativePlane {
  /** Call in `upgrade`: 1 hooked now, 0 hooked already, -1 refused (use the fallback). */
  hook(context: us_socket_context_t): 1 | 0 | -1;
  /**
   * Call in `open`: from here on uWebSockets.js does not see the socket's bytes, and its timeouts are off. The leg is
   * parked until `splice` or `deliver`. Returns 0 when the socket is closed or its context is not hooked.
   */
  attach(ws: WebSocket<unknown>, options: AttachOptions): LegHandle;
  /**
   * A leg on a descriptor of its own for the connection that `fd` leads to: the caller closes `fd`, and must have read
   * its last of it. A *raw* leg: unmasked frames both ways, from and to a node that does the same. A Close frame is
   * passed on and ends its direction; FIN means that the pair is over at the other node, or lost if no Close came before.
   * How slow the client behind it may be is judged there, so the time limits for what waits are ten times as long here.
   * Returns 0, and has taken nothing, when `fd` is no stream socket, when `head` does not fit below
   * `parkedBytesMax`, when descriptors run out, or before the first `hook`.
   */
  adopt(fd: number, options: AdoptOptions): LegHandle;
  /**
   * Gives the socket of a parked leg, and what was held of it, to the process of this machine that takes connections
   * under `name` (an abstract Unix socket's): `given`, and the leg ends here without its client noticing. `later`: not
   * yet, ask again; `refused`: it cannot be given (a Unix socket, too much held, nobody under that name). Neither has
   * done anything. `record`, of at most 60,000 bytes, is passed on.
   */
  handOver(leg: LegHandle, name: string, record: Uint8Array): 'given' | 'later' | 'refused';
  /**
   * Takes connections under `name` until the returned function is called. `onTaken` gets each as a parked leg, and may
   * do to it what it likes. Undefined when the name cannot be had.
   */
  takeOvers(
    name: string,
    options: Pick<AttachOptions, 'messageBytesMax'>,
    onTaken: (leg: LegHandle, record: Uint8Array) => void,
  ): (() => void) | undefined;
  /**
   * Calls `write` at once; what it makes uWebSockets.js write to the client behind `response`, in however many pieces,
   * leaves together afterwards. On a Unix socket the pieces stay pieces.
   */
  gathering(response: HttpResponse, write: () => void): void;
  /**
   * Joins two parked legs; false when one of them is gone, or not parked. `counters` holds payload bytes a to b, b to a,
   * data frames a to b, b to a, and is added to while the pair lives; pairs may share it. `onEnd` is called once,
   * when both sockets are gone.
   */
  splice(
    a: LegHandle,
    b: LegHandle,
    counters: Float64Array,
    onEnd: (end: SpliceEnd) => void,
  ): boolean;
  /** Gives a parked leg to JavaScript, paused: call `resume`. False when it is gone, or not parked. */
  deliver(leg: LegHandle, receiver: FrameReceiver): boolean;
  /** Stops `chunk` for a delivered leg, at once, also from inside `chunk`. */
  pause(leg: LegHandle): void;
  /** Goes on; what has been held comes from the event loop, not from inside this call. */
  resume(leg: LegHandle): void;
  /**
   * Writes a frame, unmasked. With `totalBytes` above the payload's length only the frame's start: the rest follows by
   * `writeMore`. Data frames above 65,536 bytes go out as fragments. Returns the bytes that wait: above 0 means stop
   * until `drain`. Writes to a leg that is closing or gone are dropped.
   */
  writeFrame(leg: LegHandle, firstByte: number, payload: Uint8Array, totalBytes?: number): number;
  writeMore(leg: LegHandle, payload: Uint8Array): number;
  /** Writes ready-made unmasked frame bytes, whole frames or parts, as they are. Do not mix within a frame. */
  writeRaw(leg: LegHandle, bytes: Uint8Array): number;
  /**
   * Sends Close if the direction stands between two frames, then FIN once the peer has sent its own Close (or has
   * lingered too long). Code 1005 sends an empty Close frame. On a spliced leg it closes both ends of the pair.
   * `isPassedOn`: it is the Close of somebody else, and the answer may take its time; calling it once more without
   * that sends nothing and limits the wait from then on.
   */
  close(leg: LegHandle, code: number, reason?: string, isPassedOn?: boolean): void;
  /** FIN after what is queued; what the peer still sends is thrown away. On a spliced leg both ends. */
  end(leg: LegHandle): void;
  /** Cuts the socket at once. The other end of a pair is told as for a lost peer. */
  destroy(leg: LegHandle): void;
  stats(): NativePlaneStats;
  legStats(leg: LegHandle): LegStats | undefined;
  configure(options: Partial<NativePlaneOptions>): void;
  /**
   * Looks for what the event loop cannot report: peers of paused sockets that are gone, readers that stand still,
   * clients that do not close. Call once a second; `startSweeping` does. `nowMs` is any clock that does not go back.
   */
  sweep(nowMs?: number): void;
  /** TCP port of the peer, 0 when unknown: a Unix socket, or closed. */
  remotePort(socket: HttpResponse | WebSocket<unknown>): number;
  /** Arms the idle timeout of an HTTP socket, in steps of 4 s; 0 disarms it. uWebSockets.js arms it anew on its own writes. */
  setTimeoutSeconds(response: HttpResponse, seconds: number): void;
}

export { selfTest } from './native-self-test.ts';

export type NativePlaneLoad = { readonly plane: NativePlane } | { readonly unavailable: string };

/** Versions of uWebSockets.js whose sockets behave as the plane expects; its tests have run on each. */
const UWS_VERSIONS = /^20\.51\./;

const require = createRequire(import.meta.url);
let loaded: NativePlaneLoad | undefined;

/**
 * Loads the data plane, once per process; or says in one sentence why it cannot be had, and what to do. Whether it works
 * as well is what `selfTest` finds out.
 */
export function loadNativePlane(): NativePlaneLoad {
  loaded ??= load();
  return loaded;
}

function load(): NativePlaneLoad {
  const version = uwsVersion();
  if (!UWS_VERSIONS.test(version)) {
    return unavailable(`it is not tested with uWebSockets.js ${version}; install the pinned one`);
  }
  const file = addonFile();
  if (!existsSync(file)) {
    return unavailable(
      `it has not been built for Node ${process.versions.node}; run "npm run build:native"`,
    );
  }
  let binding: NativeBinding;
  try {
    binding = require(file);
  } catch (error) {
    return unavailable(`${String(error)}; run "npm run build:native" with the Node that runs it`);
  }
  const missing = binding.load(uwsAddonPath);
  if (missing !== undefined) {
    return unavailable(`it does not find ${missing} in ${uwsAddonPath}; install the pinned one`);
  }
  return { plane: nativePlane(binding, NATIVE_PLANE_DEFAULTS) };
}

function unavailable(reason: string): NativePlaneLoad {
  return { unavailable: `The native data plane cannot be used: ${reason}` };
}

/** The addon for this Node; it lies beside src/ as it does beside dist/. HALFWAY_NATIVE_BUILD=asan picks the tests' variant. */
function addonFile(): string {
  const variant = process.env['HALFWAY_NATIVE_BUILD'] === 'asan' ? '-asan' : '';
  const folder = `../../native/build/${process.versions.modules}${variant}`;
  return fileURLToPath(new URL(`${folder}/halfway_splice.node`, import.meta.url));
}

function uwsVersion(): string {
  const file = join(dirname(require.resolve('uWebSockets.js')), 'package.json');
  const { version }: { version?: unknown } = JSON.parse(readFileSync(file, 'utf8'));
  return String(version);
}

const SWEEP_INTERVAL_MS = 1_000;

/** Runs the plane's sweep once a second until the returned function is called. */
export function startSweeping(plane: NativePlane, clock: Clock): () => void {
  let cancel = clock.after(SWEEP_INTERVAL_MS, sweep);
  function sweep(): void {
    plane.sweep(clock.nowMs());
    cancel = clock.after(SWEEP_INTERVAL_MS, sweep);
  }
  return () => cancel();
}
