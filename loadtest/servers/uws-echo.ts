// The measure of all message scenarios: uWebSockets.js, the same build as the relay's, sending back what it gets.
import { uWS } from '../../src/transports/uws.ts';

const MESSAGE_BYTES_MAX = 16 << 20;

uWS
  .App()
  .ws('/*', {
    idleTimeout: 0,
    sendPingsAutomatically: false,
    maxPayloadLength: MESSAGE_BYTES_MAX,
    maxBackpressure: 0,
    message: (ws, message, isBinary) => {
      ws.send(message, isBinary);
    },
  })
  .get('/*', res => {
    res.end('hello');
  })
  .post('/*', res => {
    res.onAborted(() => undefined);
    res.onData((_part, isLast) => {
      if (isLast) res.end('hello');
    });
  })
  .listen('127.0.0.1', 0, 1, socket => {
    if (socket === false) throw new Error('Cannot listen');
    console.log(JSON.stringify({ port: uWS.us_socket_local_port(socket) }));
  });
