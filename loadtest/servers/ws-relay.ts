// What one writes first: a relay of whole messages over the `ws` package. /a/N and /b/N are joined.
import { WebSocketServer } from 'ws';
import type { WebSocket } from 'ws';
import { boundPort } from '../subjects/port.ts';

const waiting = new Map<string, WebSocket>();
const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: false });

server.on('connection', (socket, request) => {
  const name = request.url?.slice('/a/'.length) ?? '';
  const partner = waiting.get(name);
  if (partner === undefined) {
    waiting.set(name, socket);
    return;
  }
  waiting.delete(name);
  forward(socket, partner);
  forward(partner, socket);
});

server.on('listening', () => {
  console.log(JSON.stringify({ port: boundPort(server.address()) }));
});

function forward(from: WebSocket, to: WebSocket): void {
  from.on('message', (message, isBinary) => to.send(message, { binary: isBinary }));
  from.on('close', () => to.close());
  from.on('error', () => to.terminate());
}
