const MASK = Buffer.from('***');
/** Shorter ones stand everywhere by chance; masking them would leave no log. */
const SECRET_BYTES_MIN = 4;

/**
 * Takes secrets out of a stream of bytes, also where one is cut by the border of two chunks: what could be
 * the beginning of a secret is held back, never more bytes than the longest has. Each run of masked bytes
 * becomes `***`.
 */
export class SecretMask {
  readonly #secrets: readonly Buffer[];
  /** The end of what came, which may be the beginning of a secret. */
  #held = Buffer.alloc(0);
  /** So many bytes at the start of `#held` belong to a secret that was found. */
  #masked = 0;
  #wasMasked = false;

  /** Masks all `formsOf` the secrets. */
  constructor(secrets: readonly Buffer[]) {
    this.#secrets = formsOf(secrets);
  }

  /** What may be shown by now. */
  push(chunk: Uint8Array): Buffer {
    const bytes = Buffer.concat([this.#held, chunk]);
    return this.#take(bytes, unfinishedFrom(this.#secrets, bytes));
  }

  /** The rest: nothing will come. */
  end(): Buffer {
    return this.#take(this.#held, this.#held.length);
  }

  wipe(): void {
    for (const secret of this.#secrets) secret.fill(0);
    this.#held.fill(0);
  }

  #take(bytes: Buffer, end: number): Buffer {
    const shown: Buffer[] = [];
    let at = 0;
    let maskedTo = this.#masked;
    const cover = (from: number, to: number): void => {
      if (from > at) {
        shown.push(bytes.subarray(at, from));
        this.#wasMasked = false;
      }
      if (!this.#wasMasked) shown.push(MASK);
      this.#wasMasked = true;
      at = to;
    };
    if (maskedTo > 0 && end > 0) cover(0, Math.min(maskedTo, end));
    for (const [from, to] of placesOf(this.#secrets, bytes)) {
      if (from >= end) break;
      maskedTo = Math.max(maskedTo, to);
      if (to > at) cover(Math.max(from, at), Math.min(to, end));
    }
    if (end > at) {
      shown.push(bytes.subarray(at, end));
      this.#wasMasked = false;
    }
    const out = Buffer.concat(shown);
    this.#held = Buffer.from(bytes.subarray(end));
    this.#masked = Math.max(0, maskedTo - end);
    return out;
  }
}

/**
 * Copies of the secrets, and of the forms that they have in JSON and in addresses, each once; to be wiped. Those
 * shorter than four bytes are left out.
 */
export function formsOf(secrets: readonly Buffer[]): readonly Buffer[] {
  const forms = secrets.flatMap(secret => {
    const text = secret.toString('utf8');
    const written = [JSON.stringify(text).slice(1, -1), encodeURIComponent(text)];
    return [Buffer.from(secret), ...written.map(form => Buffer.from(form))];
  });
  return forms.filter(
    (form, index) =>
      form.length >= SECRET_BYTES_MIN && forms.findIndex(one => one.equals(form)) === index,
  );
}

/** Where each of the forms stands, in the order of the places. */
export function placesOf(
  forms: readonly Buffer[],
  bytes: Buffer,
): readonly (readonly [from: number, to: number])[] {
  const found: [number, number][] = [];
  for (const form of forms) {
    let from = bytes.indexOf(form);
    while (from !== -1) {
      found.push([from, from + form.length]);
      from = bytes.indexOf(form, from + 1);
    }
  }
  return found.toSorted(([one], [other]) => one - other);
}

/** The first place from which on all that is there could be the beginning of one of the forms. */
export function unfinishedFrom(forms: readonly Buffer[], bytes: Buffer): number {
  const longest = Math.max(1, ...forms.map(({ length }) => length));
  for (let from = Math.max(0, bytes.length - longest + 1); from < bytes.length; from += 1) {
    const rest = bytes.subarray(from);
    const isStart = forms.some(
      form => form.length > rest.length && form.subarray(0, rest.length).equals(rest),
    );
    if (isStart) return from;
  }
  return bytes.length;
}
