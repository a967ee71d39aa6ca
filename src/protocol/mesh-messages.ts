// What is said on a mesh link: every kind of message once, with the shape of its head. Types, checks and
// the hash that guards MESH_VERSIONS are made from this table. A new kind is a new row, and a version.
import type { JsonRecord, MeshMessage } from './mesh-frames.ts';

/**
 * A field's type; with `?` it may be left out. A list of texts: one of these. `pairs`: [name, value] pairs;
 * `texts`: any number of them.
 */
type FieldShape = Primitive | `${Primitive}?` | readonly string[];
type Primitive = 'string' | 'number' | 'boolean' | 'pairs' | 'texts';
type HeadShape = Readonly<Record<string, FieldShape>>;

interface KindShape {
  /** The byte on the wire. */
  readonly kind: number;
  readonly head: HeadShape;
  /** The version of the mesh protocol that brought it; 1 unless told. Nobody says it on a link of an older one. */
  readonly since?: number;
}

/** `id` is always a rendezvous id: a secret, not for logs. "I" and "here" are the node that says it. */
export const MESH_MESSAGES = {
  /** The answer to a question of a kind that this build does not know. */
  'not-understood': { kind: 0, head: {} },
  /** The link is alive; wants `pong` at once. */
  ping: { kind: 1, head: {} },
  pong: { kind: 2, head: {} },
  /** The speaker closes the link, and why: a row of mesh-refusals.ts. */
  bye: { kind: 3, head: { reason: 'string' } },

  /** Put this before a listener of yours: the text, and right behind it the body if there is one. */
  offer: {
    kind: 16,
    head: {
      id: 'string',
      /** The directory's key of the control channel. */
      listenerKey: 'string',
      /** The `accept` or `request` message, ready for the control channel. */
      text: 'string',
      hasBody: 'boolean',
    },
  },
  /** The listener cannot take it: ask another. */
  'offer-refused': { kind: 17, head: { id: 'string', reason: 'string' } },
  /** The offer is over, however it ended: it no longer counts as the listener's work. */
  settled: { kind: 18, head: { id: 'string' } },
  /** A listener of mine answered a request of yours on its control channel; the body is its body. */
  response: {
    kind: 19,
    head: {
      id: 'string',
      namespace: 'string',
      hybridConnection: 'string',
      statusCode: 'number',
      statusDescription: 'string',
      responseHeaders: 'pairs',
    },
  },
  /** A listener dialled here an address that is yours. Wants `dial-answer`. */
  dial: {
    kind: 20,
    head: {
      id: 'string',
      action: ['accept', 'request'],
      /** `Sec-WebSocket-Protocol` as it came. */
      protocols: 'string?',
      /** With these it turns the sender away. */
      rejectStatus: 'string?',
      rejectDescription: 'string?',
      /** The dialled query without the protocol's own fields; some listeners reject in it. */
      userQuery: 'string',
    },
  },
  'dial-answer': {
    kind: 21,
    head: {
      outcome: ['refused', 'rejected', 'go-on'],
      /** Of a refusal: its row in refusals.ts, the status, and the text for the listener. */
      reason: 'string?',
      status: 'number?',
      text: 'string?',
      /** To go on: the subprotocol to name, and the key under which a stream is expected, once. */
      protocol: 'string?',
      streamKey: 'string?',
    },
  },
  /** The sender of an offer went away while its listener was being asked. */
  'sender-gone': { kind: 22, head: { id: 'string' } },
  /** The control channel that an offer was put before ended first. */
  'listener-lost': { kind: 23, head: { id: 'string' } },

  /**
   * While the coordinator cannot tell: listeners of mine that came, and some that went. It says how things
   * are and not how they differ, so that saying it again does no harm.
   */
  listeners: {
    kind: 24,
    since: 2,
    head: {
      /** Whose they are: the speaker's, and nobody else's. */
      node: 'string',
      epoch: 'string',
      /** The coordinator is away for me: I hear of listeners of others in this way only. */
      isAway: 'boolean',
      /** [key, row], the row as the coordinator would keep it. */
      rows: 'pairs',
      /** Keys. */
      released: 'texts',
    },
  },

  /**
   * A poll of a session of yours came here; held as long as one that came to you. Wants
   * `poll-answer`. `session` is always a session's id: a secret, not for logs.
   */
  poll: {
    kind: 25,
    since: 2,
    head: {
      session: 'string',
      turn: 'number',
      ack: 'number',
      credit: 'number',
      from: 'number?',
      waitMs: 'number?',
      bytesMax: 'number',
    },
  },
  /** A batch of a session of yours came here; it is the body. Wants `poll-answer`. */
  'poll-post': { kind: 26, since: 2, head: { session: 'string' } },
  /** A client has ended a session of yours here. Wants `poll-answer`. */
  'poll-end': { kind: 27, since: 2, head: { session: 'string' } },
  'poll-answer': {
    kind: 28,
    since: 2,
    head: {
      /** Of a refusal: its row in refusals.ts, and what its text says beyond. */
      reason: 'string?',
      detail: 'string?',
      /** How far you are with the client's frames. To a poll the batch, which is the body, says it. */
      ack: 'number?',
      credit: 'number?',
    },
  },
} as const satisfies Record<string, KindShape>;

export type MeshKind = keyof typeof MESH_MESSAGES;

type ValueOf<Shape> = Shape extends readonly (infer Text)[]
  ? Text
  : Shape extends 'string' | 'string?'
    ? string
    : Shape extends 'number' | 'number?'
      ? number
      : Shape extends 'boolean' | 'boolean?'
        ? boolean
        : Shape extends 'texts' | 'texts?'
          ? readonly string[]
          : readonly (readonly [string, string])[];

/** The head of a kind of message, as its row in the table says. */
export type MeshHead<Kind extends MeshKind> = HeadOf<(typeof MESH_MESSAGES)[Kind]['head']>;
type HeadOf<Shape> = {
  readonly [K in keyof Shape as Shape[K] extends `${string}?` ? never : K]: ValueOf<Shape[K]>;
} & {
  readonly [K in keyof Shape as Shape[K] extends `${string}?` ? K : never]?:
    | ValueOf<Shape[K]>
    | undefined;
};

const NOTHING = new Uint8Array(0);

/** Makes a message. Keeps `body`: it must not change until the message is sent. */
export function meshMessage<Kind extends MeshKind>(
  kind: Kind,
  head: MeshHead<Kind>,
  body: Uint8Array = NOTHING,
): MeshMessage {
  return { kind: MESH_MESSAGES[kind].kind, head: { ...head }, body };
}

/** Whether a kind may be said on a link of this version of the mesh protocol. */
export function isSpokenAt(kind: MeshKind, version: number): boolean {
  const shape: KindShape = MESH_MESSAGES[kind];
  return version >= (shape.since ?? 1);
}

/** The name of a message's kind; undefined for one that this build does not know. */
export function meshKindOf(message: MeshMessage): MeshKind | undefined {
  return KIND_NAMES[message.kind];
}

/** The head, if the message is of this kind and its head has the shape; else undefined. Never throws. */
export function meshHeadOf<Kind extends MeshKind>(
  kind: Kind,
  message: MeshMessage,
): MeshHead<Kind> | undefined {
  const isOfKind = message.kind === MESH_MESSAGES[kind].kind;
  return isOfKind && hasShape(kind, message.head) ? message.head : undefined;
}

function hasShape<Kind extends MeshKind>(
  kind: Kind,
  head: JsonRecord,
): head is JsonRecord & MeshHead<Kind> {
  const shape: HeadShape = MESH_MESSAGES[kind].head;
  for (const name in shape) if (!hasFieldShape(head[name], shape[name] ?? 'string?')) return false;
  return true;
}

function hasFieldShape(value: unknown, shape: FieldShape): boolean {
  if (typeof shape !== 'string') return typeof value === 'string' && shape.includes(value);
  if (shape.endsWith('?') && value === undefined) return true;
  if (shape.startsWith('pairs')) return Array.isArray(value) && value.every(isPair);
  if (shape.startsWith('texts')) return Array.isArray(value) && value.every(isText);
  return typeof value === (shape.endsWith('?') ? shape.slice(0, -1) : shape);
}

function isPair(value: unknown): boolean {
  return Array.isArray(value) && value.length === 2 && value.every(isText);
}

function isText(value: unknown): boolean {
  return typeof value === 'string';
}

const KIND_NAMES: (MeshKind | undefined)[] = [];
for (const [name, { kind }] of Object.entries(MESH_MESSAGES)) {
  if (isMeshKind(name)) KIND_NAMES[kind] = name;
}

function isMeshKind(name: string): name is MeshKind {
  return name in MESH_MESSAGES;
}
