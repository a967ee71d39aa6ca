import type { Clock } from '../../base/clock.ts';
import { RelayError } from '../../client/relay-error.ts';
import type { Routes } from '../../client/routes.ts';
import type { TokenProvider } from '../../client/token-provider.ts';
import { ask, type Told } from './ask.ts';
import { readAccount, type Account } from './account.ts';
import { openListener, type Opened } from './open-listener.ts';

export interface PatientOptions {
  /** `http://host:port` or `https://host:port` */
  readonly origin: string;
  /** Name of the hybrid connection, if one was named. */
  readonly path: string | undefined;
  readonly tokens: TokenProvider | undefined;
  /** See `tokenAudience`. */
  readonly audienceFor: (path: string) => string;
  readonly routes: Routes;
  /** As the command line has it: URL, false for none, undefined for the environment. */
  readonly proxy: string | false | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
}

const TOKEN_MS = 600_000;

/** What is examined, and what was found out about it so far: nothing is asked twice. */
export class Patient {
  readonly options: PatientOptions;
  readonly url: URL;
  #health: Promise<Told | RelayError> | undefined;
  #account: Promise<Account | undefined> | undefined;
  readonly #opened = new Map<'websocket' | 'poll', Promise<Opened | undefined>>();

  constructor(options: PatientOptions) {
    this.options = options;
    this.url = new URL(options.origin);
  }

  /** `host:port` */
  get authority(): string {
    return `${this.url.hostname}:${this.port}`;
  }

  get port(): number {
    return Number(this.url.port === '' ? (this.isTls ? 443 : 80) : this.url.port);
  }

  get isTls(): boolean {
    return this.url.protocol === 'https:';
  }

  /** A question that needs no token, by which the way to the relay is known. */
  health(): Promise<Told | RelayError> {
    this.#health ??= orError(ask(this.options, new URL('/$healthz', this.url)));
    return this.#health;
  }

  /** What the relay says about the token and the hybrid connection; undefined without both. */
  account(): Promise<Account | undefined> {
    this.#account ??= this.#readAccount();
    return this.#account;
  }

  /** Listens for a moment; undefined where that is known not to be allowed, or would make a hybrid connection. */
  opened(transport: 'websocket' | 'poll'): Promise<Opened | undefined> {
    const known = this.#opened.get(transport) ?? this.#open(transport);
    this.#opened.set(transport, known);
    return known;
  }

  /** A token for the hybrid connection. Never shown. */
  async token(): Promise<string | undefined> {
    const { tokens, path, audienceFor } = this.options;
    if (tokens === undefined || path === undefined) return undefined;
    return (await tokens.getToken(audienceFor(path), TOKEN_MS)).token;
  }

  async #readAccount(): Promise<Account | undefined> {
    const token = await this.token();
    const { path } = this.options;
    if (token === undefined || path === undefined) return undefined;
    return readAccount(this.options, new URL(`/${path}`, this.url), token);
  }

  async #open(transport: 'websocket' | 'poll'): Promise<Opened | undefined> {
    const account = await this.account();
    const token = await this.token();
    const { path, routes, clock } = this.options;
    if (token === undefined || path === undefined) return undefined;
    if (account?.tokenFault !== undefined || account?.exists === false) return undefined;
    return openListener(transport, { origin: this.url, path, token, routes, clock });
  }
}

/** The outcome, failures included. */
export async function orError<T>(promise: Promise<T>): Promise<T | RelayError> {
  try {
    return await promise;
  } catch (error) {
    if (error instanceof RelayError) return error;
    throw error;
  }
}
