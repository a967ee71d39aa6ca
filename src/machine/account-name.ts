import { hostname } from 'node:os';

/** An account as a connection names it; `domain` is undefined for one of this computer. */
export interface AccountName {
  readonly user: string;
  readonly domain: string | undefined;
}

/** `-` first would be read as an option, `:` and `/` have meanings in the list of accounts. */
const USER = /^(?!-)[^\s\p{C}:/\\@]{1,128}$/u;
const DOMAIN = /^(?!-)[^\s\p{C}:/\\@]{1,255}$/u;

/**
 * Reads `domain\user`, `user@domain`, `machine\user`, `local\user`, `.\user` and the bare `user`; a
 * domain of its own beside the user counts when the user's text has none. Undefined: it is no name of an
 * account. Source: job-dispatch.md section 6.
 */
export function parseAccountName(
  text: string,
  ownDomain = '',
  machine = hostname(),
): AccountName | undefined {
  const [, before = ownDomain, middle = '', after] =
    /^(?:([^\\]*)\\)?([^@\\]*)(?:@([^@\\]*))?$/.exec(text) ?? [];
  const isTwofold = text.includes('\\') && after !== undefined;
  const domain = after ?? before;
  if (isTwofold || !USER.test(middle)) return undefined;
  if (isLocal(domain, machine)) return { user: middle, domain: undefined };
  return DOMAIN.test(domain) ? { user: middle, domain } : undefined;
}

/** How an account of a domain may be called in the system's list, most usual first. */
export function systemNames({ user, domain }: AccountName): readonly string[] {
  // Never the bare user for one of a domain: that would be another account.
  return domain === undefined ? [user] : [`${domain}\\${user}`, `${user}@${domain}`];
}

/** Whether two names mean one account; as in the modelled product, capitals do not matter. */
export function isSameAccount(one: AccountName, other: AccountName): boolean {
  return (
    one.user.toLowerCase() === other.user.toLowerCase() &&
    one.domain?.toLowerCase() === other.domain?.toLowerCase()
  );
}

function isLocal(domain: string, machine: string): boolean {
  const short = machine.split('.')[0] ?? machine;
  return ['', '.', 'local', 'localhost', machine, short]
    .map(name => name.toLowerCase())
    .includes(domain.toLowerCase());
}
