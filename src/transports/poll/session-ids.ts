import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { assert } from '../../base/assert.ts';
import {
  isPollSessionId,
  pollSessionIdParts,
  type PollSessionId,
} from '../../protocol/poll-session.ts';

const KEY_BYTES = 32;
/** The MAC is cut to this: 128 bits. */
const MAC_BYTES = 16;

/** Makes ids of sessions and knows them again, also when the session is over: no list of past ones is kept. */
export class SessionIds {
  readonly nodeTag: string;
  readonly #secretHex: () => string;
  /** Of this process alone: after a restart its ids are nobody's. */
  readonly #key = randomBytes(KEY_BYTES);

  /** `nodeTag`: 8 hex digits, '' for a relay of one node. `secretHex`: 128 random bits. */
  constructor(nodeTag: string, secretHex: () => string) {
    this.nodeTag = nodeTag;
    this.#secretHex = secretHex;
  }

  make(): PollSessionId {
    const secret = this.#secretHex();
    const mac = this.#mac(secret + this.nodeTag).toString('hex');
    const id = `${secret}${mac}${this.nodeTag}`;
    assert(isPollSessionId(id), 'a session id is made of hex digits');
    return id;
  }

  /** Whether this process gave it out. Takes as long for each id that it did not. */
  gaveOut(id: PollSessionId): boolean {
    const { signed, macHex } = pollSessionIdParts(id);
    return timingSafeEqual(this.#mac(signed), Buffer.from(macHex, 'hex'));
  }

  #mac(text: string): Buffer {
    return createHmac('sha256', this.#key).update(text).digest().subarray(0, MAC_BYTES);
  }
}
