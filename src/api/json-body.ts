import { Problem } from '../dispatch/problem.ts';

/** Deeper than anybody nests by hand; what recurses over a body ends before its stack does. */
const DEPTH_MAX = 64;
const utf8 = new TextDecoder('utf-8', { fatal: true });

/** Reads JSON. Throws `RequestMalformed` for what is no UTF-8, no JSON, or nested too deep. */
export function parseJsonBody(bytes: Uint8Array): unknown {
  let text: string;
  try {
    text = utf8.decode(bytes);
  } catch {
    throw malformed('is not UTF-8');
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // Where it broke is in the error's message, together with pieces of the text, which may be a secret.
    throw malformed('is not JSON');
  }
  if (isDeeperThan(value, DEPTH_MAX)) throw malformed(`is nested deeper than ${DEPTH_MAX}`);
  return value;
}

/** Level by level, since recursion is what is feared. */
function isDeeperThan(value: unknown, depthMax: number): boolean {
  let level: unknown[] = [value];
  for (let depth = 0; level.length > 0; depth += 1) {
    if (depth > depthMax) return true;
    const next: unknown[] = [];
    for (const one of level) {
      if (typeof one !== 'object' || one === null) continue;
      for (const member of Object.values(one)) {
        if (typeof member === 'object' && member !== null) next.push(member);
      }
    }
    level = next;
  }
  return false;
}

function malformed(message: string): Problem {
  return new Problem('RequestMalformed', `the body ${message}`, {
    errors: [{ path: '', message }],
  });
}
