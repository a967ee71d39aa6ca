/**
 * Longest reason phrase that is written, in characters: holds a refusal's text with the longest host
 * and entity name, and stays far below what clients and proxies allow for a line.
 */
export const REASON_PHRASE_CHARS_MAX = 1_024;

const PLAIN = /^[ -~]*$/;
const NOT_PLAIN = /[^ -~]/u;

/**
 * Makes any text fit for a status line: printable ASCII only, no line breaks, bounded. Control
 * characters become spaces, other characters `?`. What peers said never ends a line early.
 */
export function statusLineText(text: string): string {
  const bounded =
    text.length > REASON_PHRASE_CHARS_MAX ? text.slice(0, REASON_PHRASE_CHARS_MAX) : text;
  if (PLAIN.test(bounded)) return bounded.trim();
  return bounded
    .replaceAll(/\p{Cc}+/gu, ' ')
    .replaceAll(new RegExp(NOT_PLAIN, 'gu'), '?')
    .trim();
}
