import type { TemplatedApp } from 'uWebSockets.js';
import { createApi } from './api/api.ts';
import type { PublicInfo } from './api/ports.ts';
import type { CancelTimer, Clock } from './base/clock.ts';
import type { Logger } from './base/logger.ts';
import { StartError } from './config/errors.ts';
import type { Config } from './config/options.ts';
import { ControlPlane } from './dispatch/control-plane.ts';
import { Problem } from './dispatch/problem.ts';
import { COMMON_PARTITION } from './dispatch/records.ts';
import type { RunTimeConfiguration } from './management/run-time-configuration.ts';
import type { ListenerObserver } from './relay/events.ts';
import { hostNameOf, type Namespace, type NamespaceTable } from './relay/namespaces.ts';
import type { Meter, Randomness } from './relay/ports.ts';
import type { Relay } from './relay/relay.ts';
import { httpsCallbacks } from './server-callbacks.ts';
import { meteredApi, meteredStore } from './server-dispatch-meters.ts';
import type { DispatchGauges } from './server-dispatch-metrics.ts';
import { watchPresence } from './server-dispatch-presence.ts';
import { MachinePaths } from './server-dispatch-relay.ts';
import { DispatchSampler } from './server-dispatch-sample.ts';
import { RelayMachineSender } from './server-dispatch-sender.ts';
import { openDispatchStore } from './server-dispatch-store.ts';
import { StoreError } from './store/relay-store.ts';
import { addApiRoutes, type ApiRoutesOptions, type ApiTraffic } from './transports/api-routes.ts';
import { isHostOf, type PortalGuard } from './transports/portal-guard.ts';
import { addPortalRoutes, loadPortal } from './transports/portal-routes.ts';
import { VERSION } from './version.ts';

export interface DispatchParts {
  readonly clock: Clock;
  readonly log: Logger;
  readonly random: Randomness;
  readonly meter: Meter;
  readonly namespaces: NamespaceTable;
  readonly configuration: RunTimeConfiguration;
  readonly relay: Relay;
  /** Of the built web portal, in place of the program's own. */
  readonly portalFolder?: string | undefined;
}

/** Job dispatch as a part of this server. */
export interface OpenDispatch {
  readonly plane: ControlPlane;
  /** Adds its routes to the public port. */
  mount(app: TemplatedApp, options: Omit<ApiRoutesOptions, 'handle' | 'clock'>): void;
  readonly onListener: ListenerObserver;
  /** Undefined: there is no web portal, and no host is kept for one. */
  readonly portalGuard: PortalGuard | undefined;
  /** Begins to dispatch; `publicPort` is where clients reach this server. */
  start(publicPort: number): Promise<void>;
  /** Dispatches nothing from here on; what is under way goes on. Other nodes take over. */
  drain(): void;
  /** Answers requests that are held: those who wait go on at another node. */
  release(): void;
  gauges(): DispatchGauges;
  degradedReasons(): readonly string[];
  /** At once: waits for no machine and no client. */
  close(): Promise<void>;
}

/** There from the first start, so that nobody has to begin with making one. */
const FIRST_ENVIRONMENT = 'default';
/** How often a store that is away is tried for what is still to be done at the start. */
const START_RETRY_MS = 2_000;
/** How often a shared store is asked whether it keeps what it takes: another server may have taken over. */
const DURABILITY_CHECK_MS = 60_000;
/** How long an end waits for what is being written; whatever is left, other nodes or the next start find. */
const CLOSE_MS_MAX = 5_000;
/** A host that no namespace names. */
const NO_HOST = 'dispatch.invalid';

/** Builds job dispatch over this node's relay. Rejects with `StartError`. */
export async function openDispatch(config: Config, parts: DispatchParts): Promise<OpenDispatch> {
  const { clock, log, random, meter, configuration, namespaces, relay } = parts;
  const namespace = homeOf(config, namespaces);
  const opened = await openDispatchStore(config, clock);
  const store = meteredStore(opened.store, meter);
  const paths = new MachinePaths({
    configuration,
    namespaces,
    namespace,
    clock,
    hybridConnectionsMax: config.hybridConnectionsMax,
    newRevision: () => random.uuid(),
  });
  const host = namespace.hosts[0] ?? NO_HOST;
  const sender = new RelayMachineSender({ relay, tokens: paths, clock, log, host });
  const plane = new ControlPlane({
    store,
    clock,
    log,
    random: () => random.below(RANDOM_STEPS) / RANDOM_STEPS,
    sender,
    endpoints: paths,
    relayTokens: paths,
    bootstrapToken: config.apiToken,
    callbackSender: httpsCallbacks({ clock }),
    onOffer: (outcome, waitedMs) => {
      meter.count('halfway_dispatch_offers_total', { outcome });
      if (outcome === 'accepted') {
        meter.observe('halfway_dispatch_latency_seconds', Math.max(0, waitedMs) / 1_000, {});
      }
    },
  });
  let publicPort = 0;
  const api = createApi({
    controlPlane: plane,
    store,
    clock,
    log,
    publicInfo: requestHost => publicInfoOf(config, namespace, { requestHost, publicPort }),
    echo: sender,
    version: VERSION,
  });
  const handle = meteredApi(api.handle, clock, meter);
  const portal = loadPortal(parts.portalFolder);
  let traffic: ApiTraffic | undefined;
  const sampler = new DispatchSampler(store, clock, log);
  const presence = watchPresence({ plane, namespace: namespace.name, clock, log });
  let isClosed = false;
  let cancelLater: CancelTimer | undefined;

  /** Again until it succeeds, for a store that is away. */
  const persist = async (what: string, task: () => Promise<void>): Promise<void> => {
    try {
      await task();
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      if (isClosed) return;
      log.warn({ err: error }, `${what}: trying again`);
      await new Promise<void>(resolve => void clock.after(START_RETRY_MS, resolve));
      if (!isClosed) await persist(what, task);
    }
  };
  const checkDurability = async (): Promise<void> => {
    try {
      await opened.askDurability();
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      log.debug({ err: error }, 'store of dispatch cannot be asked how it keeps records');
    }
    if (!isClosed) cancelLater = clock.after(DURABILITY_CHECK_MS, () => void checkDurability());
  };
  const prepare = async (): Promise<void> => {
    await persist('records of dispatch cannot be read', async () => {
      await makeFirstEnvironment(plane);
      if (config.apiToken === undefined) await sayHowToBegin(store, log);
    });
  };

  return {
    plane,
    mount: (app, options) => {
      traffic = addApiRoutes(app, { ...options, handle, clock });
      if (portal === undefined) log.warn({}, 'the web portal was not built: there is none');
      else addPortalRoutes(app, portal, config.portalHost);
    },
    onListener: presence.onListener,
    portalGuard:
      portal === undefined && config.portalHost.length === 0
        ? undefined
        : { hosts: config.portalHost },
    async start(port) {
      publicPort = port;
      await checkDurability();
      const { shown, durability } = store;
      // Whoever keeps records in memory has chosen that.
      if (store.isShared && durability !== '') {
        log.warn({ store: shown, detail: durability }, 'records of dispatch can be lost');
      }
      const prepared = prepare();
      // A shared store may be away for long, and the relay is needed meanwhile.
      if (!store.isShared) await prepared;
      else
        prepared.catch((error: unknown) => log.error({ err: error }, 'dispatch is not prepared'));
      await plane.dispatcher.start();
      log.info({ store: shown, detail: durability, namespace: namespace.name }, 'dispatching jobs');
    },
    drain() {
      plane.dispatcher
        .stop()
        .catch((error: unknown) => log.error({ err: error }, 'dispatch did not stop'));
    },
    release: () => api.close(),
    gauges: () => ({
      sample: sampler.latest(),
      waiters: api.waiting,
      traffic,
      isDurable: store.durability === '',
    }),
    degradedReasons() {
      return store.isShared && store.durability !== '' ? [`dispatch: ${store.durability}`] : [];
    },
    async close() {
      if (isClosed) return;
      isClosed = true;
      cancelLater?.();
      presence.stop();
      api.close();
      const stopped = plane.dispatcher.stop();
      sender.close();
      await atMost(CLOSE_MS_MAX, Promise.all([stopped, sampler.stop()]), clock);
      await opened.close();
    },
  };
}

/** Resolves with the promise, or when the time is over. */
async function atMost(ms: number, promise: Promise<unknown>, clock: Clock): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const cancel = clock.after(ms, resolve);
    promise.finally(cancel).then(() => resolve(), reject);
  });
}

const RANDOM_STEPS = 2 ** 32;

function homeOf({ dispatchNamespace }: Config, namespaces: NamespaceTable): Namespace {
  const [first] = namespaces.all;
  const found = dispatchNamespace === undefined ? first : namespaces.named(dispatchNamespace);
  if (found !== undefined) return found;
  throw new StartError(
    dispatchNamespace === undefined
      ? 'Job dispatch needs a namespace for its machines: give one in the config file'
      : `There is no namespace "${dispatchNamespace}" for the machines: see --dispatch-namespace`,
  );
}

/** Where clients reach it: by the public URL; else by a host of the namespace, or as they have just done. */
function publicInfoOf(
  { publicUrl, relaySuffix, publishedAddresses, portalHost }: Config,
  namespace: Namespace,
  now: { readonly requestHost: string; readonly publicPort: number },
): PublicInfo {
  const given = publicUrl === undefined ? undefined : new URL(publicUrl.replace(/^ws/, 'http'));
  const host = given?.hostname ?? namespace.hosts[0] ?? hostNameOf(now.requestHost);
  const defaultPort = given?.protocol === 'https:' ? 443 : 80;
  const port = given === undefined ? now.publicPort : Number(given.port || defaultPort);
  const info = { relaySuffix: relaySuffix ?? host, host, ports: [port] };
  const addresses = publishedAddresses;
  const [home] = namespace.hosts;
  // The server is asked at a host that machines cannot use: it names one, with the port that was good for asking.
  const sentPort = /:\d+$/.exec(now.requestHost)?.[0] ?? '';
  const machineHost = given?.host ?? (home === undefined ? undefined : home + sentPort);
  const isOfPortal = isHostOf(portalHost, now.requestHost);
  if (!isOfPortal || machineHost === undefined) return { ...info, addresses };
  return { ...info, addresses, machineHost };
}

async function makeFirstEnvironment({ environments }: ControlPlane): Promise<void> {
  if ((await environments.find(FIRST_ENVIRONMENT)) !== undefined) return;
  try {
    await environments.create(SERVER, { id: FIRST_ENVIRONMENT });
  } catch (error) {
    // Another node was faster.
    if (!(error instanceof Problem) || error.code !== 'VersionConflict') throw error;
  }
}

const SERVER = { name: 'token:bootstrap', isAdmin: true };

async function sayHowToBegin(store: ReturnType<typeof meteredStore>, log: Logger): Promise<void> {
  if ((await store.count(COMMON_PARTITION, 'tokens')) > 0) return;
  log.warn(
    {
      detail:
        'Put at least 32 random characters in a file (openssl rand -base64 32), name it with ' +
        'HALFWAY_API_TOKEN_FILE or --api-token-file, and start again: whoever has them is the first administrator',
    },
    'there is no API token, so nobody can use job dispatch',
  );
}
