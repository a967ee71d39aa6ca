import { encodePollBatch, parsePollBatch, type PollBatch } from '../../src/protocol/poll-frames.ts';
import {
  formatPollQuery,
  parsePollProgress,
  parsePollReason,
  parsePollTerms,
  type PollProgress,
  type PollQuestion,
  type PollTerms,
} from '../../src/protocol/poll-session.ts';
import type { NotTaken, PollCarrier } from './poll-client.ts';
import { PollClient } from './poll-client.ts';
import type { TestRelay } from './relay.ts';

/** What was answered to a request, with the fields that refusals have. */
export interface PollHttpAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Buffer;
  readonly text: string;
  readonly reason: string | undefined;
}

export interface OpenOptions {
  readonly action?: 'listen' | 'connect';
  readonly path?: string;
  /** Where the token goes. */
  readonly tokenIn?: 'header' | 'query' | 'nowhere';
  readonly token?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly query?: string;
}

async function answerOf(response: Response): Promise<PollHttpAnswer> {
  const body = Buffer.from(await response.arrayBuffer());
  const text = body.toString();
  const { status, headers } = response;
  return { status, headers, body, text, reason: parsePollReason(text) };
}

export async function request(url: string, init: RequestInit = {}): Promise<PollHttpAnswer> {
  return answerOf(await fetch(url, init));
}

/** Asks for a session where the handshake of a WebSocket would go. */
export async function requestSession(
  relay: TestRelay,
  options: OpenOptions = {},
): Promise<PollHttpAnswer> {
  const { action = 'connect', path = 'hyco', tokenIn = 'header' } = options;
  const token = options.token ?? relay.token(path);
  const inQuery = tokenIn === 'query' ? `&sb-hc-token=${encodeURIComponent(token)}` : '';
  const extra = options.query === undefined ? '' : `&${options.query}`;
  const url = `${relay.httpUrl}/$hc/${path}?sb-hc-action=${action}&sb-hc-transport=poll${inQuery}${extra}`;
  return request(url, {
    method: 'POST',
    headers: {
      ...(tokenIn === 'header' ? { ServiceBusAuthorization: token } : {}),
      ...options.headers,
    },
  });
}

/** A session by its requests, each made by hand. */
export class HttpSession implements PollCarrier {
  readonly url: string;
  readonly terms: PollTerms;
  #turn = 0;

  constructor(url: string, terms: PollTerms) {
    this.url = url;
    this.terms = terms;
  }

  static of(answer: PollHttpAnswer, baseUrl: string): HttpSession {
    const terms = parsePollTerms(answer.text);
    const location = answer.headers.get('location');
    if (answer.status !== 201 || terms === undefined || location === null) {
      throw new Error(`No session: ${answer.status} ${answer.text}`);
    }
    return new HttpSession(new URL(location, baseUrl).href, terms);
  }

  static async open(relay: TestRelay, options: OpenOptions = {}): Promise<HttpSession> {
    return HttpSession.of(await requestSession(relay, options), relay.httpUrl);
  }

  /** Dials an address of an `accept` or `request` message. */
  static async dial(relay: TestRelay, address: string): Promise<HttpSession> {
    const url = `${address.replace(/^ws/, 'http')}&sb-hc-transport=poll`;
    return HttpSession.of(await request(url, { method: 'POST' }), relay.httpUrl);
  }

  /** Plays the client from here on. */
  channel(): PollClient {
    return new PollClient(this, this.terms.credit);
  }

  /** The answer to a poll as it is. */
  get(question: Partial<PollQuestion> = {}): Promise<PollHttpAnswer> {
    this.#turn = question.turn ?? this.#turn + 1;
    const { ack = 0, credit = 1_048_576 } = question;
    return request(
      `${this.url}?${formatPollQuery({ ...question, turn: this.#turn, ack, credit })}`,
    );
  }

  async poll(question: Partial<PollQuestion> = {}): Promise<PollBatch | NotTaken> {
    const answer = await this.get(question);
    if (answer.status !== 200) return { reason: answer.reason ?? answer.text };
    const batch = parsePollBatch(answer.body);
    if (typeof batch === 'string') throw new Error(batch);
    return batch;
  }

  /** The batch that a poll brings. */
  async next(question: Partial<PollQuestion> = {}): Promise<PollBatch> {
    const answer = await this.poll(question);
    if ('reason' in answer) throw new Error(answer.reason);
    return answer;
  }

  put(batch: Partial<PollBatch> | Uint8Array): Promise<PollHttpAnswer> {
    const body =
      batch instanceof Uint8Array
        ? batch
        : encodePollBatch({ seq: 1, ack: 0, credit: 1_048_576, frames: [], ...batch });
    return request(this.url, { method: 'POST', body });
  }

  async post(batch: PollBatch): Promise<PollProgress | NotTaken> {
    const answer = await this.put(batch);
    if (answer.status !== 200) return { reason: answer.reason ?? answer.text };
    const progress = parsePollProgress(answer.text);
    if (progress === undefined) throw new Error(answer.text);
    return progress;
  }

  async end(): Promise<PollHttpAnswer> {
    return request(this.url, { method: 'DELETE' });
  }
}
