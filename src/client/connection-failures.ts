import { messageOf, RelayError } from './relay-error.ts';

/** Where a connection was to go. */
export interface Destination {
  /** `host:port` of the relay. */
  readonly host: string;
  /** `host:port` of the proxy that stands before it, while it has not let us through yet. */
  readonly proxy: string | undefined;
}

/** What an error of a socket or of a TLS handshake means, in words. `doing` says what was tried. */
export function connectionFailure(doing: string, error: unknown, to: Destination): RelayError {
  if (error instanceof RelayError) return error;
  const where = to.proxy === undefined ? to.host : `the proxy ${to.proxy}`;
  const { code, text } = factsOf(error);
  const tls = tlsReason(code, text);
  if (tls !== undefined) {
    const message = `Cannot ${doing}: no TLS with ${where}: ${tls}`;
    return new RelayError('TlsFailed', message, { cause: error });
  }
  if (code.startsWith('HPE_')) {
    const message = `Cannot ${doing}: ${where} does not speak HTTP; check the port, and sb:// or https:// against http://`;
    return new RelayError('ProtocolError', message, { cause: error });
  }
  const message = `Cannot ${doing}: ${NETWORK_REASONS[code]?.(where) ?? `${where}: ${text}`}`;
  return new RelayError('ConnectionFailed', message, { isTransient: true, cause: error });
}

const NETWORK_REASONS: Readonly<Record<string, (where: string) => string>> = {
  ENOTFOUND: where => `${where}: the name is not known; check it, and the DNS`,
  EAI_AGAIN: where => `${where}: the DNS does not answer`,
  ECONNREFUSED: where => `${where}: nothing listens there; check host and port`,
  ETIMEDOUT: where => `${where}: no answer; a firewall may drop it`,
  EHOSTUNREACH: where => `${where}: no route to it`,
  ENETUNREACH: where => `${where}: no route to it`,
  ECONNRESET: where => `${where}: the connection was cut`,
  EPIPE: where => `${where}: the connection was cut`,
};

const OWN_CA = 'if it is the right one, give its certificate as `ca`';

/** By OpenSSL's and Node's names for what is wrong with a certificate. */
const CERTIFICATE_REASONS: Readonly<Record<string, string>> = {
  DEPTH_ZERO_SELF_SIGNED_CERT: `its certificate is self-signed; ${OWN_CA}`,
  SELF_SIGNED_CERT_IN_CHAIN: `its certificate comes from an authority that is not trusted here, perhaps a proxy that inspects TLS; ${OWN_CA}`,
  UNABLE_TO_GET_ISSUER_CERT: `the issuer of its certificate is not known here; ${OWN_CA}`,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: `the issuer of its certificate is not known here; ${OWN_CA}`,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: `the issuer of its certificate is not known here; ${OWN_CA}`,
  CERT_HAS_EXPIRED: "its certificate has expired; check this machine's clock, too",
  CERT_NOT_YET_VALID: "its certificate is not valid yet; check this machine's clock",
  CERT_REVOKED: 'its certificate has been revoked',
};

function tlsReason(code: string, text: string): string | undefined {
  const known = CERTIFICATE_REASONS[code];
  if (known !== undefined) return known;
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    return `its certificate is for another name: ${text}`;
  }
  if (code === 'ERR_SSL_WRONG_VERSION_NUMBER' || /wrong version number/.test(text)) {
    return 'it speaks no TLS; use an http:// endpoint where none is meant, or another port';
  }
  if (code === 'EPROTO' || /^(?:ERR_SSL|ERR_TLS|CERT)_/.test(code)) return text;
  // Node has no code of its own for a server that hangs up in the middle of the handshake.
  return /before secure TLS connection/.test(text) ? 'it hung up during the handshake' : undefined;
}

/** Node tries several addresses of one name and then throws all errors at once, without a message. */
function factsOf(error: unknown): { readonly code: string; readonly text: string } {
  const one: unknown = error instanceof AggregateError ? error.errors[0] : error;
  const code = hasCode(one) ? one.code : hasCode(error) ? error.code : '';
  return { code, text: messageOf(one) };
}

function hasCode(value: unknown): value is { readonly code: string } {
  return (
    typeof value === 'object' && value !== null && 'code' in value && typeof value.code === 'string'
  );
}
