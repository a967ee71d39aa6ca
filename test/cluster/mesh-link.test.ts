import { describe, expect, test } from 'vitest';
import { meshHeadOf, meshMessage } from '../../src/protocol/mesh-messages.ts';
import { startPair } from '../support/mesh-node.ts';

describe('a link', () => {
  test('carries messages and bodies both ways', async () => {
    await using pair = await startPair();
    const { a, b } = pair;
    const body = Buffer.from('body');
    expect(a.mesh.send('b', meshMessage('settled', { id: 'one' }))).toBe(true);
    expect(
      b.mesh.send(
        'a',
        meshMessage('offer', { id: 'x', listenerKey: 'k', text: '{}', hasBody: true }, body),
      ),
    ).toBe(true);
    const atB = await b.heard.next();
    expect(atB.from).toBe('a');
    expect(meshHeadOf('settled', atB.message)).toEqual({ id: 'one' });
    const atA = await a.heard.next();
    expect(meshHeadOf('offer', atA.message)?.hasBody).toBe(true);
    expect(Buffer.from(atA.message.body).toString()).toBe('body');
  });
});
