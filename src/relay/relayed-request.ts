import type { CancelTimer, Clock } from '../base/clock.ts';
import { IdleTimer } from '../base/idle-timer.ts';
import { parseListenerMessage } from '../protocol/control-messages.ts';
import { reasonPhrase, responseHeadersOf } from '../protocol/relayed-headers.ts';
import type { RefusalReason } from '../protocol/refusals.ts';
import type { RendezvousId } from '../protocol/ids.ts';
import { DELETED, LISTENER_LOSS_GRACE_MS, LISTENER_RETURN_MS, type RelayLimits } from './limits.ts';
import {
  OPCODE,
  type Channel,
  type ChannelReceiver,
  type DataOpcode,
  type HttpSender,
  type ListenerResponse,
  type Pending,
  type ReachableListener,
  type Refused,
  type RequestBody,
  type ResponseHead,
  type TrafficCounters,
} from './ports.ts';
import type { RendezvousActions } from './rendezvous.ts';

/**
 * One HTTP request carried to a listener and back.
 *
 *     offered ── response on the control channel ──▶ done
 *     offered ── dialled ──▶ dialled ── response head ──▶ answering ── end of body ──▶ done
 *     dialled ── response on the control channel ──▶ done
 *     any ── refused, broken, timed out, sender gone ──▶ done
 *
 * `offered` knows whether the whole request went along (`inline`) or only an address to fetch it
 * from. The first answer counts; whatever comes later is ignored. `done` is final.
 */
type State =
  | { readonly phase: 'offered'; readonly inline: boolean }
  | { readonly phase: 'dialled'; readonly channel: Channel; readonly head: HeadCollector }
  | { readonly phase: 'answering'; readonly channel: Channel; readonly head: ResponseHead }
  | { readonly phase: 'done' };

export interface RelayedRequestOptions {
  readonly id: RendezvousId;
  readonly method: string;
  /** Host the sender used, for `Via`. */
  readonly viaHost: string;
  readonly limits: Pick<
    RelayLimits,
    'acceptTimeoutMs' | 'requestTimeoutMs' | 'responseIdleTimeoutMs' | 'controlMessageBytesMax'
  >;
  readonly traffic: TrafficCounters;
  /** Called once. `status` is what the listener answered; undefined: no answer of its reached the sender whole. */
  readonly onDone: (status: number | undefined) => void;
  /** Puts it before a listener that was not asked yet; false: there is none. */
  readonly offer?: () => boolean;
  /** Why there was none. */
  readonly whyNobody?: () => RefusalReason;
  /** As of `RendezvousActions`. */
  readonly hold?: RendezvousActions['hold'];
  /** The relay's own answer for a reason. */
  readonly refusal: (reason: RefusalReason, detail?: string) => Refused;
}

/** What has arrived of the `response` message on a rendezvous. */
class HeadCollector {
  #text = '';
  #bytes = 0;
  readonly #decoder = new TextDecoder();
  readonly #bytesMax: number;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** The whole text at the end of the message, undefined before it, 'too-big' over the limit. */
  add(fin: boolean, payload: Uint8Array): string | undefined | { readonly tooBig: true } {
    this.#bytes += payload.length;
    if (this.#bytes > this.#bytesMax) return { tooBig: true };
    this.#text += this.#decoder.decode(payload, { stream: !fin });
    return fin ? this.#text : undefined;
  }
}

const EMPTY = new Uint8Array(0);

export class RelayedRequest implements Pending {
  readonly #clock: Clock;
  readonly #http: HttpSender;
  readonly #options: RelayedRequestOptions;
  #state: State = { phase: 'offered', inline: true };
  /** Undefined until somebody was asked. */
  #timer: IdleTimer | undefined;
  #cancelHold: CancelTimer = () => {};
  #listener: ReachableListener | undefined;
  /** For a request that was offered by address only: what the listener fetches. */
  #toFetch: { readonly json: string; readonly body: RequestBody } | undefined;
  /** Whether the request body goes along with a rendezvous: due from the sender, or held for a slow listener. */
  #bodyPhase: 'none' | 'due' | 'held' | 'sent' = 'none';

  constructor(clock: Clock, http: HttpSender, options: RelayedRequestOptions) {
    this.#clock = clock;
    this.#http = http;
    this.#options = options;
  }

  /** Puts it before its first listener; where nobody can be asked just now it is held, or refused. */
  start(): void {
    if (this.#options.offer?.() !== true) this.#nobody(0);
  }

  /** False: the listener's control channel takes no more. */
  offerInline(listener: ReachableListener, json: string, body: Uint8Array | undefined): boolean {
    if (!listener.offer(this, json, body)) return false;
    this.#listener = listener;
    this.#restartTimer(this.#options.limits.requestTimeoutMs, 'response-late');
    if (body !== undefined) this.#countToListener(body.length);
    return true;
  }

  /** Offers an address; the request itself, as `json` and `body`, waits for the listener to dial. */
  offerAddress(
    listener: ReachableListener,
    pointer: string,
    json: string,
    body: RequestBody,
  ): boolean {
    if (!listener.offer(this, pointer)) return false;
    this.#listener = listener;
    this.#toFetch = { json, body };
    this.#state = { phase: 'offered', inline: false };
    this.#restartTimer(this.#options.limits.acceptTimeoutMs, 'listener-silent');
    return true;
  }

  get id(): RendezvousId {
    return this.#options.id;
  }

  /** Whether the address can still be dialled: once, and before the answer. */
  get canBeDialled(): boolean {
    return this.#state.phase === 'offered';
  }

  /** The listener's rendezvous is open. */
  dialled(channel: Channel): void {
    if (this.#state.phase !== 'offered') {
      channel.close(1001, 'The request is over');
      return;
    }
    this.#state = {
      phase: 'dialled',
      channel,
      head: new HeadCollector(this.#options.limits.controlMessageBytesMax),
    };
    channel.receive(this.#receiver(channel));
    channel.resume();
    const toFetch = this.#toFetch;
    if (toFetch === undefined) return;
    this.#restartTimer(this.#options.limits.requestTimeoutMs, 'response-late');
    channel.send(OPCODE.text, true, new TextEncoder().encode(toFetch.json));
    this.#sendBody(channel, toFetch.body);
  }

  /** The answer came whole, on a control channel. */
  answerInline(response: ListenerResponse, body: Uint8Array): void {
    if (this.#state.phase === 'answering' || this.#state.phase === 'done') return;
    const head = this.#headOf(response, body.length > 0);
    if (head === undefined) return;
    const payload = head.bodyless ? EMPTY : body;
    this.#countToSender(payload.length);
    this.#finish(head.status, 1000, 'Normal Closure');
    this.#http.respond(head, payload);
  }

  /** Nobody can be asked. */
  refuse(reason: RefusalReason): void {
    if (this.#state.phase !== 'done') this.#fail(reason);
  }

  /** The hybrid connection is no more: refused with 404, or broken when its answer has begun. */
  endpointDeleted(): void {
    if (this.#state.phase === 'done') return;
    this.#fail('endpoint-unknown', undefined, { code: 1001, reason: DELETED });
  }

  /** The answer cannot be understood. */
  answerBroken(why: string): void {
    if (this.#state.phase !== 'done') this.#fail('response-invalid', why);
  }

  listenerLost(): void {
    if (this.#state.phase !== 'offered') return;
    // Libraries reconnect at once and answer on the new channel, so the request is not over yet.
    this.#restartTimer(
      Math.min(LISTENER_LOSS_GRACE_MS, this.#options.limits.requestTimeoutMs),
      'listener-lost',
    );
  }

  notTaken(): void {
    this.#listener = undefined;
    if (this.#state.phase !== 'offered' || this.#options.offer?.() === true) return;
    this.#timer?.stop();
    this.#nobody(LISTENER_RETURN_MS);
  }

  senderGone(): void {
    if (this.#state.phase !== 'done') this.#finish(undefined, 1001, 'The sender went away');
  }

  #nobody(waitMsMin: number): void {
    const { offer, whyNobody, hold } = this.#options;
    const refuse = (): void => this.refuse(whyNobody?.() ?? 'overloaded');
    const held = offer === undefined ? undefined : hold?.({ offer, over: refuse }, waitMsMin);
    if (held === undefined) refuse();
    else this.#cancelHold = held;
  }

  #receiver(channel: Channel): ChannelReceiver {
    return {
      fragment: (opcode, fin, payload) => this.#fragment(opcode, fin, payload),
      drained: () => {
        if (this.#bodyPhase !== 'held') return;
        this.#bodyPhase = 'due';
        this.#toFetch?.body.resume();
      },
      closed: (code, reason) => this.#rendezvousClosed(channel, code, reason),
      gone: () => {
        if (this.#state.phase !== 'done') this.#fail('listener-lost', 'its rendezvous broke');
      },
    };
  }

  #sendBody(channel: Channel, body: RequestBody): void {
    let opcode: DataOpcode = OPCODE.binary;
    body.read((chunk, isLast) => {
      if (this.#state.phase !== 'dialled' && this.#state.phase !== 'answering') return;
      // An empty chunk that is not the last would be an empty frame for nothing.
      if (chunk.length === 0 && !isLast) return;
      this.#timer?.touch();
      this.#countToListener(chunk.length);
      const hasRoom = channel.send(opcode, isLast, chunk);
      opcode = OPCODE.continuation;
      if (isLast) this.#bodyPhase = 'sent';
      else if (!hasRoom) {
        this.#bodyPhase = 'held';
        body.pause();
      }
    });
    this.#bodyPhase = 'due';
    body.resume();
  }

  #fragment(opcode: DataOpcode, fin: boolean, payload: Uint8Array): void {
    const state = this.#state;
    if (state.phase === 'dialled') this.#headFragment(state, opcode, fin, payload);
    else if (state.phase === 'answering') this.#bodyFragment(state, opcode, fin, payload);
  }

  #headFragment(
    state: Extract<State, { phase: 'dialled' }>,
    opcode: DataOpcode,
    fin: boolean,
    payload: Uint8Array,
  ): void {
    if (opcode === OPCODE.binary) {
      this.#violation("'response' command was expected.");
      return;
    }
    const text = state.head.add(fin, payload);
    if (text === undefined) return;
    const parsed = typeof text === 'string' ? parseListenerMessage(text) : undefined;
    if (parsed?.type !== 'response') {
      this.#violation("'response' command was expected.");
      return;
    }
    if (parsed.requestId !== this.#options.id) {
      this.#violation("'response.requestId' is for another request.");
      return;
    }
    const head = this.#headOf(parsed, parsed.body);
    if (head === undefined) return;
    if (!parsed.body) {
      this.#finish(head.status, 1000, 'Normal Closure');
      this.#http.respond(head, EMPTY);
      return;
    }
    this.#state = { phase: 'answering', channel: state.channel, head };
    this.#restartTimer(this.#options.limits.responseIdleTimeoutMs, 'response-late');
    // Without a body there is nothing to stream: the head is written when the listener has finished.
    if (!head.bodyless) this.#http.start(head, () => state.channel.resume());
  }

  #bodyFragment(
    state: Extract<State, { phase: 'answering' }>,
    opcode: DataOpcode,
    fin: boolean,
    payload: Uint8Array,
  ): void {
    if (opcode === OPCODE.text) {
      this.#violation('Body messages must be MessageType=Binary.');
      return;
    }
    this.#timer?.touch();
    if (!state.head.bodyless && payload.length > 0) {
      this.#countToSender(payload.length);
      if (!this.#http.write(payload)) state.channel.pause();
    }
    if (fin) this.#endOfBody(state.head);
  }

  #endOfBody(head: ResponseHead): void {
    this.#finish(head.status, 1000, 'Normal Closure');
    if (head.bodyless) this.#http.respond(head, EMPTY);
    else this.#http.end();
  }

  #rendezvousClosed(channel: Channel, code: number, reason: string): void {
    channel.close(code === 1005 ? 1000 : code, reason);
    if (this.#state.phase === 'done') return;
    // Java sends no last fragment: it ends its body by closing.
    const isClean = code === 1000 || code === 1005;
    if (this.#state.phase === 'answering' && isClean) this.#endOfBody(this.#state.head);
    else this.#fail('listener-lost', 'it closed the rendezvous before its answer was complete');
  }

  #violation(why: string): void {
    this.#fail('response-invalid', why, { code: 1002, reason: why });
  }

  /** The head to write, or undefined when the answer was refused because of it. */
  #headOf(response: ListenerResponse, hasBody: boolean): ResponseHead | undefined {
    const { statusCode, statusDescription } = response;
    if (!Number.isInteger(statusCode) || statusCode < 200 || statusCode > 599) {
      this.#fail('response-invalid', `status ${statusCode} is not between 200 and 599`);
      return undefined;
    }
    const relayed = responseHeadersOf(response.responseHeaders, { viaHost: this.#options.viaHost });
    if ('invalid' in relayed) {
      this.#fail('response-invalid', 'a response header holds characters that HTTP forbids');
      return undefined;
    }
    const bodyless = this.#options.method === 'HEAD' || statusCode === 204 || statusCode === 304;
    // Java's reader fails on a body without a type.
    const needsType = hasBody && !bodyless && !relayed.hasContentType;
    return {
      status: statusCode,
      reasonPhrase: reasonPhrase(statusCode, statusDescription),
      headers: needsType
        ? [...relayed.headers, ['Content-Type', 'application/octet-stream']]
        : relayed.headers,
      bodyless,
      ...(relayed.contentLength === undefined ? {} : { contentLength: relayed.contentLength }),
    };
  }

  /** Ends the exchange with the relay's own answer, or by breaking an answer that has begun. */
  #fail(
    reason: RefusalReason,
    detail?: string,
    close = { code: 1011, reason: 'The request failed' },
  ): void {
    const began = this.#state.phase === 'answering' && !this.#state.head.bodyless;
    this.#finish(undefined, close.code, close.reason);
    if (began) this.#http.abort();
    else this.#http.refuse(this.#options.refusal(reason, detail));
  }

  #finish(status: number | undefined, closeCode: number, closeText: string): void {
    const state = this.#state;
    this.#state = { phase: 'done' };
    this.#timer?.stop();
    this.#cancelHold();
    this.#listener?.settled(this);
    this.#toFetch = undefined;
    this.#options.onDone(status);
    if (state.phase === 'dialled' || state.phase === 'answering') {
      state.channel.close(closeCode, closeText);
      // A reader that is held back would never let the peer's own Close through.
      state.channel.resume();
    }
  }

  #restartTimer(timeoutMs: number, reason: RefusalReason): void {
    this.#timer?.stop();
    this.#timer = new IdleTimer(this.#clock, timeoutMs, () => this.#late(reason));
  }

  /** A listener cannot be late with an answer to a request that it has not got whole. */
  #late(reason: RefusalReason): void {
    this.#fail(this.#bodyPhase === 'due' ? 'body-stalled' : reason);
  }

  #countToListener(bytes: number): void {
    this.#options.traffic[0] = (this.#options.traffic[0] ?? 0) + bytes;
  }

  #countToSender(bytes: number): void {
    this.#options.traffic[1] = (this.#options.traffic[1] ?? 0) + bytes;
  }
}
