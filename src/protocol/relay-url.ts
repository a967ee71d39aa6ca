import type { RendezvousId } from './ids.ts';
import { encodeIllegalInPath, encodeIllegalInQuery, formDecode } from './uri-text.ts';

/**
 * What the query of a client's URL says to the relay, and what it says to the other side.
 *
 * The protocol's fields are form-decoded once; of a repeated field the first counts. `userQuery` is
 * the rest, without `?`, in order and byte for byte, but for characters that no URI may hold: those
 * are percent-encoded, because Java listeners parse addresses strictly.
 */
export interface RelayQuery {
  readonly action?: string;
  readonly id?: string;
  readonly token?: string;
  readonly statusCode?: string;
  readonly statusDescription?: string;
  /** Ours: `poll` asks for the channel over HTTP long-polling. */
  readonly transport?: string;
  readonly userQuery: string;
}

const FIELDS: ReadonlyMap<string, Exclude<keyof RelayQuery, 'userQuery'>> = new Map([
  ['sb-hc-action', 'action'],
  ['sb-hc-id', 'id'],
  ['sb-hc-token', 'token'],
  ['sb-hc-statuscode', 'statusCode'],
  ['sb-hc-statusdescription', 'statusDescription'],
  ['sb-hc-transport', 'transport'],
]);

/** A name that is ours as it stands, or that may be once it is decoded. */
const MAY_BE_OURS = /(?:^|&)(?:sb-hc-|[^=&%]*%)/i;
const OURS = /^sb-hc-/i;

/**
 * Splits a raw query (without its leading `?`) into the protocol's fields and the user's part.
 * Every pair whose decoded name begins with `sb-hc-` and that has an `=` is the protocol's, known or
 * not; a valueless `sb-hc-…` is the user's. Source: protocol reference 1.3 and 1.5.
 */
export function parseRelayQuery(rawQuery: string): RelayQuery {
  if (!MAY_BE_OURS.test(rawQuery)) return { userQuery: encodeIllegalInQuery(rawQuery) };

  const fields: { -readonly [Name in keyof RelayQuery]: RelayQuery[Name] } = { userQuery: '' };
  const kept: string[] = [];
  for (const pair of rawQuery.split('&')) {
    const equals = pair.indexOf('=');
    const name = equals === -1 ? '' : formDecode(pair.slice(0, equals));
    if (!OURS.test(name)) {
      kept.push(pair);
      continue;
    }
    const field = FIELDS.get(name.toLowerCase());
    if (field !== undefined) fields[field] ??= formDecode(pair.slice(equals + 1));
  }
  fields.userQuery = encodeIllegalInQuery(kept.join('&'));
  return fields;
}

/**
 * The address that a listener dials, used by clients exactly as given: a strictly valid URI.
 *
 * `origin` is `ws://` or `wss://` with host and port as the listener can reach us; `rawPath` the path
 * that the sender used below `$hc`, still encoded. An `accept` address carries the sender's query. A
 * `request` address does not: the message's `requestTarget` has it, and a pair with two equals signs
 * (`a=b=c`) in an address makes Java listeners drop their control channel. Source: 1.4.
 */
export function formatRendezvousAddress(target: {
  readonly origin: string;
  readonly rawPath: string;
  readonly userQuery: string;
  readonly action: 'accept' | 'request';
  readonly id: RendezvousId;
}): string {
  const path = encodeIllegalInPath(target.rawPath);
  const user =
    target.action === 'accept' && target.userQuery !== ''
      ? `${encodeIllegalInQuery(target.userQuery)}&`
      : '';
  return `${target.origin}/$hc/${path}?${user}sb-hc-action=${target.action}&sb-hc-id=${target.id}`;
}

/** A listener's no to a waiting sender: goes to the sender as status and reason phrase. */
export interface Rejection {
  /** 100 to 999. */
  readonly status: number;
  /** As the listener wrote it, decoded; not yet fit for a status line. */
  readonly description: string;
}

const APPENDED_REJECTION = /^statusCode=([^&]*)(?:&statusDescription=([^&]*))?/;

/**
 * Whether a dialled accept address is a rejection: undefined when it is an ordinary accept, `'invalid'`
 * when it is meant as a rejection whose status is not an integer from 100 to 999.
 *
 * `offeredUserQuery` is the user query that our address had. hyco-websocket appends `statusCode` and
 * `statusDescription` without the prefix, so only what stands behind the offered query is looked at:
 * a sender may well have a parameter `statusCode` of its own.
 */
export function rejectionOf(
  dialled: RelayQuery,
  offeredUserQuery: string,
): Rejection | 'invalid' | undefined {
  if (dialled.statusCode !== undefined || dialled.statusDescription !== undefined) {
    return rejection(dialled.statusCode ?? '', dialled.statusDescription ?? '');
  }
  if (!dialled.userQuery.startsWith(offeredUserQuery)) return undefined;
  const appended = dialled.userQuery.slice(offeredUserQuery.length);
  if (offeredUserQuery !== '' && !appended.startsWith('&')) return undefined;
  const match = APPENDED_REJECTION.exec(offeredUserQuery === '' ? appended : appended.slice(1));
  if (match === null) return undefined;
  return rejection(formDecode(match[1] ?? ''), formDecode(match[2] ?? ''));
}

function rejection(statusCode: string, description: string): Rejection | 'invalid' {
  return /^[1-9]\d\d$/.test(statusCode) ? { status: Number(statusCode), description } : 'invalid';
}
