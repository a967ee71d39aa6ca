import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  formatRendezvousId,
  isRendezvousId,
  leadingUuid,
  trackingIdOf,
} from '../../src/protocol/ids.ts';

const UUID = '0f6b9f0e-5f0a-4c53-8f0c-7b7a2d6f5d11';
const SECRET = '00112233445566778899aabbccddeeff';

describe('leadingUuid()', () => {
  test.each([
    ['a UUID', UUID, UUID],
    ['a UUID in upper case', UUID.toUpperCase(), UUID],
    ['a UUID that passed one gateway', `${UUID}_G17`, UUID],
    ['a UUID that passed two gateways', `${UUID}_G17_G30`, UUID],
    ['nothing', undefined, undefined],
    ['an empty text', '', undefined],
    ['a text that is no UUID', 'listener-7', undefined],
    ['a UUID without hyphens', UUID.replaceAll('-', ''), undefined],
    ['a UUID in braces', `{${UUID}}`, undefined],
    ['a UUID that goes on', `${UUID}0`, undefined],
    ['a UUID behind something', ` ${UUID}`, undefined],
  ])('of %s', (_, text, uuid) => {
    expect(leadingUuid(text)).toBe(uuid);
  });

  test('never throws, and gives back what it found', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: 'binary' }), fc.uuid()), text => {
        const uuid = leadingUuid(text);
        if (uuid !== undefined) expect(leadingUuid(`${uuid}_G1`)).toBe(uuid);
      }),
    );
  });
});

describe('a rendezvous id', () => {
  test('begins with the UUID, which is all that may be shown', () => {
    const id = formatRendezvousId(UUID.toUpperCase(), SECRET);
    expect(id).toBe(`${UUID}_G${SECRET}`);
    expect(isRendezvousId(id)).toBe(true);
    expect(trackingIdOf(id)).toBe(UUID);
  });

  test.each([
    ['no secret', UUID],
    ['a short secret', `${UUID}_G${SECRET.slice(1)}`],
    ['a long secret', `${UUID}_G${SECRET}0`],
    ['a secret in upper case', `${UUID}_G${SECRET.toUpperCase()}`],
    ['a line break behind', `${UUID}_G${SECRET}\n`],
    ['no UUID', `sender_G${SECRET}`],
  ])('is not a text with %s', (_, text) => {
    expect(isRendezvousId(text)).toBe(false);
  });

  test('cannot be made of anything else', () => {
    expect(() => formatRendezvousId('sender', SECRET)).toThrow('Assertion failed');
    expect(() => formatRendezvousId(UUID, 'guessable')).toThrow('Assertion failed');
  });
});
