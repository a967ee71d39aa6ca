import { constants } from 'node:os';
import type { HttpResponse, us_socket_context_t, WebSocket } from 'uWebSockets.js';
import type {
  AttachOptions,
  FrameReceiver,
  LegEnd,
  LegEndCause,
  LegHandle,
  LegStats,
  NativePlane,
  NativePlaneOptions,
  NativePlaneStats,
  SpliceEnd,
} from './native-plane.ts';

/** What the addon exports: native/src/addon.cc. Numbers in lists stand in the order that is taken apart below. */
export interface NativeBinding {
  load(uwsAddonPath: string): string | undefined;
  hook(context: us_socket_context_t): 1 | 0 | -1;
  attach(ws: WebSocket<unknown>, frameBytesMax: number, messageBytesMax: number): number;
  adopt(fd: number, head: Uint8Array): number;
  handOver(leg: number, name: string, record: Uint8Array): number;
  openDoor(
    name: string,
    messageBytesMax: number,
    onTaken: (leg: number, record: Uint8Array) => void,
  ): number;
  closeDoor(door: number): void;
  gather(response: HttpResponse): number;
  releaseGathered(gathered: number): void;
  splice(a: number, b: number, counters: Float64Array, onEnd: (end: number[]) => void): boolean;
  deliver(leg: number, onEvent: OnEvent): boolean;
  pause(leg: number): void;
  resume(leg: number): void;
  writeFrame(leg: number, firstByte: number, payload: Uint8Array, totalBytes?: number): number;
  writeMore(leg: number, payload: Uint8Array): number;
  writeRaw(leg: number, bytes: Uint8Array): number;
  close(leg: number, code: number, reason: Uint8Array, isPassedOn: boolean): void;
  end(leg: number): void;
  destroy(leg: number): void;
  stats(): number[];
  legStats(leg: number): number[] | undefined;
  configure(
    lingerMs: number,
    stallMs: number,
    parkedBytesMax: number,
    lostCode: number,
    keepAliveSeconds: number,
  ): void;
  sweep(nowMs: number): void;
  remotePort(socket: HttpResponse | WebSocket<unknown>): number;
  setTimeoutSeconds(response: HttpResponse, seconds: number): void;
}

type OnEvent = (event: number, number: number, flags: number, payload: unknown) => void;

/** Events of a delivered leg, in the addon's order. */
const EVENTS = { chunk: 0, drain: 1, closeFrame: 2, error: 3, gone: 4 } as const;
const IS_FIRST = 1;
const IS_LAST = 2;

/** The addon's causes, in its order; the first is for legs that have not ended. */
const CAUSES: readonly LegEndCause[] = [
  'lost',
  'close',
  'lost',
  'protocol-error',
  'too-big',
  'stalled',
  'closed-by-us',
  'pair-ended',
];
const LEG_STATES = ['parked', 'spliced', 'delivering', 'finishing', 'gone'] as const;

/** Longest reason that fits into a Close frame beside its code. */
const REASON_BYTES_MAX = 123;

/** The addon, which speaks in numbers and lists, as the typed plane. `binding` must have been loaded. */
export function nativePlane(binding: NativeBinding, defaults: NativePlaneOptions): NativePlane {
  let options = defaults;
  const encoder = new TextEncoder();

  const plane: NativePlane = {
    hook: context => binding.hook(context),
    attach: (ws, { frameBytesMax, messageBytesMax }: AttachOptions): LegHandle =>
      binding.attach(ws, frameBytesMax, messageBytesMax),
    adopt: (fd, { head }): LegHandle => binding.adopt(fd, head),
    handOver(leg, name, record) {
      const fault = binding.handOver(leg, name, record);
      return fault === 0 ? 'given' : fault === constants.errno.EAGAIN ? 'later' : 'refused';
    },
    takeOvers(name, { messageBytesMax }, onTaken) {
      const door = binding.openDoor(name, messageBytesMax, onTaken);
      return door === 0 ? undefined : () => binding.closeDoor(door);
    },
    gathering(response, write) {
      const gathered = binding.gather(response);
      try {
        write();
      } finally {
        if (gathered !== -1) binding.releaseGathered(gathered);
      }
    },
    splice: (a, b, counters, onEnd) =>
      binding.splice(a, b, counters, end => onEnd(parseSpliceEnd(end))),
    deliver: (leg, receiver) => binding.deliver(leg, dispatcher(receiver)),
    pause: leg => binding.pause(leg),
    resume: leg => binding.resume(leg),
    writeFrame: (leg, firstByte, payload, totalBytes = payload.length) =>
      binding.writeFrame(leg, firstByte, payload, totalBytes),
    writeMore: (leg, payload) => binding.writeMore(leg, payload),
    writeRaw: (leg, bytes) => binding.writeRaw(leg, bytes),
    close(leg, code, reason = '', isPassedOn = false) {
      const bytes = new Uint8Array(REASON_BYTES_MAX);
      // encodeInto stops between two characters when the next does not fit.
      const { written } = encoder.encodeInto(reason, bytes);
      binding.close(leg, code, bytes.subarray(0, written), isPassedOn);
    },
    end: leg => binding.end(leg),
    destroy: leg => binding.destroy(leg),
    stats: () => parseStats(binding.stats()),
    legStats(leg) {
      const numbers = binding.legStats(leg);
      return numbers === undefined ? undefined : parseLegStats(numbers);
    },
    configure(changes) {
      options = { ...options, ...changes };
      const { lingerMs, stallMs, parkedBytesMax, lostCode, keepAliveSeconds } = options;
      binding.configure(lingerMs, stallMs, parkedBytesMax, lostCode, keepAliveSeconds);
    },
    sweep: (nowMs = performance.now()) => binding.sweep(nowMs),
    remotePort: socket => binding.remotePort(socket),
    setTimeoutSeconds: (response, seconds) => binding.setTimeoutSeconds(response, seconds),
  };
  plane.configure({});
  return plane;
}

function dispatcher(receiver: FrameReceiver): OnEvent {
  return (event, number, flags, payload) => {
    if (event === EVENTS.chunk && payload instanceof Uint8Array) {
      receiver.chunk(number, (flags & IS_FIRST) !== 0, (flags & IS_LAST) !== 0, payload);
    } else if (event === EVENTS.drain) receiver.drain();
    else if (event === EVENTS.closeFrame) receiver.closeFrame(number, String(payload));
    else if (event === EVENTS.error) receiver.error(number);
    else if (event === EVENTS.gone) receiver.gone();
  };
}

function parseSpliceEnd(numbers: readonly number[]): SpliceEnd {
  const at = (index: number): number => numbers[index] ?? 0;
  const leg = (index: number): LegEnd => ({
    closeCode: at(index),
    cause: CAUSES[at(index + 1)] ?? 'lost',
    lingered: at(index + 2) === 1,
  });
  return {
    a: leg(0),
    b: leg(3),
    first: at(6) === 1 ? 'b' : 'a',
    bytesFromA: at(7),
    framesFromA: at(8),
    bytesFromB: at(9),
    framesFromB: at(10),
  };
}

function parseStats(numbers: readonly number[]): NativePlaneStats {
  const at = (index: number): number => numbers[index] ?? 0;
  return {
    legs: at(0),
    rawLegs: at(1),
    parkedLegs: at(2),
    splices: at(3),
    pausedLegs: at(4),
    queuedBytes: at(5),
    heldBytes: at(6),
    attachedTotal: at(7),
    adoptedTotal: at(8),
    takenTotal: at(9),
    givenTotal: at(10),
    splicedTotal: at(11),
    pausesTotal: at(12),
    lingeredTotal: at(13),
    endsTotal: {
      close: at(14),
      lost: at(15),
      'protocol-error': at(16),
      'too-big': at(17),
      stalled: at(18),
      'closed-by-us': at(19),
      'pair-ended': at(20),
    },
  };
}

function parseLegStats(numbers: readonly number[]): LegStats {
  const at = (index: number): number => numbers[index] ?? 0;
  return {
    state: LEG_STATES[at(0)] ?? 'gone',
    isPaused: at(1) === 1,
    queuedBytes: at(2),
    heldBytes: at(3),
    bytesReceived: at(4),
    framesReceived: at(5),
  };
}
