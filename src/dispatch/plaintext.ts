import { Problem } from './problem.ts';

/** Members that would hold a credential in the clear, without regard to case, `-` and `_`. */
const NAMES: ReadonlySet<string> = new Set([
  'password',
  'passwd',
  'passphrase',
  'passcode',
  'pass',
  'pwd',
  'pw',
  'pin',
  'secret',
  'clientsecret',
  'credential',
  'credentials',
  'plaintext',
  'privatekey',
  'secretkey',
  'accesskey',
  'apikey',
  'token',
  'p',
]);
const PARTS = /password|passphrase|passwd|secret|privatekey/;
const DEPTH_MAX = 32;

/**
 * Throws `PlaintextCredentialRefused` when a body has a member, at any depth, that is called like a credential
 * and is no envelope. Says where, never what. Whoever sends one should hear of it before anything is kept.
 */
export function refusePlaintext(body: unknown): void {
  const path = plaintextIn(body, '', DEPTH_MAX);
  if (path === undefined) return;
  throw new Problem('PlaintextCredentialRefused', undefined, {
    errors: [{ path, message: 'must not be sent' }],
  });
}

function plaintextIn(value: unknown, path: string, depthLeft: number): string | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  // Nobody writes a body like this by hand, and nothing is hidden in it.
  if (depthLeft === 0) return path;
  for (const [name, member] of Object.entries(value)) {
    const at = Array.isArray(value) ? `${path}[${name}]` : path === '' ? name : `${path}.${name}`;
    const isNamed = !Array.isArray(value) && isCredentialName(name) && !isEnvelopeLike(member);
    if (isNamed) return at;
    const deeper = plaintextIn(member, at, depthLeft - 1);
    if (deeper !== undefined) return deeper;
  }
  return undefined;
}

function isCredentialName(name: string): boolean {
  const plain = name.toLowerCase().replaceAll(/[^a-z0-9]/g, '');
  return NAMES.has(plain) || PARTS.test(plain);
}

/** `credential` may be an envelope; its members are checked by the schema. */
function isEnvelopeLike(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'ct' in value && 'enc' in value;
}
