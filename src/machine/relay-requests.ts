import type { Readable } from 'node:stream';
import type { Logger } from '../base/logger.ts';
import type { Answer, RelayedRequest } from '../client/answer.ts';
import { INPUT_BYTES_MAX } from '../jobs/limits.ts';
import {
  cancelSchema,
  commandSchema,
  offerSchema,
  parseMessage,
  type Cancel,
  type Command,
  type Offer,
  type OfferAnswer,
} from '../jobs/messages.ts';
import type { CommandAnswer } from './service-commands.ts';
import type { SignatureCheck } from './signed-message.ts';

/** What is done with what the control plane sends. */
export interface MessageTakers {
  readonly offer: (offer: Offer) => Promise<OfferAnswer>;
  readonly cancel: (cancel: Cancel) => void;
  /** Undefined for a command that this version does not know. */
  readonly command: (command: Command) => Promise<CommandAnswer | undefined>;
  /** Whether the moment has passed, by the control plane's clock. */
  readonly isOver: (moment: string) => boolean;
}

/** Inputs twice over for how JSON writes them, and envelopes. */
const MESSAGE_BYTES_MAX = 2 * INPUT_BYTES_MAX + 1024 * 1024;
/** How many commands are remembered: each has an id, and is done once. */
const COMMANDS_KEPT = 200;

/**
 * The machine's side of its path in the relay: `runs/<id>` and `commands/<id>`, signed by the control
 * plane, and `echo`, which anybody may ask who has the right to send. Source: job-dispatch.md sections 8.2 and 10.
 */
export class RelayRequests {
  readonly #relayPath: string;
  readonly #check: SignatureCheck;
  readonly #takers: MessageTakers;
  readonly #log: Logger;
  /** Answers by the commands' ids, the oldest first. */
  readonly #commands = new Map<string, Promise<Answer>>();

  constructor(of: {
    readonly relayPath: string;
    readonly check: SignatureCheck;
    readonly takers: MessageTakers;
    readonly log: Logger;
  }) {
    this.#relayPath = of.relayPath;
    this.#check = of.check;
    this.#takers = of.takers;
    this.#log = of.log;
  }

  async answer(request: RelayedRequest): Promise<Answer> {
    const [path = ''] = request.target.split('?');
    const [kind, id, ...more] = partsBelow(path, this.#relayPath);
    if (kind === 'echo' && id === undefined) return echo(request);
    const isKnown = (kind === 'runs' || kind === 'commands') && id !== undefined;
    if (!isKnown || more.length > 0) return json(404, { type: 'unsupported' });
    if (request.method !== 'POST') return json(405, { type: 'unsupported' });
    const body = await textOf(request.body);
    if (body === undefined)
      return json(413, { type: 'unsupported', why: 'too long, or not UTF-8' });
    const fault = this.#check.faultOf(headerOf(request, 'halfway-signature'), body);
    if (fault !== undefined) return this.#unsigned(request, { kind, body, fault });
    return kind === 'runs' ? this.#offer(id, body) : this.#once(id, body);
  }

  async #offer(id: string, body: string): Promise<Answer> {
    const parsed = parseMessage(offerSchema, body);
    if (!('message' in parsed)) return json(400, { type: 'unsupported', why: parsed.why });
    if (parsed.message.runId !== id) return json(400, { type: 'unsupported', why: 'another run' });
    const answer = await this.#takers.offer(parsed.message);
    return json(answer.type === 'accept' ? 200 : 409, answer);
  }

  /** Commands keep their ids on every way, and on a way taken twice. */
  #once(id: string, body: string): Promise<Answer> {
    const known = this.#commands.get(id);
    if (known !== undefined) return known;
    const answer = this.#command(body);
    this.#commands.set(id, answer);
    const [oldest] = this.#commands.keys();
    if (this.#commands.size > COMMANDS_KEPT && oldest !== undefined) this.#commands.delete(oldest);
    return answer;
  }

  async #command(body: string): Promise<Answer> {
    const cancel = parseMessage(cancelSchema, body);
    if ('message' in cancel) {
      this.#takers.cancel(cancel.message);
      return json(202, {});
    }
    const parsed = parseMessage(commandSchema, body);
    if (!('message' in parsed)) return unsupported(parsed.why);
    const { name, notAfter } = parsed.message;
    if (this.#takers.isOver(notAfter)) {
      const message = 'The command came after its time; see that the clocks agree';
      return json(410, { v: 1, type: 'over', code: 'ConnectionTimeout', message });
    }
    const answer = await this.#takers.command(parsed.message);
    return answer === undefined ? unsupported(name) : json(answer.status, answer.body);
  }

  #unsigned(
    request: RelayedRequest,
    { kind, body, fault }: { readonly kind: string; readonly body: string; readonly fault: string },
  ): Answer {
    const { remote, target } = request;
    const from = remote?.address;
    this.#log.warn({ event: 'security', fault, from, target }, 'message of a stranger refused');
    const parsed = kind === 'runs' ? parseMessage(offerSchema, body) : undefined;
    if (parsed === undefined || !('message' in parsed)) {
      return json(401, { type: 'unsupported', code: 'OfferSignatureInvalid', why: fault });
    }
    const { runId, attempt, fence } = parsed.message;
    const refusal: OfferAnswer = {
      v: 1,
      type: 'refuse',
      runId,
      attempt,
      fence,
      code: 'OfferSignatureInvalid',
      message: `The machine did not take the offer: ${fault}`,
    };
    return json(409, refusal);
  }
}

function unsupported(what: string): Answer {
  const message = `The machine service does not know this command: ${what}`;
  return json(501, { v: 1, type: 'unsupported', code: 'JobSchemaTooNew', message });
}

/** Sends back what came, so that both ways and long bodies can be tried. */
function echo({ method, body, hasBody, headers }: RelayedRequest): Answer {
  const type = Object.entries(headers).find(([name]) => name.toLowerCase() === 'content-type')?.[1];
  if (!hasBody) return json(200, { v: 1, type: 'echo', method });
  return { status: 200, headers: { 'Content-Type': type ?? 'application/octet-stream' }, body };
}

function partsBelow(path: string, relayPath: string): readonly string[] {
  const prefix = `/${relayPath}/`;
  const bare = path.replace(/^\/\$hc(?=\/)/i, '');
  if (!bare.toLowerCase().startsWith(prefix.toLowerCase())) return [];
  return bare.slice(prefix.length).split('/');
}

function headerOf({ headers }: RelayedRequest, name: string): string | undefined {
  return Object.entries(headers).find(([key]) => key.toLowerCase() === name)?.[1];
}

async function textOf(body: Readable): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body) {
    const bytes = Buffer.from(chunk);
    size += bytes.length;
    if (size > MESSAGE_BYTES_MAX) {
      body.destroy();
      return undefined;
    }
    chunks.push(bytes);
  }
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.concat(chunks));
  } catch {
    // What is not UTF-8 is no JSON, and would be signed over other bytes than came.
    return undefined;
  }
}

function json(status: number, body: object): Answer {
  return {
    status,
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  };
}
