import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  formatEmptyFeed,
  formatRuntimeError,
  formatRuntimeInformation,
  isForServiceBus,
} from '../../src/protocol/runtime-information.ts';

const NAMESPACE = 'http://schemas.microsoft.com/netservices/2010/10/servicebus/connect';

describe('formatRuntimeInformation()', () => {
  test("has the elements in the order that .NET's reader knows", () => {
    expect(
      formatRuntimeInformation({
        createdAtMs: 1_893_499_200_000,
        updatedAtMs: 1_893_499_201_000,
        requiresClientAuthorization: true,
        userMetadata: '[{"key":"endpoint","value":"<host>&:80"}]',
        listenerCount: 1,
      }),
    ).toBe(
      '<entry xmlns="http://www.w3.org/2005/Atom"><content type="application/xml">' +
        `<HybridConnectionDescription xmlns="${NAMESPACE}">` +
        '<CreatedAt>2030-01-01T12:00:00Z</CreatedAt><UpdatedAt>2030-01-01T12:00:01Z</UpdatedAt>' +
        '<RequiresClientAuthorization>true</RequiresClientAuthorization>' +
        '<UserMetadata>[{&quot;key&quot;:&quot;endpoint&quot;,&quot;value&quot;:&quot;&lt;host&gt;&amp;:80&quot;}]</UserMetadata>' +
        '<ListenerCount>1</ListenerCount>' +
        '</HybridConnectionDescription></content></entry>',
    );
  });

  test('leaves out times that are not known', () => {
    const entry = formatRuntimeInformation({
      requiresClientAuthorization: false,
      userMetadata: '',
      listenerCount: 0,
    });
    expect(entry).not.toContain('At>');
    expect(entry).toContain('<RequiresClientAuthorization>false</RequiresClientAuthorization>');
  });
});

describe('formatRuntimeError()', () => {
  test('has code and detail', () => {
    expect(formatRuntimeError(401, 'InvalidAudience: <x>. TrackingId:1')).toBe(
      '<Error><Code>401</Code><Detail>InvalidAudience: &lt;x&gt;. TrackingId:1</Detail></Error>',
    );
  });

  test('is well formed, whatever the detail', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), detail => {
        const text = formatRuntimeError(500, detail).slice(
          '<Error><Code>500</Code><Detail>'.length,
        );
        expect(text.slice(0, -'</Detail></Error>'.length)).not.toMatch(
          /[<>\uFFFE\uFFFF]|&(?!amp;|lt;|gt;|quot;|#xD;)|(?![\t\n])\p{Cc}|\p{Cs}/u,
        );
      }),
    );
  });
});

test('formatEmptyFeed() is a feed without entries', () => {
  expect(formatEmptyFeed()).toBe('<feed xmlns="http://www.w3.org/2005/Atom"></feed>');
});

test('isForServiceBus() reads the header that keeps a request from listeners', () => {
  expect(isForServiceBus([['x-process-at', 'ServiceBus']])).toBe(true);
  expect(isForServiceBus([['x-process-at', ' servicebus']])).toBe(true);
  expect(isForServiceBus([['x-process-at', 'elsewhere']])).toBe(false);
  expect(isForServiceBus([['host', 'ServiceBus']])).toBe(false);
});
