import type { Clock } from '../base/clock.ts';
import { CLOSE_CODE_LOST } from '../protocol/frames.ts';
import type { FrameChannel } from './frame-channel.ts';

/** A WebSocket that breaks sooner was perhaps broken by something that does not know WebSockets. */
export const EARLY_MS = 10_000;

/** The same channel; tells whether it broke soon after it was opened, without a Close frame and not by us. */
export function watched(
  channel: FrameChannel,
  clock: Clock,
  tell: { readonly onBrokeEarly: () => void; readonly onHeld: () => void },
): FrameChannel {
  const openedAtMs = clock.nowMs();
  let isEndedByUs = false;
  return {
    get protocol() {
      return channel.protocol;
    },
    get transport() {
      return channel.transport;
    },
    receive: events =>
      channel.receive({
        fragment: (opcode, fin, payload) => events.fragment(opcode, fin, payload),
        drained: () => events.drained?.(),
        moved: transport => events.moved?.(transport),
        closed: (code, reason) => events.closed(code, reason),
        gone: code => {
          if (clock.nowMs() - openedAtMs >= EARLY_MS) tell.onHeld();
          else if (code === CLOSE_CODE_LOST && !isEndedByUs) tell.onBrokeEarly();
          events.gone(code);
        },
      }),
    send: (opcode, fin, payload) => channel.send(opcode, fin, payload),
    close: (code, reason) => {
      isEndedByUs = true;
      channel.close(code, reason);
    },
    destroy: () => {
      isEndedByUs = true;
      channel.destroy();
    },
    pause: () => channel.pause(),
    resume: () => channel.resume(),
  };
}
