import { CLOSE_CODE_LOST } from '../protocol/frames.ts';
import type { FrameChannel } from './frame-channel.ts';

/** Forwards two channels to one another, fragment by fragment, each direction until its own Close frame. */
export function spliceChannels(one: FrameChannel, other: FrameChannel, onEnd: () => void): void {
  let open = 2;
  const forward = (from: FrameChannel, to: FrameChannel): void => {
    from.receive({
      fragment: (opcode, fin, payload) => {
        if (!to.send(opcode, fin, payload)) from.pause();
      },
      drained: () => to.resume(),
      closed: (code, reason) => to.close(code, reason),
      gone: code => {
        // Without a Close frame the other side must not believe that all has arrived.
        if (code === CLOSE_CODE_LOST) to.destroy();
        else to.resume();
        open -= 1;
        if (open === 0) onEnd();
      },
    });
  };
  forward(one, other);
  forward(other, one);
}
