// A listener that answers every relayed request inline with five bytes, as cheaply as the `ws` package allows.
// Argument: the URL of its control channel.
import { WebSocket } from 'ws';

const [url = ''] = process.argv.slice(2);
const HEADERS = { 'Content-Type': 'text/plain' };
const BODY = Buffer.from('hello');

interface Request {
  readonly request?: { readonly id: string; readonly body?: boolean; readonly address?: string };
}

const socket = new WebSocket(url, { headers: { host: 'localhost' }, perMessageDeflate: false });
socket.on('open', () => console.log(JSON.stringify({ ready: true })));
socket.on('error', error => {
  throw error;
});
socket.on('message', (bytes: Buffer, isBinary) => {
  // A request's inline body follows in a binary message of its own.
  if (isBinary) return;
  const { request }: Request = JSON.parse(bytes.toString());
  if (request === undefined) return;
  const response = {
    requestId: request.id,
    statusCode: 200,
    responseHeaders: HEADERS,
    body: true,
  };
  socket.send(JSON.stringify({ response }));
  socket.send(BODY);
});
