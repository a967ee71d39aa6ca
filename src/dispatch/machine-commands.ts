import * as v from 'valibot';
import type { Clock } from '../base/clock.ts';
import { isJobErrorCode } from '../jobs/error-codes.ts';
import { OFFER_ANSWER_MS } from '../jobs/limits.ts';
import type { Command } from '../jobs/messages.ts';
import { newId } from './checks.ts';
import type { DispatchKeys } from './dispatch-key.ts';
import { MALFORMED, type MachineSender } from './machine-sender.ts';
import { formatMoment } from './moments.ts';
import { audienceOf } from './offers.ts';
import { Problem } from './problem.ts';
import type { Repository } from './repository.ts';

/** A command that comes later than this is not done: whoever gave it has gone away. */
const NOT_AFTER_MS = 60_000;
const ANSWER_CHARS_MAX = 4 * 1024 * 1024;

const answerSchema = v.record(v.string(), v.unknown());
export type CommandAnswer = v.InferOutput<typeof answerSchema>;

/** Signed commands to machines, each with an id of its own and a time after which it is not done. */
export class MachineCommands {
  readonly #repository: Repository;
  readonly #sender: MachineSender;
  readonly #keys: DispatchKeys;
  readonly #clock: Clock;

  constructor(of: {
    readonly repository: Repository;
    readonly sender: MachineSender;
    readonly keys: DispatchKeys;
    readonly clock: Clock;
  }) {
    this.#repository = of.repository;
    this.#sender = of.sender;
    this.#keys = of.keys;
    this.#clock = of.clock;
  }

  /**
   * Has a machine do something; resolves with what it answers. Throws the code of a machine that cannot be
   * reached, the machine's own code when it refuses, or `DesktopFlowMalformedMachineResponse`.
   */
  async send(
    machineId: string,
    name: Command['name'],
    args: Command['args'] = {},
  ): Promise<CommandAnswer> {
    const id = newId();
    const notAfter = formatMoment(this.#clock.wallMs() + NOT_AFTER_MS);
    const body = JSON.stringify({ v: 1, type: 'command', id, name, args, notAfter });
    const environment = this.#repository.partition;
    const response = await this.#sender.send({
      environment,
      machineId,
      path: `commands/${id}`,
      body,
      signature: await this.#keys.sign(body, audienceOf(environment, machineId)),
      timeoutMs: OFFER_ANSWER_MS,
    });
    if (response.type === 'fault') throw new Problem(response.code);
    const answer = parseAnswer(response.body);
    if (response.status >= 200 && response.status < 300 && answer !== undefined) return answer;
    const { code, message } = answer ?? {};
    const isCode = typeof code === 'string' && isJobErrorCode(code);
    throw new Problem(
      isCode ? code : MALFORMED,
      typeof message === 'string' ? message.slice(0, 1_000) : `answer ${response.status}`,
    );
  }

  /** Tells a machine what it also learns otherwise, later: whether it hears it does not matter. */
  async tell(machineId: string, name: Command['name'], args: Command['args'] = {}): Promise<void> {
    try {
      await this.send(machineId, name, args);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
    }
  }
}

/** Nothing at all counts as an empty answer. */
function parseAnswer(text: string): CommandAnswer | undefined {
  if (text.length > ANSWER_CHARS_MAX) return undefined;
  if (text.trim() === '') return {};
  try {
    const value: unknown = JSON.parse(text);
    return !Array.isArray(value) && v.is(answerSchema, value) ? value : undefined;
  } catch {
    return undefined;
  }
}
