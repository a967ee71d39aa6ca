import { expect, test } from 'vitest';
import { joinProofText } from '../../src/dispatch/group-membership.ts';
import { keyChangeText } from '../../src/dispatch/machine-keys.ts';
import { proofText } from '../../src/dispatch/machine-requests.ts';
import { assertionAudience } from '../../src/dispatch/machine-tokens.ts';
import * as machine from '../../src/machine/proofs.ts';

test('machine and control plane sign and check the same texts', () => {
  const body = { z: [{ b: 1, a: 'ä' }], a: { d: true, c: null }, proof: 'left out' };
  expect(machine.proofText('dev', body)).toBe(proofText('dev', body));
  expect(machine.assertionAudience('dev')).toBe(assertionAudience('dev'));
  const key = { environment: 'dev', machineId: 'm', point: 'p' };
  for (const what of ['encryption-key', 'identity-key'] as const) {
    expect(machine.keyChangeText(what, key)).toBe(keyChangeText(what, key));
  }
  expect(machine.joinProofText('g', 'c', 'a')).toBe(joinProofText('g', 'c', 'a'));
});
