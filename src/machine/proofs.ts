import { createHash } from 'node:crypto';

// Texts that the identity key signs, as src/dispatch has them; test/machine/proofs.test.ts holds the two together.

/**
 * What is signed at registration: a label, the environment, and SHA-256 of the body without its proof as
 * JSON whose members are in the order of their names, at every depth.
 */
export function proofText(environment: string, body: object): string {
  const unproved = Object.fromEntries(Object.entries(body).filter(([name]) => name !== 'proof'));
  const digest = createHash('sha256').update(canonical(unproved)).digest('base64url');
  return `hyco-jobs/1 register ${environment} ${digest}`;
}

/** What an assertion is for. */
export function assertionAudience(environment: string): string {
  return `hyco-jobs/1 token ${environment}`;
}

/** What a joining machine signs. */
export function joinProofText(groupId: string, challengeId: string, answer: string): string {
  return `hyco-jobs/1 join ${groupId} ${challengeId} ${answer}`;
}

/** What vouches for a new key of the machine. `point`: the new one. */
export function keyChangeText(
  what: 'encryption-key' | 'identity-key',
  about: { readonly environment: string; readonly machineId: string; readonly point: string },
): string {
  return `hyco-jobs/1 ${what} ${about.environment} ${about.machineId} ${about.point}`;
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (_name, member: unknown) => {
    if (typeof member !== 'object' || member === null || Array.isArray(member)) return member;
    const sorted = Object.entries(member).toSorted(([one], [other]) => (one < other ? -1 : 1));
    return Object.fromEntries(sorted);
  });
}
