import { fitsControlChannel } from '../protocol/control-messages.ts';
import { listenerFilterOf } from '../protocol/relayed-headers.ts';
import type { HybridConnection, ListenerChoice } from './hybrid-connection.ts';
import { requestMessage, requestPointer } from './listener-messages.ts';
import type {
  HttpSender,
  Randomness,
  ReachableListener,
  RelayRequest,
  RequestBody,
} from './ports.ts';
import type { RelayedRequest } from './relayed-request.ts';

/** The body of an admitted request: none, whole, or a stream of unknown or great length. */
export type HttpBody =
  | { readonly kind: 'none' }
  /** At most `INLINE_BODY_BYTES_MAX`. */
  | { readonly kind: 'whole'; readonly bytes: Uint8Array }
  | { readonly kind: 'stream'; readonly stream: RequestBody };

/** An HTTP request that may be relayed, once its body is at hand or known to be long. */
export interface AdmittedHttp {
  /** The transport reports `senderGone` to what is returned, which may be over at once. */
  relay(sender: HttpSender, body: HttpBody): RelayedRequest;
}

/** What is known of an HTTP request once it is admitted. */
export interface HttpRelaying {
  readonly request: RelayRequest;
  readonly method: string;
  readonly hybridConnection: HybridConnection;
  readonly random: Randomness;
  /** Whether `Authorization` was the relay's own token. */
  readonly stripAuthorization: boolean;
  /** What addresses begin with that a listener is given. */
  readonly originFor: (listener: ReachableListener) => string;
  /** Registers the request; `offer` puts it before a listener that comes into question and was not asked yet. */
  readonly begin: (choice: ListenerChoice, offer: () => boolean) => RelayedRequest;
}

/**
 * Puts an HTTP request before a listener: whole on its control channel where it fits, else as an
 * address to fetch it from.
 */
export function relayHttp(body: HttpBody, about: HttpRelaying): RelayedRequest {
  const { request, hybridConnection, random, originFor } = about;
  // A listener elsewhere may say no later than one here: those that did are not asked again.
  const asked = new Set<ReachableListener>();
  const askedInline = new Set<ReachableListener>();
  const choice: ListenerChoice = { filter: listenerFilterOf(request.headers) };
  const put = (chosen: ReachableListener): boolean => {
    const bytes = body.kind === 'whole' ? body.bytes : undefined;
    if (body.kind !== 'stream' && !askedInline.has(chosen)) {
      askedInline.add(chosen);
      const json = message(chosen, bytes !== undefined);
      if (fitsControlChannel(json)) {
        if (bytes === undefined) asked.add(chosen);
        if (relayed.offerInline(chosen, json, bytes)) return true;
        // A body that finds no room on a crowded channel waits here instead; the address is short.
        if (bytes === undefined) return false;
      }
    }
    asked.add(chosen);
    // Always with a body, if an empty one: Java takes nothing else from a rendezvous.
    const pointer = requestPointer(request, originFor(chosen), relayed.id);
    return relayed.offerAddress(chosen, pointer, message(chosen, true), streamOf(body));
  };
  const offer = (): boolean =>
    hybridConnection.offer(random, { ...choice, except: asked }, put) !== undefined;
  const relayed = about.begin(choice, offer);
  const message = (chosen: ReachableListener, hasBody: boolean): string =>
    requestMessage(request, originFor(chosen), relayed.id, {
      method: about.method,
      stripAuthorization: about.stripAuthorization,
      body: hasBody,
    });
  relayed.start();
  return relayed;
}

/** A body that is at hand, as the stream that a rendezvous reads. */
function streamOf(body: HttpBody): RequestBody {
  if (body.kind === 'stream') return body.stream;
  let sink: Parameters<RequestBody['read']>[0] | undefined;
  return {
    read: reader => {
      sink = reader;
    },
    pause: () => {},
    resume: () => {
      const reader = sink;
      sink = undefined;
      reader?.(body.kind === 'whole' ? body.bytes : new Uint8Array(0), true);
    },
  };
}
