import type { Brand } from '../base/brand.ts';

// How a long-poll session is opened, named and asked. See LONG-POLL.md beside this file.

/** First segment of the paths of sessions. */
export const POLL_PATH = '$poll';

/** Value of `sb-hc-transport` that asks for a session instead of a WebSocket. */
export const POLL_TRANSPORT = 'poll';

/**
 * Names one session: 32 hex digits drawn at random, 32 of a MAC by which its node knows ids of its
 * own, and the tag of that node (8 hex digits; none for a relay of one node). Holding it is all it
 * takes to poll, so it is a secret.
 */
export type PollSessionId = Brand<string, 'PollSessionId'>;

const SECRET_CHARS = 32;
const SESSION_ID = /^[0-9a-f]{64}(?:[0-9a-f]{8})?$/;

export function isPollSessionId(text: string): text is PollSessionId {
  return SESSION_ID.test(text);
}

/** An id in its parts. `signed` is what the MAC is made over. */
export function pollSessionIdParts(id: PollSessionId): {
  readonly signed: string;
  readonly macHex: string;
  readonly nodeTag: string;
} {
  const nodeTag = id.slice(2 * SECRET_CHARS);
  return {
    signed: id.slice(0, SECRET_CHARS) + nodeTag,
    macHex: id.slice(SECRET_CHARS, 2 * SECRET_CHARS),
    nodeTag,
  };
}

/** The body of a 201: what was opened, and what holds in it. */
export interface PollTerms {
  readonly session: string;
  /** The subprotocol, as `Sec-WebSocket-Protocol` of a 101 has it; '' for none. */
  readonly protocol: string;
  /** How long a poll is held at most, in milliseconds. */
  readonly holdMs: number;
  /** A session without a poll for so long is closed, in milliseconds. */
  readonly expiryMs: number;
  /** The client's first credit: what the frames that it may send before it is told of more count for. */
  readonly credit: number;
  /** Longest batch that may be posted, in bytes. */
  readonly batchBytesMax: number;
}

export function formatPollTerms(terms: PollTerms): string {
  return JSON.stringify(terms);
}

/** Reads the body of a 201; undefined: it is not what a relay of ours says. */
export function parsePollTerms(text: string): PollTerms | undefined {
  const terms = parseRecord(text);
  if (terms === undefined) return undefined;
  const { session, protocol, holdMs, expiryMs, credit, batchBytesMax } = terms;
  return typeof session === 'string' &&
    typeof protocol === 'string' &&
    isCount(holdMs) &&
    isCount(expiryMs) &&
    isCount(credit) &&
    isCount(batchBytesMax)
    ? { session, protocol, holdMs, expiryMs, credit, batchBytesMax }
    : undefined;
}

/** What a poll says in its query. */
export interface PollQuestion {
  /** Number of the poll, from 1: of two, the one with the higher number is the newer. */
  readonly turn: number;
  readonly ack: number;
  readonly credit: number;
  /** How long the client lets it be held, in milliseconds; undefined: as long as the relay holds any. */
  readonly waitMs?: number;
}

export function formatPollQuery({ turn, ack, credit, waitMs }: PollQuestion): string {
  const wait = waitMs === undefined ? '' : `&wait=${waitMs}`;
  return `turn=${turn}&ack=${ack}&credit=${credit}${wait}`;
}

/** Reads a raw query (without `?`). A text instead says what is wrong with it. Unknown names are ignored. */
export function parsePollQuery(rawQuery: string): PollQuestion | string {
  const fields = new Map<string, string>();
  for (const pair of rawQuery.split('&')) {
    const equals = pair.indexOf('=');
    if (equals !== -1) fields.set(pair.slice(0, equals), pair.slice(equals + 1));
  }
  const turn = countOf(fields.get('turn'));
  const ack = countOf(fields.get('ack'));
  const credit = countOf(fields.get('credit'));
  const waitMs = countOf(fields.get('wait') ?? '0');
  if (turn === undefined || ack === undefined || credit === undefined || waitMs === undefined) {
    return 'turn, ack and credit are whole numbers below 2^53, wait too if given';
  }
  return { turn, ack, credit, ...(fields.has('wait') ? { waitMs } : {}) };
}

/** The body of the answer to a post, and part of the one that refuses a batch: how far the relay is. */
export interface PollProgress {
  readonly ack: number;
  readonly credit: number;
}

export function formatPollProgress({ ack, credit }: PollProgress): string {
  return JSON.stringify({ ack, credit });
}

/** Reads both; undefined: neither is there. */
export function parsePollProgress(text: string): PollProgress | undefined {
  const progress = parseRecord(text);
  if (progress === undefined) return undefined;
  const { ack, credit } = progress;
  return isCount(ack) && isCount(credit) ? { ack, credit } : undefined;
}

/** Why a session's request was refused, from its answer's body; undefined: the relay did not say it. */
export function parsePollReason(text: string): string | undefined {
  const reason = parseRecord(text)?.['reason'];
  return typeof reason === 'string' ? reason : undefined;
}

function countOf(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d{1,16}$/.test(text)) return undefined;
  const count = Number(text);
  return isCount(count) ? count : undefined;
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function parseRecord(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isRecord(value) ? value : undefined;
  } catch {
    // Intermediaries answer with pages of their own, which are no JSON.
    return undefined;
  }
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
