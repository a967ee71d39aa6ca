import * as v from 'valibot';
import type { Clock } from '../base/clock.ts';
import type { DispatchStore } from '../store/dispatch-store.ts';
import { callerIn, requireAdmin, requireIn, type Caller, type Principal } from './access.ts';
import { audit } from './audit.ts';
import { parseBody, requireVersion } from './checks.ts';
import { pageOf, type Page, type PageQuery } from './paging.ts';
import { Problem } from './problem.ts';
import {
  COMMON_PARTITION,
  ENVIRONMENT,
  environmentIdSchema,
  idSchema,
  nameSchema,
  principalSchema,
  roleSchema,
  TENANT,
  USER,
  type Environment,
  type Role,
  type User,
} from './records.ts';
import { RUN_DAYS_MAX, RUN_DAYS_MIN } from './retention.ts';
import { Draft, Repository, type Versioned } from './repository.ts';

const INDEX = 'environments';
const USERS_INDEX = 'users';

export const newEnvironmentSchema = v.strictObject({
  id: environmentIdSchema,
  displayName: v.optional(nameSchema),
});
export const environmentPatchSchema = v.strictObject({
  displayName: v.optional(nameSchema),
  minAgentVersion: v.optional(v.nullable(v.pipe(v.string(), v.regex(/^\d+\.\d+\.\d+$/)))),
  runDays: v.optional(
    v.pipe(v.number(), v.safeInteger(), v.minValue(RUN_DAYS_MIN), v.maxValue(RUN_DAYS_MAX)),
  ),
});
export const newUserSchema = v.strictObject({
  id: idSchema,
  displayName: v.optional(nameSchema),
  isAdmin: v.optional(v.boolean(), false),
});

/** Environments, the users beside them, and the roles of these in those. */
export class Environments {
  readonly #repository: Repository;
  readonly #clock: Clock;

  constructor(store: DispatchStore, clock: Clock) {
    this.#repository = new Repository(store, COMMON_PARTITION);
    this.#clock = clock;
  }

  /** The environment and what the principal is in it. Throws `NotFound` also for whoever has no role there. */
  async enter(
    principal: Principal,
    id: string,
  ): Promise<{ readonly environment: Versioned<Environment>; readonly caller: Caller }> {
    const environment = await this.#get(id);
    const caller = callerIn(environment.value, principal);
    if (caller.role === undefined)
      throw new Problem('NotFound', 'ask for a role in the environment');
    return { environment, caller };
  }

  /** Without asking who wants to know; undefined: there is none. */
  find(id: string): Promise<Versioned<Environment> | undefined> {
    return this.#repository.get(ENVIRONMENT, id);
  }

  list(principal: Principal, query: PageQuery): Promise<Page<Environment>> {
    const from = { kind: ENVIRONMENT, index: INDEX };
    return pageOf(
      this.#repository,
      from,
      query,
      environment => callerIn(environment, principal).role !== undefined,
    );
  }

  async create(principal: Principal, body: unknown): Promise<Environment> {
    requireAdmin(principal);
    const { id, displayName = id } = parseBody(newEnvironmentSchema, body);
    const createdAtMs = this.#clock.wallMs();
    const environment: Environment = { id, tenant: TENANT, displayName, roles: {}, createdAtMs };
    const taken = new Problem('VersionConflict', `there is an environment "${id}"`);
    return this.#repository.change(async () => {
      const draft = new Draft()
        .create(ENVIRONMENT, id, environment, taken)
        .add(INDEX, id, createdAtMs);
      const entry = { atMs: createdAtMs, action: 'environment.create', by: principal.name };
      audit(draft, { ...entry, object: id });
      return Promise.resolve({ draft, answer: environment });
    });
  }

  async patch(
    principal: Principal,
    id: string,
    ifMatch: number | undefined,
    body: unknown,
  ): Promise<Versioned<Environment>> {
    const { displayName, minAgentVersion, runDays } = parseBody(environmentPatchSchema, body);
    return this.#change(principal, id, 'environment.patch', (before, draft) => {
      requireVersion(before, ifMatch);
      const value: Environment = {
        ...before.value,
        displayName: displayName ?? before.value.displayName,
        runDays: runDays ?? before.value.runDays,
        minAgentVersion:
          minAgentVersion === null ? undefined : (minAgentVersion ?? before.value.minAgentVersion),
      };
      draft.replace(ENVIRONMENT, before, value);
      return value;
    });
  }

  /** Gives a principal a role in an environment, or takes it away. */
  async setRole(
    principal: Principal,
    id: string,
    whose: string,
    role: Role | undefined,
  ): Promise<Versioned<Environment>> {
    const [name, given] = [
      parseBody(principalSchema, whose),
      parseBody(v.optional(roleSchema), role),
    ];
    return this.#change(principal, id, `role.${given ?? 'none'}:${name}`, (before, draft) => {
      const others = Object.entries(before.value.roles).filter(([other]) => other !== name);
      const roles = Object.fromEntries(given === undefined ? others : [...others, [name, given]]);
      const value = { ...before.value, roles };
      draft.replace(ENVIRONMENT, before, value);
      return value;
    });
  }

  async createUser(principal: Principal, body: unknown): Promise<User> {
    requireAdmin(principal);
    const { id, displayName = id, isAdmin } = parseBody(newUserSchema, body);
    const createdAtMs = this.#clock.wallMs();
    const user: User = { id, displayName, isAdmin, isDisabled: false, createdAtMs };
    const taken = new Problem('VersionConflict', `there is a user "${id}"`);
    return this.#repository.change(async () => {
      const draft = new Draft().create(USER, id, user, taken).add(USERS_INDEX, id, createdAtMs);
      audit(draft, { atMs: createdAtMs, action: 'user.create', by: principal.name, object: id });
      return Promise.resolve({ draft, answer: user });
    });
  }

  listUsers(principal: Principal, query: PageQuery): Promise<Page<User>> {
    requireAdmin(principal);
    return pageOf(this.#repository, { kind: USER, index: USERS_INDEX }, query);
  }

  /** A user that is disabled has no rights from the next request on; its records stay. */
  async setUserDisabled(principal: Principal, id: string, isDisabled: boolean): Promise<User> {
    requireAdmin(principal);
    return this.#repository.change(async () => {
      const user = await this.#repository.get(USER, id);
      if (user === undefined) throw new Problem('NotFound');
      const value = { ...user.value, isDisabled };
      const draft = new Draft().replace(USER, user, value);
      const action = isDisabled ? 'user.disable' : 'user.enable';
      audit(draft, { atMs: this.#clock.wallMs(), action, by: principal.name, object: id });
      return { draft, answer: value };
    });
  }

  async #change(
    principal: Principal,
    id: string,
    action: string,
    decide: (before: Versioned<Environment>, draft: Draft) => Environment,
  ): Promise<Versioned<Environment>> {
    return this.#repository.change(async () => {
      const { environment, caller } = await this.enter(principal, id);
      requireIn(caller, 'administer');
      const draft = new Draft();
      const value = decide(environment, draft);
      audit(draft, { atMs: this.#clock.wallMs(), action, by: principal.name, object: id });
      return { draft, answer: { id, version: environment.version + 1, value } };
    });
  }

  async #get(id: string): Promise<Versioned<Environment>> {
    if (!v.is(environmentIdSchema, id)) throw new Problem('NotFound');
    const environment = await this.#repository.get(ENVIRONMENT, id);
    if (environment === undefined) throw new Problem('NotFound', 'there is no such environment');
    return environment;
  }
}
