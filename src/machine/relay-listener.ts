import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { TransportChoice } from '../client/dial.ts';
import { HybridConnectionListener } from '../client/hybrid-connection-listener.ts';
import { RelayError } from '../client/relay-error.ts';
import type { RelayOptions } from '../client/relay-target.ts';
import type { SenderOffer } from '../client/sender-offer.ts';
import type { MachineAccess } from './machine-access.ts';
import { textOf } from './machine-error.ts';
import type { RelayRequests } from './relay-requests.ts';
import { pause, retryDelayMs } from './retry.ts';
import type { ServiceStatus } from './service-status.ts';

/** How the relay is reached. */
export interface RelayWay extends Pick<RelayOptions, 'proxy' | 'ca'> {
  readonly transport?: TransportChoice | undefined;
}

export interface ListenerParts {
  readonly origin: string;
  readonly relayPath: string;
  readonly way: RelayWay;
  readonly access: MachineAccess;
  readonly requests: RelayRequests;
  readonly status: ServiceStatus;
  readonly clock: Clock;
  readonly log: Logger;
  /** It is online, goes on over another transport, or is not online any more. */
  readonly onChange: () => void;
  readonly random?: (() => number) | undefined;
}

const CLOSE_TIMEOUT_MS = 5_000;

/**
 * Listens on the machine's own path until `signal` is aborted, whatever the relay says meanwhile: whether the
 * machine is registered at all is for hello to find out. No socket of this computer listens for that.
 */
export async function listenOnRelay(of: ListenerParts, signal: AbortSignal): Promise<void> {
  const { status, clock, log } = of;
  let failures = 0;
  const stopped = new Promise<void>(resolve => {
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
  while (!signal.aborted) {
    const listener = listenerOf(of, signal, () => {
      failures = 0;
    });
    try {
      await listener.open({ signal });
      await stopped;
    } catch (error) {
      if (signal.aborted) break;
      failures += 1;
      const why = textOf(error);
      const delayMs = retryDelayMs(failures, of.random);
      status.error('channel', why);
      log.warn({ why, failures, delayMs }, 'relay does not let this machine listen');
      await pause(clock, delayMs, signal);
    } finally {
      status.channel('closed');
      await listener.close({ timeoutMs: CLOSE_TIMEOUT_MS });
    }
  }
}

function listenerOf(
  of: ListenerParts,
  signal: AbortSignal,
  onOnline: () => void,
): HybridConnectionListener {
  const { origin, relayPath, way, access, requests, status, clock, log } = of;
  const { transport, proxy, ca } = way;
  const listener = new HybridConnectionListener(
    {
      endpoint: origin,
      path: relayPath,
      clock,
      tokenProvider: { getToken: () => access.listenToken() },
      ...(transport === undefined ? {} : { transport }),
      ...(proxy === undefined ? {} : { proxy }),
      ...(ca === undefined ? {} : { ca }),
    },
    {
      onRequest: request => requests.answer(request),
      onConnection: offer => connect(offer, relayPath),
    },
  );
  status.channel('connecting');
  listener.on('transport', name => {
    status.channel('online', name);
    log.info({ transport: name, relayPath }, 'listening through the relay');
    onOnline();
    of.onChange();
  });
  listener.on('online', name => {
    status.channel('online', name);
    onOnline();
    of.onChange();
  });
  listener.on('offline', why => {
    if (signal.aborted) return;
    status.channel('offline');
    status.error('channel', why.message);
    log.warn({ why: why.message }, 'relay lost');
    // The machine may have been deleted: then hello is told so.
    of.onChange();
  });
  listener.on('reconnecting', ({ delayMs, why, failures }) => {
    log.info({ delayMs, failures, why: why.message }, 'connecting to the relay again');
  });
  listener.on('error', error => {
    // A sender that has gone is none of ours.
    const isGone = error instanceof RelayError && error.status !== undefined;
    if (isGone) log.debug({ why: error.message }, 'a sender has gone');
    else log.error({ err: error }, 'request of the relay failed');
  });
  return listener;
}

/** `echo` sends back what comes, to try the way; there is nothing else to connect to. */
async function connect(offer: SenderOffer, relayPath: string): Promise<void> {
  const [path = ''] = offer.target.split('?');
  if (path.toLowerCase() !== `/${relayPath}/echo`.toLowerCase()) {
    await offer.reject(404, 'The machine has nothing to connect to there');
    return;
  }
  const channel = await offer.acceptChannel();
  channel.receive({
    fragment: (opcode, fin, payload) => {
      if (!channel.send(opcode, fin, payload)) channel.pause();
    },
    drained: () => channel.resume(),
    closed: (code, reason) => channel.close(code, reason),
    gone: () => undefined,
  });
}
