import { httpUrlOf } from './dial-websocket.ts';
import type { Dial, DialOptions, FrameChannel } from './frame-channel.ts';
import { attemptOf, doing, UPGRADE_STRIPPED } from './refused-answers.ts';
import { RelayError } from './relay-error.ts';
import type { Routes } from './routes.ts';
import { originOf, type TransportMemory } from './transport-memory.ts';
import { FIRST_PONG_TIMEOUT_MS } from './poll/way-back.ts';
import { watched } from './watched-channel.ts';

/** A sender waits until a listener has taken it. */
const OPENING_TIMEOUT_MS = 70_000;
/** How long the relay may take to answer a handshake that it can answer by itself. */
const HANDSHAKE_TIMEOUT_MS = 10_000;
/** A sender's handshake is answered when a listener has taken it. After so long without, it is looked into. */
const SILENCE_MS = 12_000;
/** How long the relay may take to refuse a handshake that it can only refuse. */
const QUESTION_TIMEOUT_MS = 5_000;
/** A session that no relay gave out. */
const QUESTION_TARGET = `/$poll/${'0'.repeat(64)}?turn=1&ack=0&credit=0`;

export interface TransportDials {
  readonly webSocket: Dial;
  readonly poll: Dial;
  readonly memory: TransportMemory;
  readonly routes: Routes;
}

/**
 * Opens a WebSocket, or, where something on the way does not let it pass, a long-poll session; what
 * passes where is remembered. What the relay itself refuses is refused.
 */
export function dialAuto(dials: TransportDials): Dial {
  const { memory, routes } = dials;
  return async (address, options) => {
    const origin = originOf(httpUrlOf(address), routes);
    const { clock, timeoutMs = OPENING_TIMEOUT_MS } = options;
    const endsAtMs = clock.nowMs() + timeoutMs;
    const isTimeLeft = (): boolean => clock.nowMs() < endsAtMs;
    const withTimeLeft = (): DialOptions & { readonly timeoutMs: number } => ({
      ...options,
      timeoutMs: Math.max(1, endsAtMs - clock.nowMs()),
    });
    const byPoll = (): Promise<FrameChannel> => dials.poll(address, withTimeLeft());
    const byWebSocket = async (): Promise<FrameChannel> => {
      const channel = await dialWebSocketFirst(dials, address, withTimeLeft());
      memory.webSocketWorked(origin);
      return watched(channel, clock, {
        onBrokeEarly: () => memory.webSocketBroke(origin),
        onHeld: () => memory.webSocketHeld(origin),
      });
    };
    if (memory.isBlocked(origin)) {
      return inTurn(byPoll, byWebSocket, error => isTimeLeft() && !isWordOfRelay(error));
    }
    const channel = await inTurn(
      byWebSocket,
      byPoll,
      error => isTimeLeft() && pointsToObstacle(error),
    );
    if (channel.transport === 'poll') memory.webSocketFailed(origin);
    return channel;
  };
}

/** The second way, if the error of the first is such that it may lead there. */
async function inTurn(
  first: () => Promise<FrameChannel>,
  second: () => Promise<FrameChannel>,
  isWorthTrying: (error: RelayError) => boolean,
): Promise<FrameChannel> {
  try {
    return await first();
  } catch (error) {
    if (!(error instanceof RelayError) || !isWorthTrying(error)) throw error;
    try {
      return await second();
    } catch (other) {
      // What the relay says is worth more than what kept us from hearing it.
      throw other instanceof RelayError && isWordOfRelay(other) ? other : error;
    }
  }
}

async function dialWebSocketFirst(
  dials: TransportDials,
  address: string,
  options: DialOptions & { readonly timeoutMs: number },
): Promise<FrameChannel> {
  const attempt = attemptOf(httpUrlOf(address));
  if (attempt.action !== 'connect') {
    const timeoutMs = Math.min(options.timeoutMs, HANDSHAKE_TIMEOUT_MS);
    // A control channel ends at the relay, which answers pings; behind other addresses is the other side.
    const isControl = attempt.action === 'listen';
    const firstPongTimeoutMs = isControl ? FIRST_PONG_TIMEOUT_MS : undefined;
    return dials.webSocket(address, { ...options, timeoutMs, firstPongTimeoutMs });
  }
  const obstacle = new AbortController();
  const signals = [options.signal ?? [], obstacle.signal].flat();
  const cancel = options.clock.after(SILENCE_MS, () => {
    void isHeard(dials, address, options).then(yes => {
      if (!yes) obstacle.abort();
    });
  });
  try {
    return await dials.webSocket(address, { ...options, signal: AbortSignal.any(signals) });
  } catch (error) {
    if (!obstacle.signal.aborted || options.signal?.aborted === true) throw error;
    const message = `Cannot ${doing(attempt)}: no answer to a WebSocket handshake`;
    throw new RelayError('Timeout', message, { isTransient: true, cause: error });
  } finally {
    cancel();
  }
}

/**
 * Whether handshakes reach the relay, asked with one that it refuses at once. A listener may take its
 * time; to give up a sender whom it is about to take would show it two of them.
 */
async function isHeard(
  dials: TransportDials,
  address: string,
  { clock, signal }: DialOptions,
): Promise<boolean> {
  const url = new URL(QUESTION_TARGET, address);
  try {
    const channel = await dials.webSocket(url.href, {
      clock,
      signal,
      timeoutMs: QUESTION_TIMEOUT_MS,
    });
    channel.destroy();
    return true;
  } catch (error) {
    return error instanceof RelayError && isWordOfRelay(error);
  }
}

/** The answer is the relay's own, or a listener's, or the caller wants no more. */
function isWordOfRelay({ code, trackingId, message }: RelayError): boolean {
  if (code === 'Aborted' || code === 'Rejected') return true;
  return trackingId !== undefined && !message.includes(UPGRADE_STRIPPED);
}

/** Whether HTTP requests may come through where this WebSocket did not. */
function pointsToObstacle(error: RelayError): boolean {
  if (isWordOfRelay(error)) return false;
  switch (error.code) {
    case 'TlsFailed':
      return false;
    case 'ProxyRefused':
      // Some proxies let nobody through, but forward requests. Without credentials they do neither.
      return error.status !== 407;
    case 'ConnectionFailed':
      return isCut(error.cause);
    default:
      return true;
  }
}

/** There was a connection, and the handshake ended it. */
function isCut(cause: unknown): boolean {
  if (typeof cause !== 'object' || cause === null || !('code' in cause)) return false;
  return cause.code === 'ECONNRESET' || cause.code === 'EPIPE';
}
