/**
 * `halfway/client`: listeners and senders for Halfway, and for Azure Relay Hybrid Connections, whose
 * protocol it is. Against Azure's own service it was not tried: nothing here asks for more than the
 * protocol has, but for `transport: 'poll'`, and `'auto'` where WebSockets cannot pass.
 */
export { HybridConnectionListener } from './hybrid-connection-listener.ts';
export type {
  ListenerEvents,
  ListenerHandlers,
  ListenerState,
} from './hybrid-connection-listener.ts';
export { HybridConnectionClient } from './hybrid-connection-client.ts';
export type { ConnectOptions, RequestOptions } from './hybrid-connection-client.ts';
export type { HttpAnswer, RequestBody } from './http-exchange.ts';
export { RelayConnection } from './relay-connection.ts';
export type { CloseInfo, ConnectionOptions, Message } from './relay-connection.ts';
export type { Fragment } from './fragment-queue.ts';
export { SenderOffer } from './sender-offer.ts';
export type { AcceptOptions } from './sender-offer.ts';
export type { Answer, AnswerBody, RelayedRequest } from './answer.ts';
export type { RelayOptions } from './relay-target.ts';
export type { TransportChoice } from './dial.ts';
export type { CertificateAuthorities } from './routes.ts';
export type { RetryInfo } from './control-link.ts';
export { spliceChannels } from './splice-channels.ts';
export type { ChannelEvents, FrameChannel, TransportName } from './frame-channel.ts';
export { RelayError } from './relay-error.ts';
export type { RefusedAnswer, RelayErrorCode } from './relay-error.ts';
export { fixedToken, sharedKeyTokens } from './token-provider.ts';
export type { RelayToken, TokenProvider } from './token-provider.ts';
