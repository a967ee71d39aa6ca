import type { Channel, ChannelReceiver, PairEnd, SideEnd, TrafficCounters } from './ports.ts';

/** What the surviving side is told when its peer vanished without a Close frame. */
const LOST_CODE = 1001;
const LOST_REASON = 'The other side went away';

/**
 * Forwards fragments both ways between two joined channels until both have ended. Used where the
 * data plane cannot join the two below JavaScript. Order, types and fragments stay; a reader that
 * is slow pauses its writer; a Close frame ends its own direction only.
 */
export function spliceFragments(
  sender: Channel,
  listener: Channel,
  counters: TrafficCounters,
  onEnd: (end: PairEnd) => void,
): void {
  const ends: { sender?: SideEnd; listener?: SideEnd; first?: 'sender' | 'listener' } = {};
  let bytesToListener = 0;
  let bytesToSender = 0;

  const side = (
    own: 'sender' | 'listener',
    from: Channel,
    to: Channel,
    count: (bytes: number) => void,
  ): ChannelReceiver => {
    let closeCode = 1006;
    return {
      fragment(opcode, fin, payload) {
        count(payload.length);
        if (!to.send(opcode, fin, payload)) from.pause();
      },
      drained() {
        to.resume();
      },
      closed(code, reason) {
        closeCode = code;
        ends.first ??= own;
        to.close(code, reason, true);
      },
      gone() {
        ends.first ??= own;
        ends[own] = { closeCode, cause: closeCode === 1006 ? 'lost' : 'close' };
        if (ends.sender !== undefined && ends.listener !== undefined) {
          onEnd({
            sender: ends.sender,
            listener: ends.listener,
            first: ends.first,
            bytesToListener,
            bytesToSender,
          });
          return;
        }
        // May end the other side before it returns, and so come here for it. Behind a Close that was passed on it says
        // only that nobody waits for an answer any more.
        to.close(LOST_CODE, LOST_REASON);
        // What the other side still sends goes nowhere; held back, its end would never be seen.
        to.resume();
      },
    };
  };

  sender.receive(
    side('sender', sender, listener, bytes => {
      bytesToListener += bytes;
      counters[0] = (counters[0] ?? 0) + bytes;
      counters[2] = (counters[2] ?? 0) + 1;
    }),
  );
  listener.receive(
    side('listener', listener, sender, bytes => {
      bytesToSender += bytes;
      counters[1] = (counters[1] ?? 0) + bytes;
      counters[3] = (counters[3] ?? 0) + 1;
    }),
  );
  sender.resume();
  listener.resume();
}
