import { quote, show } from '../base/show.ts';
import { ENTITY_NAME_FORM, USER_METADATA_CHARS_MAX } from '../protocol/resource-rules.ts';
import type { HybridConnectionDescription, NamespaceDescription } from '../protocol/resources.ts';
import { isEntityName } from '../protocol/request-path.ts';
import { readRules } from './authorization-rules.ts';
import type { DocumentPath } from './document.ts';
import { fieldsAt, listAt, nameAt, optionalListAt, reportTwice } from './fields.ts';
import type { Reading } from './fields.ts';
import { isHostName, NAMESPACE_NAME_FORM, namespaceName } from './parsers.ts';

const NAMESPACE_KEYS = ['name', 'hosts', 'authorizationRules', 'hybridConnections'];
const HYBRID_CONNECTION_KEYS = [
  'name',
  'requiresClientAuthorization',
  'userMetadata',
  'authorizationRules',
];
const NO_NAMESPACE: NamespaceDescription = {
  name: '',
  hosts: [],
  authorizationRules: [],
  hybridConnections: [],
};
const NO_HYBRID_CONNECTION: HybridConnectionDescription = {
  name: '',
  requiresClientAuthorization: true,
  userMetadata: '',
  authorizationRules: [],
};

/**
 * Reads the `namespaces` of a config file and reports every fault there is. What is returned may be used only when
 * nothing was reported: faulty parts are left out or empty.
 */
export function readNamespaces(value: unknown, reading: Reading): NamespaceDescription[] {
  const path = ['namespaces'];
  const namespaces = listAt(value, path, reading).map((item, index) =>
    readNamespace(item, [...path, index], reading),
  );
  reportTwice(namespaces, path, reading);
  reportSharedHosts(namespaces, path, reading);
  return namespaces;
}

function readNamespace(value: unknown, path: DocumentPath, reading: Reading): NamespaceDescription {
  const fields = fieldsAt(value, path, NAMESPACE_KEYS, reading);
  if (fields === undefined) return NO_NAMESPACE;
  const name = nameAt(fields, path, reading, {
    isValid: text => 'value' in namespaceName(text),
    rule: NAMESPACE_NAME_FORM,
  });
  const hosts = optionalListAt(fields, 'hosts', path, reading).map((host, index) => {
    if (typeof host === 'string' && isHostName(host)) return host.toLowerCase();
    const fault = `must be a host name without scheme and port, got ${show(host)}`;
    reading.report([...path, 'hosts', index], fault);
    return '';
  });
  const connectionsPath = [...path, 'hybridConnections'];
  const hybridConnections = optionalListAt(fields, 'hybridConnections', path, reading).map(
    (item, index) => readHybridConnection(item, [...connectionsPath, index], reading),
  );
  reportTwice(hybridConnections, connectionsPath, reading);
  return { name, hosts, authorizationRules: readRules(fields, path, reading), hybridConnections };
}

function readHybridConnection(
  value: unknown,
  path: DocumentPath,
  reading: Reading,
): HybridConnectionDescription {
  const fields = fieldsAt(value, path, HYBRID_CONNECTION_KEYS, reading);
  if (fields === undefined) return NO_HYBRID_CONNECTION;
  const name = nameAt(fields, path, reading, {
    isValid: isEntityName,
    rule: ENTITY_NAME_FORM,
  });
  const needsToken = fields['requiresClientAuthorization'] ?? true;
  if (typeof needsToken !== 'boolean') {
    const fault = `must be true or false, got ${show(needsToken)}`;
    reading.report([...path, 'requiresClientAuthorization'], fault);
  }
  const userMetadata = fields['userMetadata'] ?? '';
  if (typeof userMetadata !== 'string' || userMetadata.length > USER_METADATA_CHARS_MAX) {
    const fault = `must be a text of at most ${USER_METADATA_CHARS_MAX} characters`;
    reading.report([...path, 'userMetadata'], fault);
  }
  return {
    name,
    requiresClientAuthorization: needsToken !== false,
    userMetadata: typeof userMetadata === 'string' ? userMetadata : '',
    authorizationRules: readRules(fields, path, reading),
  };
}

/** A Host must lead to one namespace, and so must a Host that nobody names. */
function reportSharedHosts(
  namespaces: readonly NamespaceDescription[],
  path: DocumentPath,
  reading: Reading,
): void {
  const firstByHost = new Map<string, number>();
  for (const [index, namespace] of namespaces.entries()) {
    if (namespace === NO_NAMESPACE || namespace.hosts.includes('')) continue;
    const { hosts } = namespace;
    for (const [hostIndex, host] of (hosts.length === 0 ? [''] : hosts).entries()) {
      const first = firstByHost.get(host);
      if (first === undefined) {
        firstByHost.set(host, index);
        continue;
      }
      const place = [...path, index, 'hosts'];
      if (host === '') {
        const fault = `must name hosts: item [${first}] answers to every other Host already`;
        reading.report(place, fault);
      } else {
        reading.report([...place, hostIndex], `is taken by item [${first}]: ${quote(host)}`);
      }
    }
  }
}
