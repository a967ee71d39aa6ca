import { Agent } from 'node:http';
import { io, type Socket } from 'socket.io-client';
import type { End, EndPair } from './end.ts';

/** Opens pairs of ends at servers/socket-io-relay.ts. */
export async function openSocketIoPairs(url: string, count: number): Promise<readonly EndPair[]> {
  // By itself its client opens a connection for each request.
  const agent = new Agent({ keepAlive: true });
  const pairs: EndPair[] = [];
  for (let index = 0; index < count; index += 1) {
    const [sender, listener] = await Promise.all([
      dial(url, agent, index),
      dial(url, agent, index),
    ]);
    pairs.push({ sender, listener });
  }
  return pairs;
}

async function dial(url: string, agent: Agent, index: number): Promise<End> {
  // The types are those of browsers; in Node `agent` is one of node:http.
  const inNode: object = { agent };
  const socket: Socket = io(url, {
    ...inNode,
    transports: ['polling'],
    auth: { pair: String(index) },
    forceNew: true,
  });
  const joined = new Promise<void>(resolve => void socket.once('joined', resolve));
  const end: End = {
    send: message => {
      socket.emit('message', message);
      return Promise.resolve();
    },
    onMessage: () => {},
    stalled: undefined,
  };
  socket.on('message', (message: Buffer) => end.onMessage(message));
  socket.on('disconnect', reason => {
    throw new Error(`socket.io was disconnected: ${reason}`);
  });
  await joined;
  return end;
}
