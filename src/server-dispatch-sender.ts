import type { EchoAnswer, MachineEcho } from './api/ports.ts';
import type { Clock } from './base/clock.ts';
import type { Logger } from './base/logger.ts';
import type { MachineRequest, MachineResponse, MachineSender } from './dispatch/machine-sender.ts';
import { audienceOf } from './dispatch/offers.ts';
import type { RelayTokens } from './dispatch/ports.ts';
import { Problem } from './dispatch/problem.ts';
import type { RefusalReason } from './protocol/refusals.ts';
import type { HeaderPairs } from './protocol/relayed-headers.ts';
import { parseRequestPath } from './protocol/request-path.ts';
import type { HttpBody } from './relay/http-relaying.ts';
import { INLINE_BODY_BYTES_MAX } from './relay/limits.ts';
import type { HttpSender, RelayRequest, RequestBody } from './relay/ports.ts';
import type { Relay } from './relay/relay.ts';
import type { RelayedRequest } from './relay/relayed-request.ts';

type Fault = Extract<MachineResponse, { readonly type: 'fault' }>['code'];

export interface RelayMachineSenderDeps {
  readonly relay: Pick<Relay, 'http'>;
  readonly tokens: RelayTokens;
  readonly clock: Clock;
  readonly log: Logger;
  /** A host name of the namespace that machines live in. */
  readonly host: string;
}

const SEND_TOKEN_SECONDS = 10 * 60;
/** A machine that is there answers an echo in the time of a round trip. */
const ECHO_TIMEOUT_MS = 10_000;
/** An answer that is longer is nothing that a machine would say. */
const ANSWER_BYTES_MAX = 1024 * 1024;
/** Pieces of a body that goes by a rendezvous. */
const CHUNK_BYTES = 64 * 1024;

/**
 * Reaches machines as any sender would, with a token and through all checks, but without leaving the process: the core
 * of the relay takes a request from here as from a socket, and finds the listener on whichever node it is.
 */
export class RelayMachineSender implements MachineSender, MachineEcho {
  readonly #deps: RelayMachineSenderDeps;
  /** One for each machine that is being asked. */
  readonly #underWay = new Set<() => void>();

  constructor(deps: RelayMachineSenderDeps) {
    this.#deps = deps;
  }

  send(request: MachineRequest): Promise<MachineResponse> {
    const { environment, machineId, path, body, signature, timeoutMs } = request;
    return this.#ask(audienceOf(environment, machineId), {
      method: 'POST',
      path,
      headers: [
        ['content-type', 'application/json'],
        ['halfway-signature', signature],
      ],
      body: bodyOf(Buffer.from(body)),
      timeoutMs,
      signal: undefined,
    });
  }

  async echo(environment: string, machineId: string, signal: AbortSignal): Promise<EchoAnswer> {
    const { clock } = this.#deps;
    const startedAtMs = clock.nowMs();
    const response = await this.#ask(audienceOf(environment, machineId), {
      method: 'GET',
      path: 'echo',
      headers: [],
      body: { kind: 'none' },
      timeoutMs: ECHO_TIMEOUT_MS,
      signal,
    });
    if (response.type === 'fault') return response;
    const roundTripMs = Math.round((clock.nowMs() - startedAtMs) * 10) / 10;
    return { type: 'answer', status: response.status, roundTripMs };
  }

  /** Waits for nobody any more: whether they have heard what was asked is not known. */
  close(): void {
    for (const giveUp of this.#underWay) giveUp();
  }

  async #ask(path: string, asked: Asked): Promise<MachineResponse> {
    try {
      const token = await this.#deps.tokens.mint(path, 'Send', SEND_TOKEN_SECONDS);
      return await this.#relay(path, token, asked);
    } catch (error) {
      if (error instanceof Problem) return fault('EndpointDoNotExist');
      this.#deps.log.error({ err: error, path }, 'a machine could not be asked');
      return fault('ConnectionTimeout');
    }
  }

  async #relay(path: string, token: string, asked: Asked): Promise<MachineResponse> {
    const { relay, clock, log, host } = this.#deps;
    const parsed = parseRequestPath(`/${path}/${asked.path}`, { encodedSlashes: 'refuse' });
    if (parsed === undefined) return fault('EndpointDoNotExist');
    const request: RelayRequest = {
      host,
      origin: `ws://${host}`,
      path: parsed,
      query: { token, userQuery: '' },
      headers: [['host', host], ...asked.headers],
      remote: { address: '127.0.0.1', port: 0 },
    };
    const admitted = relay.http(request, asked.method);
    if ('reason' in admitted) {
      log.debug({ reason: admitted.reason, path }, 'a machine could not be asked');
      return fault(faultOf(admitted.reason));
    }
    return new Promise(resolve => {
      let relayed: RelayedRequest | undefined;
      let isOver = false;
      const over = (response: MachineResponse): void => {
        isOver = true;
        cancel();
        this.#underWay.delete(giveUp);
        asked.signal?.removeEventListener('abort', giveUp);
        resolve(response);
      };
      const giveUp = (): void => {
        if (isOver) return;
        over(fault('ConnectionTimeout'));
        relayed?.senderGone();
      };
      const cancel = clock.after(asked.timeoutMs, giveUp);
      this.#underWay.add(giveUp);
      asked.signal?.addEventListener('abort', giveUp, { once: true });
      relayed = admitted.relay(new AnswerReader(over, giveUp), asked.body);
    });
  }
}

/** One request to a machine, as the relay carries it. */
interface Asked {
  readonly method: 'GET' | 'POST';
  /** Behind the machine's own. */
  readonly path: string;
  readonly headers: HeaderPairs;
  readonly body: HttpBody;
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
}

/** Gathers the answer to one request. */
class AnswerReader implements HttpSender {
  readonly #over: (response: MachineResponse) => void;
  readonly #giveUp: () => void;
  #status = 0;
  readonly #chunks: Uint8Array[] = [];
  #bytes = 0;

  constructor(over: (response: MachineResponse) => void, giveUp: () => void) {
    this.#over = over;
    this.#giveUp = giveUp;
  }

  respond(head: { readonly status: number }, body: Uint8Array): void {
    this.#over({ type: 'answer', status: head.status, body: Buffer.from(body).toString('utf8') });
  }

  start(head: { readonly status: number }): void {
    this.#status = head.status;
  }

  write(chunk: Uint8Array): boolean {
    this.#bytes += chunk.length;
    // It is lent for the call.
    if (this.#bytes <= ANSWER_BYTES_MAX) this.#chunks.push(Uint8Array.from(chunk));
    else this.#giveUp();
    return true;
  }

  end(): void {
    this.respond({ status: this.#status }, Buffer.concat(this.#chunks));
  }

  abort(): void {
    this.#over(fault('ConnectionTimeout'));
  }

  refuse({ reason }: { readonly reason: RefusalReason }): void {
    this.#over(fault(faultOf(reason)));
  }
}

function bodyOf(bytes: Buffer): HttpBody {
  if (bytes.length <= INLINE_BODY_BYTES_MAX) return { kind: 'whole', bytes };
  return { kind: 'stream', stream: new BytesBody(bytes) };
}

/** Bytes that are at hand, as a body that its reader may hold up. */
class BytesBody implements RequestBody {
  readonly #bytes: Buffer;
  #offset = 0;
  #isPaused = true;
  #sink: Parameters<RequestBody['read']>[0] | undefined;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  read(sink: Parameters<RequestBody['read']>[0]): void {
    this.#sink = sink;
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    while (!this.#isPaused && this.#offset < this.#bytes.length) {
      const chunk = this.#bytes.subarray(this.#offset, this.#offset + CHUNK_BYTES);
      this.#offset += chunk.length;
      this.#sink?.(chunk, this.#offset === this.#bytes.length);
    }
  }
}

/** What the relay's no says of the request: that it has not come, or that it may have. */
function faultOf(reason: RefusalReason): Fault {
  switch (reason) {
    case 'endpoint-unknown':
    case 'path-malformed':
      return 'EndpointDoNotExist';
    case 'no-listener':
    case 'no-allowed-listener':
      return 'NoListenerConnected';
    case 'response-late':
    case 'response-invalid':
    case 'listener-lost':
    case 'body-stalled':
      return 'ConnectionTimeout';
    default:
      return 'ConnectionNotEstablished';
  }
}

function fault(code: Fault): MachineResponse {
  return { type: 'fault', code };
}
