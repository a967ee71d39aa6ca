// What a control channel is told about a sender: `accept` and `request`, with the address to dial.
import { formatAccept, formatRequest, formatRequestPointer } from '../protocol/control-messages.ts';
import type { RendezvousId } from '../protocol/ids.ts';
import { connectHeadersOf, requestHeadersOf } from '../protocol/relayed-headers.ts';
import { formatRendezvousAddress } from '../protocol/relay-url.ts';
import { formatRequestTarget } from '../protocol/request-path.ts';
import type { RelayRequest } from './ports.ts';

/** `origin`: what addresses for the listener that is told begin with. */
export function acceptMessage(request: RelayRequest, origin: string, id: RendezvousId): string {
  return formatAccept({
    address: formatRendezvousAddress({
      origin,
      rawPath: request.path.rawPath,
      userQuery: request.query.userQuery,
      action: 'accept',
      id,
    }),
    id,
    connectHeaders: connectHeadersOf(request.headers),
    remoteEndpoint: request.remote,
  });
}

/** The full form of a request, which travels on the control channel or on a rendezvous. */
export function requestMessage(
  request: RelayRequest,
  origin: string,
  id: RendezvousId,
  about: {
    readonly method: string;
    /** Whether `Authorization` was the relay's own token and so is not the listener's business. */
    readonly stripAuthorization: boolean;
    readonly body: boolean;
  },
): string {
  return formatRequest({
    address: requestAddress(request, origin, id),
    id,
    requestTarget: formatRequestTarget(request.path.rawPath, request.query.userQuery),
    method: about.method,
    requestHeaders: requestHeadersOf(request.headers, {
      viaHost: request.host,
      stripAuthorization: about.stripAuthorization,
    }),
    remoteEndpoint: request.remote,
    body: about.body,
  });
}

/** The address-only form: the listener fetches the request by dialling. */
export function requestPointer(request: RelayRequest, origin: string, id: RendezvousId): string {
  return formatRequestPointer(requestAddress(request, origin, id));
}

/** Without the user query, which `requestTarget` carries: Java fails on some queries in an address. */
function requestAddress(request: RelayRequest, origin: string, id: RendezvousId): string {
  return formatRendezvousAddress({
    origin,
    rawPath: request.path.rawPath,
    userQuery: '',
    action: 'request',
    id,
  });
}
