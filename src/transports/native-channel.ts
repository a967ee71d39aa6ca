import type { WebSocket } from 'uWebSockets.js';
import {
  OPCODE,
  type Channel,
  type ChannelReceiver,
  type DataOpcode,
  type DataPlane,
  type PairEnd,
  type TrafficCounters,
} from '../relay/ports.ts';
import type { LegHandle, NativePlane } from './native-plane.ts';
import type { SocketData, UpgradedSocket } from './upgraded-socket.ts';

const FIN = 0x80;
const OPCODE_BITS = 0x0f;

/** What of the plane concerns one leg. */
type LegCalls = Pick<
  NativePlane,
  'deliver' | 'writeFrame' | 'close' | 'destroy' | 'pause' | 'resume'
>;

/** A WebSocket whose frames the native data plane handles: a leg, as the core's Channel. */
export class NativeChannel implements Channel {
  readonly leg: LegHandle;
  readonly #plane: LegCalls;
  readonly #onGone: () => void;

  /** `onGone`: its socket is closed, and its pair's if it was joined. Once. */
  constructor(plane: LegCalls, leg: LegHandle, onGone: () => void = () => {}) {
    this.#plane = plane;
    this.leg = leg;
    this.#onGone = onGone;
  }

  /** For whoever joined it: the pair has ended. */
  ended(): void {
    this.#onGone();
  }

  receive(receiver: ChannelReceiver): void {
    let opcode: DataOpcode = OPCODE.continuation;
    const isDelivering = this.#plane.deliver(this.leg, {
      chunk(firstByte, isFirst, isLast, payload) {
        if (isFirst) opcode = dataOpcodeOf(firstByte);
        // A header whose payload has not come yet says nothing that the first bytes do not say.
        if (payload.length === 0 && !isLast) return;
        const fin = isLast && (firstByte & FIN) !== 0;
        receiver.fragment(opcode, fin, payload);
        opcode = OPCODE.continuation;
      },
      drain: () => receiver.drained(),
      closeFrame: (code, reason) => receiver.closed(code, reason),
      // Nothing more will come, so it is over now; `gone` may take as long as the socket lingers.
      error: code => receiver.closed(code, 'The peer broke the protocol'),
      gone: () => gone(),
    });
    const gone = (): void => {
      this.#onGone();
      receiver.gone();
    };
    // It ended before anybody wanted to know: that, too, must be told.
    if (!isDelivering) queueMicrotask(gone);
  }

  send(opcode: DataOpcode, fin: boolean, payload: Uint8Array): boolean {
    return this.#plane.writeFrame(this.leg, (fin ? FIN : 0) | opcode, payload) === 0;
  }

  close(code: number, reason: string, isPassedOn = false): void {
    this.#plane.close(this.leg, code, reason, isPassedOn);
  }

  destroy(): void {
    this.#plane.destroy(this.leg);
  }

  pause(): void {
    this.#plane.pause(this.leg);
  }

  resume(): void {
    this.#plane.resume(this.leg);
  }
}

/** A rendezvous or sender WebSocket on its way to being a leg: uWebSockets.js parses none of its frames. */
export class NativeSocket implements UpgradedSocket {
  readonly #plane: NativePlane;
  readonly #messageBytesMax: number;
  readonly #onChannel: (channel: Channel) => void;

  constructor(plane: NativePlane, messageBytesMax: number, onChannel: (channel: Channel) => void) {
    this.#plane = plane;
    this.#messageBytesMax = messageBytesMax;
    this.#onChannel = onChannel;
  }

  opened(ws: WebSocket<SocketData>): void {
    const leg = this.#plane.attach(ws, {
      frameBytesMax: 0,
      messageBytesMax: this.#messageBytesMax,
    });
    this.#onChannel(new NativeChannel(this.#plane, leg));
  }

  message(): void {}

  drained(): void {}

  closed(): void {
    // The leg reports its own end, with the real close code; uWebSockets.js knows none.
  }
}

/** Joins two legs so that their bytes never reach JavaScript. */
export function nativeDataPlane(plane: NativePlane): DataPlane {
  return {
    join(
      sender: Channel,
      listener: Channel,
      counters: TrafficCounters,
      onEnd: (end: PairEnd) => void,
    ): boolean {
      if (!(sender instanceof NativeChannel) || !(listener instanceof NativeChannel)) return false;
      return plane.splice(sender.leg, listener.leg, counters, end => {
        sender.ended();
        listener.ended();
        onEnd({
          sender: end.a,
          listener: end.b,
          first: end.first === 'a' ? 'sender' : 'listener',
          bytesToListener: end.bytesFromA,
          bytesToSender: end.bytesFromB,
        });
      });
    },
  };
}

/** Control frames do not come here, so two opcodes and the continuation are all there is. */
function dataOpcodeOf(firstByte: number): DataOpcode {
  const opcode = firstByte & OPCODE_BITS;
  if (opcode === OPCODE.text || opcode === OPCODE.binary) return opcode;
  return OPCODE.continuation;
}
