import type { CancelTimer, Clock } from '../base/clock.ts';
import { formatRenewToken } from '../protocol/control-messages.ts';
import { CLOSE_CODE_LOST, OPCODES } from '../protocol/frames.ts';
import { Backoff } from './backoff.ts';
import { ControlReader, type ControlEvents } from './control-reader.ts';
import type { Dial, FrameChannel, TransportName } from './frame-channel.ts';
import { RelayError, unlessAborted } from './relay-error.ts';
import { TokenRenewal } from './token-renewal.ts';
import type { RelayToken } from './token-provider.ts';

export interface ControlLinkOptions extends ControlEvents {
  /** The whole address, `sb-hc-action=listen` included. */
  readonly address: string;
  readonly dial: Dial;
  readonly clock: Clock;
  readonly getToken: (validForMs: number) => Promise<RelayToken>;
  readonly onOnline: (transport: TransportName) => void;
  readonly onMoved: (transport: TransportName) => void;
  /** It was online and is not any more. */
  readonly onOffline: (why: RelayError) => void;
  /** The next try comes after `delayMs`. */
  readonly onRetry: (retry: RetryInfo) => void;
  /** A token could not be renewed; it is tried again. */
  readonly onRenewalFailure: (error: unknown) => void;
  readonly random?: () => number;
}

export interface RetryInfo {
  /** Tries that failed in a row. */
  readonly failures: number;
  readonly delayMs: number;
  readonly why: RelayError;
}

export const LISTENER_TOKEN_MS = 3_600_000;
const HANDSHAKE_TIMEOUT_MS = 20_000;
/** How long the relay may take to answer our Close. */
const CLOSE_TIMEOUT_MS = 5_000;
/** A channel that held for so long was a good one: what follows is no further failure. */
const STABLE_MS = 10_000;
/** "Going away": the relay moves its listeners to another node. */
const CODE_GOING_AWAY = 1001;

/**
 * A listener's control channel, kept open.
 *
 *     connecting ── 101 ──▶ online ── closed, broken ──▶ waiting ── pause over ──▶ connecting
 *     connecting ── refused, for a reason that waiting cures, or after it was online once ──▶ waiting
 *     connecting ── refused otherwise ──▶ over
 *     any ── stop ──▶ over
 */
export class ControlLink {
  readonly #options: ControlLinkOptions;
  readonly #backoff: Backoff;
  readonly #stopped = new AbortController();
  #channel: FrameChannel | undefined;
  #wasOnline = false;

  constructor(options: ControlLinkOptions) {
    this.#options = options;
    this.#backoff = new Backoff(options.random);
  }

  /** Runs until `stop`; rejects with a `RelayError` when it cannot become online and waiting does not help. */
  async run(): Promise<void> {
    while (!this.#isStopped) {
      const { why, isFinal = false, isMove = false } = await this.#attempt();
      if (this.#isStopped) return;
      if (isFinal) throw why;
      // The relay has sent it elsewhere, where it is welcome at once; not so if that happens again and again.
      const isFirstMove = isMove && this.#backoff.failures === 0;
      const pauseMs = this.#backoff.nextMs();
      const delayMs = isFirstMove ? 0 : pauseMs;
      this.#options.onRetry({ failures: this.#backoff.failures, delayMs, why });
      await this.#pause(delayMs);
    }
  }

  /** Closes the channel, as a listener that goes away does. Safe to call twice. */
  stop(): void {
    if (this.#isStopped) return;
    this.#stopped.abort();
    this.#channel?.close(1000, 'Normal Closure');
  }

  /** Sends a message and right behind it its body. False when the channel is down. */
  send(text: string, body?: Uint8Array): boolean {
    const channel = this.#channel;
    if (channel === undefined || this.#isStopped) return false;
    channel.send(OPCODES.text, true, Buffer.from(text));
    if (body !== undefined) channel.send(OPCODES.binary, true, body);
    return true;
  }

  get #isStopped(): boolean {
    return this.#stopped.signal.aborted;
  }

  /** From the dial to the end of the channel. */
  async #attempt(): Promise<Ended> {
    const { address, clock, dial, getToken } = this.#options;
    const { signal } = this.#stopped;
    try {
      const token = await unlessAborted('To get a token', signal, getToken(LISTENER_TOKEN_MS));
      const channel = await dial(address, {
        clock,
        signal,
        headers: { ServiceBusAuthorization: token.token },
        timeoutMs: HANDSHAKE_TIMEOUT_MS,
        cutsWhenSilent: true,
      });
      return await this.#serve(channel, token);
    } catch (error) {
      if (!(error instanceof RelayError)) throw error;
      // Once it was online, what stands against it now may pass: a rule that is being changed, a relay being restored.
      return { why: error, isFinal: !this.#wasOnline && !error.isTransient };
    }
  }

  async #serve(channel: FrameChannel, token: RelayToken): Promise<Ended> {
    const { clock, getToken, onMoved, onOffline, onOnline, onRenewalFailure } = this.#options;
    const openedAtMs = clock.nowMs();
    const end = new Promise<{ readonly code: number; readonly reason: string }>(resolve => {
      const reader = new ControlReader(this.#options);
      let reason = '';
      let cancel: CancelTimer | undefined;
      const cutLater = (): void => {
        cancel = clock.after(CLOSE_TIMEOUT_MS, () => channel.destroy());
      };
      this.#stopped.signal.addEventListener('abort', cutLater, { once: true });
      channel.receive({
        fragment: (opcode, fin, payload) => {
          // Senders that come after `stop` find another listener, or are told by the relay.
          if (this.#isStopped || reader.take(opcode, fin, payload)) return;
          channel.close(1009, 'The message is too long');
          cutLater();
        },
        moved: onMoved,
        closed: (code, text) => {
          reason = text;
          channel.close(code, text);
        },
        gone: code => {
          cancel?.();
          this.#stopped.signal.removeEventListener('abort', cutLater);
          resolve({ code, reason });
        },
      });
    });
    const renewal = new TokenRenewal(token, {
      clock,
      validForMs: LISTENER_TOKEN_MS,
      getToken,
      send: renewed => void this.send(formatRenewToken(renewed)),
      onFailure: onRenewalFailure,
    });
    this.#channel = channel;
    this.#wasOnline = true;
    if (this.#isStopped) channel.close(1000, 'Normal Closure');
    else onOnline(channel.transport);
    const { code, reason } = await end;
    renewal.stop();
    this.#channel = undefined;
    if (clock.nowMs() - openedAtMs >= STABLE_MS) this.#backoff.reset();
    const why = endOf(code, reason);
    onOffline(why);
    return { why, isMove: code === CODE_GOING_AWAY };
  }

  async #pause(delayMs: number): Promise<void> {
    const { signal } = this.#stopped;
    if (signal.aborted) return;
    await new Promise<void>(resolve => {
      const cancel = this.#options.clock.after(delayMs, () => {
        signal.removeEventListener('abort', wake);
        resolve();
      });
      const wake = (): void => {
        cancel();
        resolve();
      };
      signal.addEventListener('abort', wake, { once: true });
    });
  }
}

interface Ended {
  readonly why: RelayError;
  /** Waiting does not help. */
  readonly isFinal?: boolean;
  /** The relay wants its listeners elsewhere. */
  readonly isMove?: boolean;
}

function endOf(code: number, reason: string): RelayError {
  if (code === CLOSE_CODE_LOST) {
    const message = 'The control channel broke: the relay, or the way to it, is gone';
    return new RelayError('ConnectionLost', message, { isTransient: true });
  }
  const isAboutToken = code === 1008 && /token|signature|audience/i.test(reason);
  const message = `The relay closed the control channel with ${code} ${reason}`.trimEnd();
  return new RelayError(isAboutToken ? 'Unauthorized' : 'ConnectionLost', message, {
    isTransient: !isAboutToken,
  });
}
