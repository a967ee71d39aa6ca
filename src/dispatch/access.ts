import { Problem } from './problem.ts';
import type { Environment, Grant, Role } from './records.ts';

// Who may do what. An environment's role opens kinds of things; a record's owner and its access map open
// that record. Both are asked, deny is the default.

/** Whoever made a request, proved. */
export interface Principal {
  /** `user:ann`, `token:<id>` or `machine:<id>`. */
  readonly name: string;
  /** Owner of every environment, and the only one who makes environments, users and tokens of others. */
  readonly isAdmin: boolean;
}

/** A principal within one environment. */
export interface Caller extends Principal {
  readonly role: Role | undefined;
}

export type Action =
  /**
   * To see that it is there, its state and its settings, of runs also what they were given and gave. Whoever has a
   * role in an environment sees all of it: what others must not see there belongs into another environment.
   */
  | 'view'
  /** To run something with it or on it. */
  | 'use'
  | 'edit'
  | 'share'
  | 'delete';

export type EnvironmentAction = 'view' | 'run' | 'make' | 'administer';

export interface Owned {
  readonly owner: string;
  readonly access: Readonly<Record<string, Grant>>;
}

const RANKS: Readonly<Record<Role, number>> = { reader: 1, user: 2, maker: 3, owner: 4 };

const NEEDED: Readonly<Record<EnvironmentAction, Role>> = {
  view: 'reader',
  run: 'user',
  make: 'maker',
  administer: 'owner',
};

/** What each grant on a record opens. Nobody who was given `edit` shares on. Source: job-dispatch.md section 6. */
const OPENED: Readonly<Record<Grant, readonly Action[]>> = {
  'co-owner': ['view', 'use', 'edit', 'share', 'delete'],
  edit: ['view', 'use', 'edit'],
  use: ['view', 'use'],
  user: ['view', 'use'],
};

export function callerIn(environment: Environment, { name, isAdmin }: Principal): Caller {
  return { name, isAdmin, role: isAdmin ? 'owner' : environment.roles[name] };
}

export function mayIn(caller: Caller, action: EnvironmentAction): boolean {
  return rankOf(caller) >= RANKS[NEEDED[action]];
}

/** Throws `AccessDenied`. */
export function requireIn(caller: Caller, action: EnvironmentAction): void {
  if (!mayIn(caller, action)) {
    throw new Problem('AccessDenied', `this takes the role ${NEEDED[action]} in the environment`);
  }
}

/** Throws `AccessDenied`. */
export function requireAdmin({ isAdmin }: Principal): void {
  if (!isAdmin) throw new Problem('AccessDenied', 'this takes an administrator');
}

/** Whoever has no role in the environment may nothing, whatever was shared with it before. */
export function may(caller: Caller, action: Action, record: Owned): boolean {
  if (caller.role === undefined) return false;
  if (caller.role === 'owner') return true;
  if (action === 'view') return true;
  // Readers look, whatever is theirs or was shared with them.
  if (caller.role === 'reader') return false;
  if (record.owner === caller.name) return true;
  const grant = Object.hasOwn(record.access, caller.name) ? record.access[caller.name] : undefined;
  return grant !== undefined && OPENED[grant].includes(action);
}

/** Throws `AccessDenied`. */
export function requireMay(caller: Caller, action: Action, record: Owned): void {
  if (!may(caller, action, record)) {
    throw new Problem('AccessDenied', `ask ${record.owner} for access to ${action} it`);
  }
}

/** An access map with one grant changed; undefined takes it away. */
export function withGrant(
  access: Readonly<Record<string, Grant>>,
  principal: string,
  grant: Grant | undefined,
): Record<string, Grant> {
  const others = Object.entries(access).filter(([name]) => name !== principal);
  return Object.fromEntries(grant === undefined ? others : [...others, [principal, grant]]);
}

function rankOf({ role }: Caller): number {
  return role === undefined ? 0 : RANKS[role];
}
