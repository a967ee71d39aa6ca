// How the .NET and Java libraries answer, told from their sources in client-behaviour.md sections 6 and 7: the answer is
// held back up to 64 KiB or 2 s, then it moves to a rendezvous.
import { once } from 'node:events';
import { WebSocket } from 'ws';
import {
  responseText,
  type Answer,
  type HttpListener,
  type ReceivedRequest,
} from './http-listener.ts';

const HELD_BYTES_MAX = 65_536;

/** Among writes: a pause longer than the library waits. */
export const LATE = Buffer.from('late');

/** What an application writes, one write after another. */
export type Writes = readonly (string | Uint8Array)[];

/** Opens the rendezvous of a request that came over the control channel; stays on one that there is. */
async function rendezvousOf(listener: HttpListener, request: ReceivedRequest): Promise<WebSocket> {
  return request.isByRendezvous ? request.channel : listener.dial(request.address);
}

/** Whether the library keeps the whole answer back until the stream is closed. */
function fitsControlChannel(request: ReceivedRequest, writes: Writes): boolean {
  const bytes = writes.reduce((sum, write) => sum + write.length, 0);
  return !request.isByRendezvous && !writes.includes(LATE) && bytes <= HELD_BYTES_MAX;
}

function wholeOf(writes: Writes): Buffer {
  return Buffer.concat(writes.map(write => Buffer.from(write)));
}

/** Answers as .NET does: fragments, an empty last one, and a full close handshake with 1000. */
export async function answerLikeDotNet(
  listener: HttpListener,
  request: ReceivedRequest,
  writes: Writes,
  head: Answer = {},
): Promise<{ readonly closeCode: number } | undefined> {
  if (fitsControlChannel(request, writes)) {
    listener.answer(request, writes.length === 0 ? head : { ...head, body: wholeOf(writes) });
    return undefined;
  }
  const socket = await rendezvousOf(listener, request);
  socket.send(responseText(request.id, { ...head, body: '' }));
  for (const write of writes) if (write !== LATE) socket.send(Buffer.from(write), { fin: false });
  socket.send(Buffer.alloc(0), { fin: true });
  const closed = once(socket, 'close');
  socket.close(1000, 'NormalClosure');
  const [closeCode] = await closed;
  return { closeCode: Number(closeCode) };
}

/** Answers as Java does: fragments without a last one, and close 1000. */
export async function answerLikeJava(
  listener: HttpListener,
  request: ReceivedRequest,
  writes: Writes,
  head: Answer = {},
): Promise<void> {
  if (request.isByRendezvous && !request.hasBody) {
    // The library fails with a null reference.
    request.channel.terminate();
    return;
  }
  if (fitsControlChannel(request, writes)) {
    listener.answer(request, writes.length === 0 ? head : { ...head, body: wholeOf(writes) });
    return;
  }
  const socket = await rendezvousOf(listener, request);
  socket.send(responseText(request.id, { ...head, body: '' }));
  for (const write of writes) if (write !== LATE) socket.send(Buffer.from(write), { fin: false });
  socket.close(1000, 'NormalClosure');
}
