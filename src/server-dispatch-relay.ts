import { newSasKey } from './auth/sas-key.ts';
import { signToken, tokenAudience } from './auth/sign-token.ts';
import type { Clock } from './base/clock.ts';
import { Problem } from './dispatch/problem.ts';
import type { MachineEndpoints, RelayTokens } from './dispatch/ports.ts';
import {
  storedMax,
  type Decision,
  type RunTimeConfiguration,
} from './management/run-time-configuration.ts';
import { sameName } from './protocol/resource-rules.ts';
import type { Namespace, NamespaceTable } from './relay/namespaces.ts';
import { recordKey, type RelayRecord, type RuleRecord } from './store/records.ts';

/** The rules that each machine's hybrid connection has: their keys are known to the control plane alone. */
const RULES = { Listen: 'halfway-dispatch-listen', Send: 'halfway-dispatch-send' } as const;
const USER_METADATA = 'Made by job dispatch for one machine';
/** Of tokens that are remembered, so that a machine that is offered much gets one token for long. */
const REMEMBERED_TOKENS_MAX = 5_000;

type Right = keyof typeof RULES;

export interface MachinePathsDeps {
  readonly configuration: RunTimeConfiguration;
  readonly namespaces: NamespaceTable;
  /** The one that machines live in. */
  readonly namespace: Namespace;
  readonly clock: Clock;
  readonly hybridConnectionsMax: number;
  readonly newRevision: () => string;
}

/**
 * Machines' places in the relay: a hybrid connection for each, made at run time with two rules of its own, one to
 * listen there and one to send there. Tokens are signed by these, so every node that serves the hybrid connection can
 * check them, each is good for one path and one right, and whoever deletes the hybrid connection ends them all.
 */
export class MachinePaths implements MachineEndpoints, RelayTokens {
  readonly #deps: MachinePathsDeps;
  /** Send tokens by path, the oldest first. */
  readonly #remembered = new Map<
    string,
    { readonly token: string; readonly key: string; readonly untilMs: number }
  >();

  constructor(deps: MachinePathsDeps) {
    this.#deps = deps;
  }

  async create(path: string): Promise<void> {
    const { configuration, hybridConnectionsMax, namespace, namespaces } = this.#deps;
    if (namespace.named(path)?.origin === 'config-file') {
      throw new Problem('VersionConflict', `the config file has a hybrid connection "${path}"`);
    }
    const key = recordKey(namespace.name, path);
    const outcome = await configuration.write<'there'>(
      key,
      storedMax(namespaces, hybridConnectionsMax),
      current => this.#decide(path, current),
    );
    if (outcome === 'full') {
      throw new Problem(
        'QuotaReached',
        `${hybridConnectionsMax} hybrid connections (hybridConnectionsMax)`,
      );
    }
    if (outcome === 'contended') throw new Problem('VersionConflict');
  }

  async delete(path: string): Promise<void> {
    const { configuration, namespace } = this.#deps;
    this.#remembered.delete(path);
    const outcome = await configuration.write<'gone'>(
      recordKey(namespace.name, path),
      0,
      current => (current === undefined ? { refused: 'gone' } : { delete: true }),
    );
    if (outcome === 'full' || outcome === 'contended') throw new Problem('VersionConflict');
  }

  /** A machine that may listen gets its hybrid connection again where that was lost. Throws `EndpointDoNotExist`. */
  async mint(path: string, right: Right, seconds: number): Promise<string> {
    if (right === 'Listen') await this.create(path);
    const key = this.#keyOf(path, right);
    if (key === undefined) throw new Problem('EndpointDoNotExist');
    const nowMs = this.#deps.clock.wallMs();
    const known = right === 'Send' ? this.#remembered.get(path) : undefined;
    // With half of its time left it is as good as a new one.
    if (known?.key === key && known.untilMs - nowMs > seconds * 500) return known.token;
    const expiresAtSec = Math.floor(nowMs / 1_000) + seconds;
    const audience = tokenAudience(this.#deps.namespace.name.toLowerCase(), path);
    const token = signToken({ audience, keyName: RULES[right], key, expiresAtSec });
    if (right === 'Send') this.#remember(path, { token, key, untilMs: expiresAtSec * 1_000 });
    return token;
  }

  #keyOf(path: string, right: Right): string | undefined {
    const { configuration, namespace } = this.#deps;
    const rules = configuration.recordAt(recordKey(namespace.name, path))?.rules;
    return rules?.find(({ name }) => sameName(name, RULES[right]))?.primaryKey;
  }

  #remember(
    path: string,
    token: { readonly token: string; readonly key: string; readonly untilMs: number },
  ): void {
    this.#remembered.delete(path);
    this.#remembered.set(path, token);
    const [oldest] = this.#remembered.keys();
    if (this.#remembered.size > REMEMBERED_TOKENS_MAX && oldest !== undefined) {
      this.#remembered.delete(oldest);
    }
  }

  #decide(path: string, current: RelayRecord | undefined): Decision<'there'> {
    const { clock, namespace, newRevision } = this.#deps;
    const nowMs = clock.wallMs();
    const written = { createdAtMs: nowMs, updatedAtMs: nowMs };
    const ruleNamed = (right: Right): RuleRecord =>
      current?.rules.find(
        ({ name, rights }) => sameName(name, RULES[right]) && rights.includes(right),
      ) ?? {
        name: RULES[right],
        rights: [right],
        primaryKey: newSasKey(),
        secondaryKey: newSasKey(),
        ...written,
        revision: newRevision(),
      };
    const ours = [ruleNamed('Listen'), ruleNamed('Send')];
    const known = current?.hybridConnection;
    const isThere =
      known?.requiresClientAuthorization === true &&
      known.replacesListener === true &&
      ours.every(rule => current?.rules.includes(rule));
    if (isThere) return { refused: 'there' };
    const others = (current?.rules ?? []).filter(
      rule => !ours.some(({ name }) => sameName(name, rule.name)),
    );
    return {
      put: {
        namespace: namespace.name,
        hybridConnection: {
          name: path,
          userMetadata: USER_METADATA,
          ...written,
          ...known,
          requiresClientAuthorization: true,
          replacesListener: true,
          revision: newRevision(),
        },
        rules: [...others, ...ours],
      },
    };
  }
}
