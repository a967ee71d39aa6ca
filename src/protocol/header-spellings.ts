const SPELLINGS = `
  Sec-WebSocket-Key Sec-WebSocket-Version Sec-WebSocket-Protocol Sec-WebSocket-Extensions
  Sec-WebSocket-Accept WWW-Authenticate ETag TE DNT Content-MD5 Content-ID Last-Event-ID SOAPAction
  ServiceBusAuthorization X-PROCESS-AT HTTP2-Settings X-XSS-Protection X-UA-Compatible X-Real-IP
  X-HTTP-Method-Override X-CSRF-Token X-Request-ID X-Correlation-ID DPoP Sec-CH-UA Sec-CH-UA-Mobile
  Sec-CH-UA-Platform Sec-GPC X-DNS-Prefetch-Control NEL Expect-CT SourceMap A-IM IM
  traceparent tracestate baggage
`;

/** Names whose usual spelling is not "a capital after each hyphen", by their lower-case form. */
export const HEADER_SPELLINGS: ReadonlyMap<string, string> = new Map(
  SPELLINGS.trim()
    .split(/\s+/)
    .map(spelling => [spelling.toLowerCase(), spelling]),
);
