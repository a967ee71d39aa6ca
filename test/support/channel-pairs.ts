import { systemClock } from '../../src/base/clock.ts';
import type { Dial, DialOptions } from '../../src/client/frame-channel.ts';
import { parseServiceMessage } from '../../src/protocol/control-messages.ts';
import { ChannelEnd } from './channel-end.ts';
import type { TestRelay } from './relay.ts';

/** A listener that takes every sender, with a dial for its control channel and its rendezvous. */
export interface PairListener extends Disposable {
  readonly control: ChannelEnd;
  /** Its end of the next pair. */
  next(): Promise<ChannelEnd>;
}

export interface PairPlace {
  readonly relay: Pick<TestRelay, 'token'>;
  /** `ws://host:port`, of the relay or of what stands before it. */
  readonly wsUrl: string;
  readonly path?: string;
}

/** Listens through a dial. Addresses that the relay gives are dialled at `wsUrl`, too. */
export async function listenThrough(dial: Dial, place: PairPlace): Promise<PairListener> {
  const { relay, wsUrl, path = 'hyco' } = place;
  const control = new ChannelEnd(
    await dial(`${wsUrl}/$hc/${path}?sb-hc-action=listen`, optionsOf(relay, path)),
  );
  let offersTaken = 0;
  return {
    control,
    async next() {
      const number = offersTaken;
      offersTaken += 1;
      await control.until('an offer', () => control.fragments.length > number);
      const text = control.fragments[number]?.slice('1 fin '.length) ?? '';
      const message = parseServiceMessage(text);
      if (message.type !== 'accept') throw new Error(`No offer: ${text}`);
      const address = message.address.replace(/^wss?:\/\/[^/]+/, wsUrl);
      return new ChannelEnd(await dial(address, { clock: systemClock }));
    },
    [Symbol.dispose]: () => control.channel.destroy(),
  };
}

/** A sender and the listener's end of its pair. */
export async function openPair(
  listener: PairListener,
  dial: Dial,
  place: PairPlace,
): Promise<{ readonly sender: ChannelEnd; readonly listener: ChannelEnd }> {
  const { relay, wsUrl, path = 'hyco' } = place;
  const [sender, other] = await Promise.all([
    dial(`${wsUrl}/$hc/${path}?sb-hc-action=connect`, optionsOf(relay, path)),
    listener.next(),
  ]);
  return { sender: new ChannelEnd(sender), listener: other };
}

function optionsOf(relay: Pick<TestRelay, 'token'>, path: string): DialOptions {
  return { clock: systemClock, headers: { ServiceBusAuthorization: relay.token(path) } };
}
