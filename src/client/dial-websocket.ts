import { createHash, randomBytes } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Clock } from '../base/clock.ts';
import type { Dial, DialOptions, FrameChannel } from './frame-channel.ts';
import { attemptOf, doing, refusalError, type Attempt } from './refused-answers.ts';
import { abortedError, RelayError } from './relay-error.ts';
import type { Routes } from './routes.ts';
import { WebSocketChannel } from './websocket-channel.ts';

/** A sender waits until a listener has taken it. */
const HANDSHAKE_TIMEOUT_MS = 70_000;
/** RFC 6455, section 1.3. */
const ACCEPT_SUFFIX = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

/** Opens WebSockets. Nothing is read from one before its `receive`. */
export function dialWebSocket(routes: Routes): Dial {
  return async (address, options) => {
    const url = httpUrlOf(address);
    const attempt = attemptOf(url);
    const { signal } = options;
    if (signal?.aborted === true) throw abortedError(`To ${doing(attempt)}`, signal);
    return handshake(url, attempt, { routes, options });
  };
}

/** The `http:` or `https:` twin of a `ws:` or `wss:` address. */
export function httpUrlOf(address: string): URL {
  if (/^wss?:/i.test(address) && URL.canParse(address)) {
    return new URL(address.replace(/^ws/i, 'http'));
  }
  throw new RelayError('ProtocolError', 'The relay gave an address that is no ws:// or wss:// URL');
}

function handshake(
  url: URL,
  attempt: Attempt,
  { routes, options }: { readonly routes: Routes; readonly options: DialOptions },
): Promise<FrameChannel> {
  const { clock, signal, protocols = [] } = options;
  const key = randomBytes(16).toString('base64');
  const { request, failure, proxyRefusal } = routes.open(url, {
    doing: doing(attempt),
    isUpgrade: true,
    headers: {
      ...options.headers,
      Connection: 'Upgrade',
      Upgrade: 'websocket',
      'Sec-WebSocket-Version': '13',
      'Sec-WebSocket-Key': key,
      ...(protocols.length > 0 ? { 'Sec-WebSocket-Protocol': protocols.join(', ') } : {}),
    },
  });
  return new Promise<FrameChannel>((resolve, reject) => {
    const timeoutMs = options.timeoutMs ?? HANDSHAKE_TIMEOUT_MS;
    const cancelTimeout = clock.after(timeoutMs, () => {
      const message = `Cannot ${doing(attempt)}: no answer within ${timeoutMs / 1_000} s`;
      fail(new RelayError('Timeout', message, { isTransient: true }));
    });
    const onAbort = (): void => {
      if (signal !== undefined) fail(abortedError(`To ${doing(attempt)}`, signal));
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    const settle = (): void => {
      cancelTimeout();
      signal?.removeEventListener('abort', onAbort);
    };
    const fail = (error: RelayError): void => {
      settle();
      reject(error);
      request.destroy();
    };
    request.on('error', error => fail(failure(error)));
    request.once('response', response => {
      const refusal = proxyRefusal(response);
      if (refusal !== undefined) {
        fail(refusal);
        return;
      }
      const { statusCode: status = 0, statusMessage: reason = '' } = response;
      bodyStart(response, clock).then(
        body => fail(refusalError(attempt, { status, reason, body })),
        (error: unknown) => fail(failure(error)),
      );
    });
    request.once('upgrade', (response, stream, head) => {
      settle();
      const fault = faultOf(response, key, protocols);
      if (fault === undefined) {
        const protocol = response.headers['sec-websocket-protocol'] ?? '';
        const { cutsWhenSilent = false, firstPongTimeoutMs } = options;
        const start = { head, protocol, clock, cutsWhenSilent, firstPongTimeoutMs };
        resolve(new WebSocketChannel(stream, start));
        return;
      }
      stream.destroy();
      reject(new RelayError('ProtocolError', `Cannot ${doing(attempt)}: ${fault}`));
    });
    request.end();
  });
}

function faultOf(
  response: IncomingMessage,
  key: string,
  protocols: readonly string[],
): string | undefined {
  const accept = createHash('sha1').update(`${key}${ACCEPT_SUFFIX}`).digest('base64');
  const { headers } = response;
  if (headers['sec-websocket-accept'] !== accept) {
    return 'the other end does not speak WebSocket: its Sec-WebSocket-Accept is wrong';
  }
  if (headers['sec-websocket-extensions'] !== undefined) {
    return 'the other end insists on a WebSocket extension that it was not offered';
  }
  const protocol = headers['sec-websocket-protocol'];
  return protocol === undefined || protocols.includes(protocol)
    ? undefined
    : 'the other end chose a subprotocol that it was not offered';
}

/** What of a refusal's body is looked at, and for how long it is waited for. */
const BODY_BYTES_MAX = 16_384;
const BODY_TIMEOUT_MS = 3_000;

/** The beginning of a body as text; a body that breaks off or trickles is taken for what has come of it. */
export function bodyStart(response: IncomingMessage, clock: Clock): Promise<string> {
  return new Promise(resolve => {
    const chunks: Buffer[] = [];
    let size = 0;
    const done = (): void => {
      cancel();
      resolve(Buffer.concat(chunks).toString('utf8'));
    };
    const cancel = clock.after(BODY_TIMEOUT_MS, done);
    response.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      size += chunk.length;
      if (size > BODY_BYTES_MAX) done();
    });
    response.once('error', done);
    response.once('close', done);
    response.once('end', done);
  });
}
