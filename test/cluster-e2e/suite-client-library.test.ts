// The suite of single relays once more: three nodes, HAProxy before them, connections spread over all.
import { vi } from 'vitest';

vi.mock('../support/relay.ts', async original => ({
  ...(await original<typeof import('../support/relay.ts')>()),
  startRelay: async (...args: Parameters<typeof import('../support/relay.ts').startRelay>) =>
    (await import('../support/balanced-relay.ts')).startBalancedRelay(...args),
}));

await import('../client/conformance.test.ts');
