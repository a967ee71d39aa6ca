import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  audienceCovers,
  encodeAudience,
  formatSasToken,
  parseAudience,
  parseSasToken,
} from '../../src/protocol/sas-token.ts';
import audiences from '../fixtures/sas-audiences.json' with { type: 'json' };
import signatures from '../fixtures/sas-signatures.json' with { type: 'json' };

const FIELDS = 'sr=http%3a%2f%2fh%2fp&sig=YWJj%2B%3D&se=1893456000&skn=listen%20Rule';
const PARSED = {
  signedText: 'http%3a%2f%2fh%2fp\n1893456000',
  signature: 'YWJj+=',
  expiresAtSec: 1_893_456_000,
  keyName: 'listen Rule',
  audience: { host: 'h', segments: ['p'] },
};

describe('parseSasToken()', () => {
  test('reads the complete token of the reference, its sr exactly as sent', () => {
    expect(parseSasToken(signatures.completeToken)).toEqual({
      signedText: `${signatures.good[0]?.sr}\n${signatures.expiresAtSec}`,
      signature: signatures.good[0]?.signature,
      expiresAtSec: signatures.expiresAtSec,
      keyName: 'listenRule',
      audience: { host: 'relay.example.com', segments: ['hyco'] },
    });
  });

  test.each([
    ['the usual form', `SharedAccessSignature ${FIELDS}`],
    ['the scheme word in lower case', `sharedaccesssignature ${FIELDS}`],
    ['more white space', ` SharedAccessSignature \t ${FIELDS}\n`],
    [
      'fields in another order',
      `SharedAccessSignature ${FIELDS.split('&').toReversed().join('&')}`,
    ],
    [
      'field names in upper case',
      `SharedAccessSignature ${FIELDS.replaceAll(/[a-z]+=/g, n => n.toUpperCase())}`,
    ],
    ['empty fields', `SharedAccessSignature &${FIELDS.replace('&', '&&')}&`],
    ['an unknown field', `SharedAccessSignature ${FIELDS}&x=1`],
    ['a space as plus', `SharedAccessSignature ${FIELDS.replace('%20', '+')}`],
    ['a signature that was not encoded', `SharedAccessSignature ${FIELDS.replace('%2B%3D', '+=')}`],
  ])('reads %s', (_, text) => {
    expect(parseSasToken(text)).toEqual(PARSED);
  });

  test.each([
    ['nothing', ''],
    ['the scheme word alone', 'SharedAccessSignature'],
    ['no scheme word', FIELDS],
    ['another scheme word', `Bearer ${FIELDS}`],
    ['a third part', `SharedAccessSignature ${FIELDS} x`],
    ['no sr', 'SharedAccessSignature sig=a&se=1&skn=r'],
    ['no sig', 'SharedAccessSignature sr=a&se=1&skn=r'],
    ['no se', 'SharedAccessSignature sr=a&sig=a&skn=r'],
    ['no skn', 'SharedAccessSignature sr=a&sig=a&se=1'],
    ['an empty skn', 'SharedAccessSignature sr=a&sig=a&se=1&skn='],
    ['a field without a value', `SharedAccessSignature ${FIELDS}&x`],
    ['a repeated field', `SharedAccessSignature ${FIELDS}&SR=http%3a%2f%2fh%2fq`],
    ['an expiry that is no number', 'SharedAccessSignature sr=a&sig=a&se=soon&skn=r'],
    ['a negative expiry', 'SharedAccessSignature sr=a&sig=a&se=-1&skn=r'],
    ['a fractional expiry', 'SharedAccessSignature sr=a&sig=a&se=1.5&skn=r'],
    ['an expiry in milliseconds', 'SharedAccessSignature sr=a&sig=a&se=1893456000000&skn=r'],
    [
      'a rule name of 257 characters',
      `SharedAccessSignature sr=a&sig=a&se=1&skn=${'r'.repeat(257)}`,
    ],
    [
      'a text of more than 8,192 characters',
      `SharedAccessSignature ${FIELDS}&x=${'x'.repeat(8_192)}`,
    ],
    ["Java's renewal", 'com.microsoft.azure.relay.SharedAccessSignatureToken@1b2c3d'],
  ])('calls %s malformed', (_, text) => {
    expect(parseSasToken(text)).toBeUndefined();
  });

  test('never throws', () => {
    const part = fc.oneof(
      fc.constantFrom(
        'SharedAccessSignature ',
        'sr=',
        'sig=',
        'se=',
        'skn=',
        '&',
        '1',
        '%',
        '%ff',
        '://',
      ),
      fc.string({ unit: 'binary', maxLength: 5 }),
    );
    fc.assert(
      fc.property(fc.array(part), parts => {
        const token = parseSasToken(parts.join(''));
        if (token !== undefined) expect(token.signedText).toContain('\n');
      }),
      { numRuns: 1_000 },
    );
  });

  test('reads what formatSasToken() wrote', () => {
    const token = fc.record({
      audience: fc.string({ minLength: 1 }),
      signature: fc.base64String({ minLength: 4 }),
      expiresAtSec: fc.nat(),
      keyName: fc.string({ minLength: 1, maxLength: 256 }),
    });
    fc.assert(
      fc.property(token, ({ audience, signature, expiresAtSec, keyName }) => {
        const encodedAudience = encodeAudience(audience);
        const text = formatSasToken({ encodedAudience, signature, expiresAtSec, keyName });
        expect(parseSasToken(text)).toEqual({
          signedText: `${encodedAudience}\n${expiresAtSec}`,
          signature,
          expiresAtSec,
          keyName,
          audience: parseAudience(audience),
        });
      }),
    );
  });
});

describe('audienceCovers()', () => {
  const resource = { hosts: ['alias.example.com', audiences.host], segments: audiences.resource };

  function covers(text: string, hosts: readonly string[]): boolean {
    const audience = parseAudience(text);
    return audience !== undefined && audienceCovers(audience, { ...resource, hosts });
  }

  test.each(audiences.covering)('lets $name cover', ({ audience }) => {
    expect(covers(audience, resource.hosts)).toBe(true);
  });

  test.each(audiences.notCovering)('does not let $name cover', ({ audience }) => {
    expect(covers(audience, resource.hosts)).toBe(false);
  });

  test('takes any host for a namespace that answers to every host', () => {
    expect(covers('http://other.example.com/hyco', [])).toBe(true);
    expect(covers('http://[::1]:8080/hyco', [])).toBe(true);
    expect(covers('http://other.example.com/other', [])).toBe(false);
    expect(covers('relay.example.com/hyco', [])).toBe(false);
  });

  test('is a matter of segments, not of letters', () => {
    const name = fc.stringMatching(/^[a-z0-9]{1,3}$/);
    fc.assert(
      fc.property(fc.array(name), fc.array(name), (above, segments) => {
        const audience = parseAudience(`sb://h/${above.join('/')}`);
        if (audience === undefined) throw new Error('every such audience is well formed');
        const isPrefix = above.every((segment, i) => segment === segments[i]);
        expect(audienceCovers(audience, { hosts: ['h'], segments })).toBe(isPrefix);
      }),
    );
  });
});
