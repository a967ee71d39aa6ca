// What one writes first: a relay of whole messages over socket.io, by its polling transport alone. The two clients that
// give the same `pair` in their handshake are joined.
import { createServer } from 'node:http';
import { Server, type Socket } from 'socket.io';
import { boundPort } from '../subjects/port.ts';

/** By itself it cuts clients off that post more than 1 MB at once, which its client does. */
const POST_BYTES_MAX = 16 << 20;

const waiting = new Map<string, Socket>();
const server = createServer();
const io = new Server(server, {
  transports: ['polling'],
  serveClient: false,
  maxHttpBufferSize: POST_BYTES_MAX,
});

io.on('connection', socket => {
  const pair = String(socket.handshake.auth['pair']);
  const partner = waiting.get(pair);
  if (partner === undefined) {
    waiting.set(pair, socket);
    return;
  }
  waiting.delete(pair);
  forward(socket, partner);
  forward(partner, socket);
  socket.emit('joined');
  partner.emit('joined');
});

server.listen(0, '127.0.0.1', () => {
  console.log(JSON.stringify({ port: boundPort(server.address()) }));
});

function forward(from: Socket, to: Socket): void {
  from.on('message', (message: Buffer) => to.emit('message', message));
  from.on('disconnect', () => to.disconnect());
}
