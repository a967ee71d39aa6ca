import type { LogChunk } from './api/records.ts';

const ESCAPE = String.fromCharCode(0x1b);
/** Colours and cursor moves of terminals. */
const SEQUENCES = new RegExp(`${ESCAPE}(?:\\[[0-9;?]*[ -/]*[@-~]|[@-Z\\\\^_])`, 'g');
const UNFINISHED = new RegExp(`${ESCAPE}(?:\\[[0-9;?]*[ -/]*)?$`);

/**
 * Makes text of a run's log as it comes: characters and escape sequences may be cut anywhere between two
 * chunks. What only a terminal understands is left out.
 */
export class LogText {
  #decoder = new TextDecoder();
  #attempt: number | undefined;
  #rest = '';

  push(chunk: LogChunk): string {
    const isNewAttempt = chunk.attempt !== this.#attempt;
    const isFirst = this.#attempt === undefined;
    if (isNewAttempt) {
      this.#decoder = new TextDecoder();
      this.#rest = '';
      this.#attempt = chunk.attempt;
    }
    const text = this.#rest + this.#decoder.decode(bytesOf(chunk.data), { stream: true });
    const unfinished = UNFINISHED.exec(text)?.[0] ?? '';
    this.#rest = unfinished;
    const whole = text.slice(0, text.length - unfinished.length);
    const shown = whole.replaceAll(SEQUENCES, '').replaceAll('\r\n', '\n').replaceAll('\r', '\n');
    return isNewAttempt && !isFirst ? `\n— attempt ${chunk.attempt} —\n${shown}` : shown;
  }
}

export function bytesOf(base64: string): Uint8Array {
  return Uint8Array.from(atob(base64), character => character.charCodeAt(0));
}
