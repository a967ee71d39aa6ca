import {
  HybridConnectionClient,
  HybridConnectionListener,
  type RelayConnection,
  type RelayOptions,
} from '../../src/client/client.ts';
import type { End, EndPair } from './end.ts';

/** Opens pairs of ends of the client library, one after another, at a relay with one hybrid connection for them. */
export async function openHalfwayPairs(
  options: RelayOptions,
  count: number,
): Promise<readonly EndPair[]> {
  const accepted: ((connection: RelayConnection) => void)[] = [];
  const listener = new HybridConnectionListener(options, {
    onConnection: async offer => {
      const connection = await offer.accept();
      accepted.shift()?.(connection);
    },
  });
  await listener.open();
  const client = new HybridConnectionClient(options);
  const pairs: EndPair[] = [];
  for (let index = 0; index < count; index += 1) {
    const answering = new Promise<RelayConnection>(resolve => void accepted.push(resolve));
    const [sender, listening] = await Promise.all([client.connect(), answering]);
    pairs.push({ sender: endOf(sender), listener: endOf(listening) });
  }
  return pairs;
}

function endOf(connection: RelayConnection): End {
  const end: End = {
    send: message => connection.send(message),
    onMessage: () => {},
    stalled: undefined,
  };
  void read(connection, end);
  return end;
}

async function read(connection: RelayConnection, end: End): Promise<void> {
  for await (const { isBinary, data } of connection) {
    // Not awaited without need: that is a turn of the event loop's queue of microtasks.
    if (end.stalled !== undefined) await end.stalled;
    end.onMessage(isBinary ? data : Buffer.from(data));
  }
}
