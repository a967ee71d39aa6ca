import { show } from '../base/show.ts';
import { isRuleName, RULE_NAME_FORM, RULES_MAX, sameName } from '../protocol/resource-rules.ts';
import type { SasRule } from '../protocol/resources.ts';
import type { HybridConnection } from '../relay/hybrid-connection.ts';
import type { Namespace } from '../relay/namespaces.ts';
import { recordKey, type RelayRecord, type RuleRecord } from '../store/records.ts';
import { apiError, badRequest, type ApiAnswer, type ApiFault } from './api-answers.ts';
import { readRegenerateBody, readRuleBody } from './api-bodies.ts';
import type { ApiTarget, Level } from './api-path.ts';
import { isNotModified, refusedByCondition, type ApiRequest } from './api-request.ts';
import { keysResource, ruleResource, type ServedRule } from './api-resources.ts';
import type { ManagementDeps } from './management-api.ts';
import { contended, definedInConfigFile, notThere } from './refused-writes.ts';
import type { Decision } from './run-time-configuration.ts';

/** What is about rules. */
export type RuleTarget = Exclude<
  ApiTarget,
  { readonly kind: 'namespaces' | 'namespace' | 'hybridConnections' | 'hybridConnection' }
>;

/** A level that exists, with what the store has of it. */
interface FoundLevel extends Level {
  readonly served: Namespace;
  /** Whether rules may be made here: not where the config file, or nobody, defines the hybrid connection. */
  readonly refusal: ApiAnswer | undefined;
}

/** Rules of namespaces and hybrid connections, and their keys. */
export class RulesApi {
  readonly #deps: ManagementDeps;

  constructor(deps: ManagementDeps) {
    this.#deps = deps;
  }

  async handle(request: ApiRequest, namespace: Namespace, target: RuleTarget): Promise<ApiAnswer> {
    const level = levelOf(namespace, target.level);
    if (level === undefined) {
      return notThere('hybrid connection', target.level.hybridConnection ?? '');
    }
    if (target.kind === 'rules') {
      const value = this.#rulesOf(level).map(rule => ruleResource(level, rule));
      return { status: 200, body: { value } };
    }
    if (target.kind === 'regenerateKeys') return this.#regenerate(request, level, target.rule);
    if (request.method === 'PUT') return this.#put(request, level, target.rule);
    if (request.method === 'DELETE') return this.#delete(request, level, target.rule);
    const found = this.#ruleNamed(level, target.rule);
    if (found === undefined) return notThere('authorization rule', target.rule);
    if (target.kind === 'listKeys') return this.#keys(request, level, found.rule);
    if (isNotModified(request, found.etag)) return { status: 304, ...etagOf(found) };
    return { status: 200, body: ruleResource(level, found), ...etagOf(found) };
  }

  async #put(request: ApiRequest, level: FoundLevel, name: string): Promise<ApiAnswer> {
    const { value, faults } = readRuleBody(request.body);
    const all: ApiFault[] = [...nameFaults(name), ...faults];
    if (all.length > 0) return badRequest(all);
    let isNew = false;
    const answer = await this.#write(level, name, current => {
      const known = current?.rules.find(rule => sameName(rule.name, name));
      const condition = refusedByCondition(request, known && { etag: known.revision });
      if (condition !== undefined) return condition;
      const others = (current?.rules ?? []).filter(rule => rule !== known);
      if (known === undefined && others.length + this.#fileRules(level) >= RULES_MAX) {
        const message = `Cannot create it: a level has at most ${RULES_MAX} authorization rules`;
        return apiError('QuotaExceeded', message);
      }
      isNew = known === undefined;
      const updatedAtMs = this.#deps.clock.wallMs();
      const rule: RuleRecord = {
        name: known?.name ?? name,
        rights: value.rights,
        primaryKey: value.primaryKey ?? known?.primaryKey ?? this.#deps.newKey(),
        secondaryKey: value.secondaryKey ?? known?.secondaryKey ?? this.#deps.newKey(),
        createdAtMs: known?.createdAtMs ?? updatedAtMs,
        updatedAtMs,
        revision: this.#deps.newRevision(),
      };
      return [...others, rule];
    });
    if (answer !== undefined) return answer;
    const found = this.#ruleNamed(level, name);
    // Somebody has deleted it since.
    if (found === undefined) return notThere('authorization rule', name);
    return { status: isNew ? 201 : 200, body: ruleResource(level, found), ...etagOf(found) };
  }

  async #delete(request: ApiRequest, level: FoundLevel, name: string): Promise<ApiAnswer> {
    const answer = await this.#write(level, name, current => {
      const known = current?.rules.find(rule => sameName(rule.name, name));
      const condition = refusedByCondition(request, known && { etag: known.revision });
      if (condition !== undefined) return condition;
      if (known === undefined) return { status: 204 };
      return (current?.rules ?? []).filter(rule => rule !== known);
    });
    return answer ?? { status: 200 };
  }

  async #regenerate(request: ApiRequest, level: FoundLevel, name: string): Promise<ApiAnswer> {
    const { value, faults } = readRegenerateBody(request.body);
    if (faults.length > 0) return badRequest(faults);
    const { keyType, key = this.#deps.newKey() } = value;
    const answer = await this.#write(level, name, current => {
      const known = current?.rules.find(rule => sameName(rule.name, name));
      if (known === undefined) return notThere('authorization rule', name);
      const condition = refusedByCondition(request, { etag: known.revision });
      if (condition !== undefined) return condition;
      const written = {
        updatedAtMs: this.#deps.clock.wallMs(),
        revision: this.#deps.newRevision(),
      };
      const renewed = { ...known, [keyType]: key, ...written };
      return (current?.rules ?? []).map(rule => (rule === known ? renewed : rule));
    });
    if (answer !== undefined) return answer;
    const found = this.#ruleNamed(level, name);
    if (found === undefined) return notThere('authorization rule', name);
    return { ...this.#keys(request, level, found.rule), ...etagOf(found) };
  }

  #keys(request: ApiRequest, level: FoundLevel, rule: SasRule): ApiAnswer {
    const endpoint = this.#deps.endpointOf(level.served, request.host);
    return { status: 200, body: keysResource(level, rule, endpoint) };
  }

  /** Writes the rules that `change` makes of a record, or gives back its answer; undefined when it is done. */
  async #write(
    level: FoundLevel,
    name: string,
    change: (current: RelayRecord | undefined) => readonly RuleRecord[] | ApiAnswer,
  ): Promise<ApiAnswer | undefined> {
    const isOfFile = this.#ruleNamed(level, name)?.definedBy === 'config-file';
    if (isOfFile) return definedInConfigFile('authorization rule', name);
    if (level.refusal !== undefined) return level.refusal;
    const key = recordKey(level.namespace, level.hybridConnection);
    const decide = (current: RelayRecord | undefined): Decision<ApiAnswer> => {
      // The hybrid connection was deleted meanwhile; its rules went with it.
      if (level.hybridConnection !== undefined && current === undefined) {
        return { refused: notThere('hybrid connection', level.hybridConnection) };
      }
      const changed = change(current);
      if ('status' in changed) return { refused: changed };
      return { put: { ...(current ?? { namespace: level.namespace }), rules: changed } };
    };
    const outcome = await this.#deps.configuration.write(key, Number.MAX_SAFE_INTEGER, decide);
    if (outcome === 'written') return undefined;
    if (outcome === 'contended' || outcome === 'full') return contended();
    return outcome.refused;
  }

  #ruleNamed(level: FoundLevel, name: string): ServedRule | undefined {
    return this.#rulesOf(level).find(({ rule }) => sameName(rule.name, name));
  }

  /** Those that count, in the order in which they are looked at. */
  #rulesOf(level: FoundLevel): readonly ServedRule[] {
    const { served, namespace, hybridConnection } = level;
    const entity = hybridConnection === undefined ? undefined : served.named(hybridConnection);
    const rules = hybridConnection === undefined ? served.rules : (entity?.rules ?? []);
    const stored = this.#deps.configuration.recordAt(recordKey(namespace, hybridConnection));
    const isOfFile = (rule: SasRule): boolean =>
      hybridConnection === undefined
        ? served.fileRules.includes(rule)
        : entity?.origin === 'config-file';
    return rules.map(rule => ({
      rule,
      definedBy: isOfFile(rule) ? 'config-file' : 'api',
      etag: isOfFile(rule)
        ? undefined
        : stored?.rules.find(({ name }) => sameName(name, rule.name))?.revision,
    }));
  }

  #fileRules({ served, hybridConnection }: FoundLevel): number {
    return hybridConnection === undefined ? served.fileRules.length : 0;
  }
}

function levelOf(served: Namespace, { hybridConnection }: Level): FoundLevel | undefined {
  const namespace = served.name;
  if (hybridConnection === undefined) return { served, namespace, refusal: undefined };
  const entity = served.named(hybridConnection);
  if (entity === undefined) return undefined;
  const level = { served, namespace, hybridConnection: entity.name };
  return { ...level, refusal: refusalFor(entity) };
}

function refusalFor({ origin, name }: HybridConnection): ApiAnswer | undefined {
  if (origin === 'config-file') return definedInConfigFile('hybrid connection', name);
  return origin === 'auto-created' ? apiError('Conflict', MADE_ON_FIRST_USE) : undefined;
}

const MADE_ON_FIRST_USE =
  'Cannot give it rules: the hybrid connection came into being on first use. PUT the hybrid connection first';

function etagOf({ etag }: ServedRule): { readonly etag?: string } {
  return etag === undefined ? {} : { etag };
}

function nameFaults(name: string): readonly ApiFault[] {
  if (isRuleName(name)) return [];
  return [{ target: 'name', message: `must be ${RULE_NAME_FORM}, got ${show(name)}` }];
}
