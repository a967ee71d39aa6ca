import { quote } from '../base/show.ts';
import { sameName } from '../protocol/resource-rules.ts';
import type { Config, OptionName } from './options.ts';
import { isLoopback } from './parsers.ts';

/**
 * What single options cannot know of each other. Says nothing about options that are `faulty` by themselves: a value
 * that could not be read is not a value that is missing.
 */
export function checkTogether(
  config: Config,
  purpose: 'serve' | 'dev' | 'inspect',
  faulty: ReadonlySet<OptionName>,
): string[] {
  const faults = tlsFaults(config, faulty);
  if (purpose === 'inspect') return faults;
  if (
    !isLoopback(config.adminHost) &&
    config.adminToken === undefined &&
    !faulty.has('adminToken')
  ) {
    faults.push(
      `adminToken must be given, because others can reach the admin host ${quote(config.adminHost)}: ` +
        'set HALFWAY_ADMIN_TOKEN, HALFWAY_ADMIN_TOKEN_FILE or --admin-token-file',
    );
  }
  const total = config.namespaces.reduce((sum, each) => sum + each.hybridConnections.length, 0);
  if (total > config.hybridConnectionsMax) {
    faults.push(
      `namespaces must not hold more than ${config.hybridConnectionsMax} hybrid connections ` +
        `(hybridConnectionsMax), got ${total}`,
    );
  }
  faults.push(...meshFaults(config, faulty), ...dispatchFaults(config, purpose, faulty));
  if (purpose === 'serve' && config.autoCreate) {
    faults.push('autoCreate must be false here: only `halfway dev` creates by itself');
  }
  if (purpose === 'serve' && config.namespaces.length === 0) faults.push(NO_NAMESPACE);
  return faults;
}

function tlsFaults(config: Config, faulty: ReadonlySet<OptionName>): string[] {
  const hasBoth = (config.tlsCert === undefined) === (config.tlsKey === undefined);
  if (hasBoth || faulty.has('tlsCert') || faulty.has('tlsKey')) return [];
  const missing = config.tlsCert === undefined ? 'tlsCert' : 'tlsKey';
  return [`${missing} must be given too: TLS needs a certificate (tlsCert) and its key (tlsKey)`];
}

/** Characters that a mesh secret must have: it is all that keeps strangers out of the mesh. */
const MESH_SECRET_CHARS_MIN = 32;

function meshFaults(config: Config, faulty: ReadonlySet<OptionName>): string[] {
  if (config.redis === undefined) return [];
  const { meshCert, meshKey, meshCa, meshSecret } = config;
  const files = [meshCert, meshKey, meshCa].filter(file => file !== undefined).length;
  const faults: string[] = [];
  if (files !== 0 && files !== 3) {
    faults.push('meshCert, meshKey and meshCa must be given together, or none of them');
  }
  if (files === 0 && meshSecret === undefined && !faulty.has('meshSecret')) {
    faults.push(
      'meshSecret must be given, because redis makes this node speak to others: set ' +
        'HALFWAY_MESH_SECRET, HALFWAY_MESH_SECRET_FILE or --mesh-secret-file, the same on all nodes ' +
        '(or give certificates: meshCert, meshKey and meshCa)',
    );
  }
  if (meshSecret !== undefined && meshSecret.length < MESH_SECRET_CHARS_MIN) {
    faults.push(`meshSecret must have at least ${MESH_SECRET_CHARS_MIN} characters`);
  }
  return faults;
}

function dispatchFaults(
  config: Config,
  purpose: 'serve' | 'dev',
  faulty: ReadonlySet<OptionName>,
): string[] {
  const { dispatch, dispatchNamespace, namespaces, redis, data, workers, portalHost } = config;
  if (!dispatch) {
    const isPointless = portalHost.length > 0 && !faulty.has('dispatch');
    return isPointless ? ['portalHost needs dispatch: without it there is no web portal'] : [];
  }
  const faults = portalHostFaults(config);
  if (redis === undefined && workers !== 1 && !faulty.has('workers') && !faulty.has('redis')) {
    faults.push(
      'workers must be 1 with dispatch, because its records are kept by one process: leave workers away, ' +
        'keep the records in Redis (redis), or switch dispatch off (--no-dispatch)',
    );
  }
  const isKept = redis !== undefined || data !== undefined || faulty.has('data');
  if (purpose === 'serve' && !isKept && !faulty.has('redis')) {
    faults.push(
      'data must be given, because dispatch promises that what it has accepted is not lost: ' +
        'give a folder (--data DIR), or keep the records in Redis (redis)',
    );
  }
  const isThere =
    dispatchNamespace === undefined ||
    namespaces.length === 0 ||
    namespaces.some(({ name }) => sameName(name, dispatchNamespace));
  if (!isThere) {
    faults.push(`dispatchNamespace must be one of the namespaces, got ${quote(dispatchNamespace)}`);
  }
  return faults;
}

/** Nothing is relayed at a host of the portal, so nobody may be sent there for that. */
function portalHostFaults({ portalHost, namespaces, publicUrl, nodeUrl }: Config): string[] {
  const relaying = [
    ...namespaces.flatMap(({ name, hosts }) =>
      hosts.map(host => ({ host, of: `namespace ${quote(name)}` })),
    ),
    ...Object.entries({ publicUrl, nodeUrl }).flatMap(([of, url]) =>
      url === undefined ? [] : [{ host: new URL(url).hostname, of }],
    ),
  ];
  return relaying
    .filter(({ host }) => portalHost.includes(host.toLowerCase().replace(/\.$/, '')))
    .map(
      ({ host, of }) =>
        `portalHost must be a name of its own, because nothing is relayed there; ${quote(host)} is that of ${of}`,
    );
}

/** What works and should still be known before it is used. Of a configuration without faults. */
export function warningsTogether(config: Config, purpose: 'serve' | 'dev' | 'inspect'): string[] {
  if (purpose !== 'serve' || !config.dispatch) return [];
  const { portalHost, host, publicUrl, dispatchNamespace, namespaces } = config;
  if (portalHost.length === 0) {
    return isLoopback(host)
      ? []
      : [
          'The web portal shares its origin with all that listeners serve: a page of theirs can read what the portal ' +
            'keeps in a browser, API tokens too. Give the portal a host name of its own: --portal-host NAME (portalHost)',
        ];
  }
  const home =
    dispatchNamespace === undefined
      ? namespaces[0]
      : namespaces.find(({ name }) => sameName(name, dispatchNamespace));
  if (publicUrl !== undefined || (home !== undefined && home.hosts.length > 0)) return [];
  return [
    'The web portal cannot tell where machines are to register, because nothing is relayed at the hosts of portalHost: ' +
      'give publicUrl, or hosts for the namespace of the machines',
  ];
}

const NO_NAMESPACE = `namespaces must hold at least one namespace. Give --config FILE with, for example:

    namespaces:
      - name: production
        authorizationRules:
          - { name: listen, rights: [Listen], primaryKeyFile: listen.key }
          - { name: send, rights: [Send], primaryKeyFile: send.key }
        hybridConnections:
          - name: orders

  To try Halfway without a file, run \`halfway dev\`.`;
