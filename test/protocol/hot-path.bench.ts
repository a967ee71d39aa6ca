// What runs once for each relayed HTTP request: `npx vitest bench --run test/protocol`.
import { bench } from 'vitest';
import {
  formatRequest,
  formatResponse,
  parseListenerMessage,
} from '../../src/protocol/control-messages.ts';
import { formatRendezvousId } from '../../src/protocol/ids.ts';
import { formatRendezvousAddress, parseRelayQuery } from '../../src/protocol/relay-url.ts';
import {
  reasonPhrase,
  requestHeadersOf,
  responseHeadersOf,
} from '../../src/protocol/relayed-headers.ts';
import {
  candidateKeys,
  formatRequestTarget,
  parseRequestPath,
} from '../../src/protocol/request-path.ts';

const ID = formatRendezvousId(
  '0f6b9f0e-5f0a-4c53-8f0c-7b7a2d6f5d11',
  '00112233445566778899aabbccddeeff',
);
const ADDRESS = {
  origin: 'wss://relay.example.com:443',
  rawPath: 'hyco/orders/17',
  userQuery: '',
  action: 'request',
  id: ID,
} as const;
const HEADERS = [
  ['host', 'relay.example.com'],
  ['user-agent', 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)'],
  ['accept', 'application/json'],
  ['accept-encoding', 'gzip, deflate, br'],
  ['accept-language', 'en'],
  ['connection', 'keep-alive'],
  ['servicebusauthorization', 'SharedAccessSignature sr=http%3A%2F%2Frelay.example.com%2Fhyco'],
  ['content-type', 'application/json'],
  ['content-length', '120'],
  ['traceparent', '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'],
] as const;
const REQUEST_HEADERS = requestHeadersOf(HEADERS, { viaHost: 'h', stripAuthorization: false });
const RESPONSE = formatResponse({
  requestId: ID,
  statusCode: 200,
  statusDescription: 'OK',
  responseHeaders: {
    'Content-Type': 'application/json; charset=utf-8',
    'Cache-Control': 'no-store',
    'Content-Length': '512',
    'X-Request-ID': '1c048eb5-77c4-4b85-96fd-fa526801af35',
    'Set-Cookie': 'a=1; Path=/; Expires=Wed, 21 Oct 2015 07:28:00 GMT',
  },
  body: true,
});
const PARSED = parseListenerMessage(RESPONSE);
const RESPONSE_HEADERS = PARSED.type === 'response' ? PARSED.responseHeaders : [];

bench('parseRequestPath() and candidateKeys()', () => {
  candidateKeys(parseRequestPath('/hyco/orders/17', { encodedSlashes: 'refuse' })?.segments ?? []);
});
bench('parseRequestPath() with escapes', () => {
  parseRequestPath('/hyco/orders/open%20now', { encodedSlashes: 'refuse' });
});
bench('parseRelayQuery() without fields of ours', () => {
  parseRelayQuery('state=open&limit=50&sort=%2Bdate');
});
bench('parseRelayQuery() with a token', () => {
  parseRelayQuery(
    'state=open&sb-hc-token=SharedAccessSignature%20sr%3Dhttp%253A%252F%252Fh%252Fp%26sig%3Dab%252B%253D%26se%3D1%26skn%3Dr',
  );
});
bench('formatRequestTarget()', () => {
  formatRequestTarget('hyco/orders/17', 'state=open');
});
bench('requestHeadersOf()', () => {
  requestHeadersOf(HEADERS, { viaHost: 'relay.example.com', stripAuthorization: false });
});
bench('formatRendezvousAddress() and formatRequest()', () => {
  formatRequest({
    address: formatRendezvousAddress(ADDRESS),
    id: ID,
    requestTarget: '/hyco/orders/17?state=open',
    method: 'POST',
    requestHeaders: REQUEST_HEADERS,
    remoteEndpoint: { address: '203.0.113.7', port: 52_110 },
    body: true,
  });
});
bench('parseListenerMessage()', () => {
  parseListenerMessage(RESPONSE);
});
bench('responseHeadersOf()', () => {
  responseHeadersOf(RESPONSE_HEADERS, { viaHost: 'relay.example.com' });
});
bench('reasonPhrase()', () => {
  reasonPhrase(200, 'OK');
});
