import * as v from 'valibot';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import { JOB_ERRORS } from '../jobs/error-codes.ts';
import type { Command } from '../jobs/messages.ts';
import type { Keyring } from './keyring.ts';
import { momentText } from './register.ts';
import { resealed } from './resealing.ts';
import type { ServiceReport, ServiceStatus } from './service-status.ts';

/** What a command is answered with. */
export interface CommandAnswer {
  readonly status: number;
  readonly body: object;
}

const groupKidsSchema = v.object({
  groupId: v.string(),
  primaryKid: v.string(),
  secondaryKid: v.optional(v.string()),
  formerKids: v.optional(v.array(v.string()), []),
});

/** What the control plane has this machine do, beside runs. */
export class ServiceCommands {
  readonly #keyring: Keyring;
  readonly #status: ServiceStatus;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #report: () => ServiceReport;
  readonly #onKeys: () => void;

  constructor(of: {
    readonly keyring: Keyring;
    readonly status: ServiceStatus;
    readonly clock: Clock;
    readonly log: Logger;
    readonly report: () => ServiceReport;
    /** Keys of this machine have changed. */
    readonly onKeys: () => void;
  }) {
    this.#keyring = of.keyring;
    this.#status = of.status;
    this.#clock = of.clock;
    this.#log = of.log;
    this.#report = of.report;
    this.#onKeys = of.onKeys;
  }

  /** Undefined for what this version does not do. */
  async carryOut({ id, name, args }: Command): Promise<CommandAnswer | undefined> {
    this.#log.info({ commandId: id, command: name }, 'command of the control plane');
    switch (name) {
      case 'drain':
        // The control plane offers nothing until somebody ends that; who sits here sees it in the status.
        this.#status.drainAskedAt = momentText(this.#clock.wallMs());
        return ok({ v: 1, type: 'done', id });
      case 'collect-diagnostics':
        return ok({ v: 1, type: 'diagnostics', id, report: this.#report() });
      case 'group-key-changed':
        return ok({ v: 1, type: 'done', id, hasKey: await this.#groupKeysChanged(args) });
      case 'rotate-group-key':
        this.#say(
          'the group is to have a new key: "halfway machine rotate-group-key" here, with its password',
        );
        return ok({ v: 1, type: 'done', id });
      case 'reseal':
        return this.#reseal(args);
      default:
        return undefined;
    }
  }

  async #groupKeysChanged(args: Command['args']): Promise<boolean> {
    const parsed = v.safeParse(groupKidsSchema, args);
    if (!parsed.success) return false;
    const { groupId, primaryKid, secondaryKid } = parsed.output;
    const hasKey = await this.#keyring.keepGroupKeys(parsed.output);
    const missing = [primaryKid, secondaryKid].filter(
      kid => kid !== undefined && !this.#keyring.kids().includes(kid),
    );
    if (missing.length > 0 && this.#keyring.record.group?.id === groupId) {
      this.#say(
        'the group has a new key: "halfway machine rotate-group-key" here, with its password',
      );
    }
    this.#onKeys();
    return hasKey;
  }

  async #reseal(args: Command['args']): Promise<CommandAnswer> {
    const done = await resealed(this.#keyring.held(), args);
    if (typeof done === 'string') {
      this.#log.warn({ event: 'security', code: done }, 'sealing anew refused');
      return { status: 409, body: { v: 1, code: done, message: JOB_ERRORS[done].text } };
    }
    const { items, refused } = done;
    this.#log.info({ resealed: items.length, refused: refused.length }, 'credentials sealed anew');
    return ok(done);
  }

  #say(what: string): void {
    this.#status.error('keys', what);
    this.#log.warn({}, what);
  }
}

function ok(body: object): CommandAnswer {
  return { status: 200, body };
}
