// What .NET's GetRuntimeInformationAsync asks for and reads. Source: protocol reference 6.5.
import type { HeaderPairs } from './relayed-headers.ts';
import { formatTimestamp } from './timestamps.ts';

/**
 * Whether a request asks the relay itself (`X-PROCESS-AT: ServiceBus`). Such a request is never
 * relayed to a listener, whatever its method.
 */
export function isForServiceBus(headers: HeaderPairs): boolean {
  return headers.some(
    ([name, value]) => name === 'x-process-at' && value.trim().toLowerCase() === 'servicebus',
  );
}

export interface RuntimeInformation {
  /** Milliseconds since 1970; left out when unknown. */
  readonly createdAtMs?: number;
  readonly updatedAtMs?: number;
  readonly requiresClientAuthorization: boolean;
  readonly userMetadata: string;
  /** Connected listeners on all nodes. */
  readonly listenerCount: number;
}

/** Content type of `formatRuntimeInformation`. */
export const RUNTIME_INFORMATION_TYPE = 'application/atom+xml;type=entry;charset=utf-8';

/** The Atom entry. Elements stand in the one order that .NET's reader knows. */
export function formatRuntimeInformation(information: RuntimeInformation): string {
  const { createdAtMs, updatedAtMs, requiresClientAuthorization, userMetadata, listenerCount } =
    information;
  return (
    '<entry xmlns="http://www.w3.org/2005/Atom"><content type="application/xml">' +
    '<HybridConnectionDescription xmlns="http://schemas.microsoft.com/netservices/2010/10/servicebus/connect">' +
    (createdAtMs === undefined ? '' : `<CreatedAt>${formatTimestamp(createdAtMs)}Z</CreatedAt>`) +
    (updatedAtMs === undefined ? '' : `<UpdatedAt>${formatTimestamp(updatedAtMs)}Z</UpdatedAt>`) +
    `<RequiresClientAuthorization>${requiresClientAuthorization}</RequiresClientAuthorization>` +
    `<UserMetadata>${escapeXml(userMetadata)}</UserMetadata>` +
    `<ListenerCount>${listenerCount}</ListenerCount>` +
    '</HybridConnectionDescription></content></entry>'
  );
}

/** Content type of `formatEmptyFeed`. */
export const EMPTY_FEED_TYPE = 'application/atom+xml;type=feed;charset=utf-8';

/** Azure's answer, with status 200, for an unknown path: .NET reports a feed as not found. */
export function formatEmptyFeed(): string {
  return '<feed xmlns="http://www.w3.org/2005/Atom"></feed>';
}

/** Content type of `formatRuntimeError`. */
export const RUNTIME_ERROR_TYPE = 'application/xml;charset=utf-8';

/** Error body of such a request: the HTTP status, and a refusal's text. */
export function formatRuntimeError(httpStatus: number, detail: string): string {
  return `<Error><Code>${httpStatus}</Code><Detail>${escapeXml(detail)}</Detail></Error>`;
}

const XML_ESCAPES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  '\r': '&#xD;',
};

/** Escapes markup; what XML cannot hold in any form becomes U+FFFD. */
function escapeXml(text: string): string {
  return text
    .replaceAll(/[&<>"\r]/g, character => XML_ESCAPES[character] ?? character)
    .replaceAll(/(?![\t\n])[\p{Cc}\p{Cs}\uFFFE\uFFFF]/gu, '\uFFFD');
}
