/** Frozen: it is part of every envelope, key package and derived key. Source: job-dispatch.md section 12. */
export const LABEL = 'hyco-jobs/1';

const utf8 = new TextEncoder();
const FIELD_BYTES_MAX = 0xffff;

/**
 * Joins fields so that no two lists of fields give the same bytes: before each its length in two bytes,
 * big-endian, then its UTF-8. Throws a RangeError for a field of more than 65,535 bytes.
 */
export function contextBytes(...fields: readonly string[]): Uint8Array<ArrayBuffer> {
  const encoded = fields.map(field => utf8.encode(field));
  const bytes = new Uint8Array(encoded.reduce((sum, field) => sum + 2 + field.length, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const field of encoded) {
    if (field.length > FIELD_BYTES_MAX) throw new RangeError('a field has at most 65,535 bytes');
    view.setUint16(at, field.length);
    bytes.set(field, at + 2);
    at += 2 + field.length;
  }
  return bytes;
}
