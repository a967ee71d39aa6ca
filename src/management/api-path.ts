import { percentDecode } from '../protocol/uri-text.ts';

/** A namespace, or one hybrid connection of it: what rules belong to. */
export interface Level {
  readonly namespace: string;
  readonly hybridConnection?: string;
}

/** What a path of the management API names. Whether it exists, or could, is not looked at. */
export type ApiTarget =
  | { readonly kind: 'namespaces' }
  | { readonly kind: 'namespace'; readonly level: Level }
  | { readonly kind: 'hybridConnections'; readonly level: Level }
  | { readonly kind: 'hybridConnection'; readonly level: Level; readonly name: string }
  | { readonly kind: 'rules'; readonly level: Level }
  | {
      readonly kind: 'rule' | 'listKeys' | 'regenerateKeys';
      readonly level: Level;
      readonly rule: string;
    };

/**
 * Parses `/api/namespaces/{ns}/hybridConnections/{name}/authorizationRules/{rule}/listKeys` and its parts, without the
 * query. A name is one segment: its slashes are written `%2F`, or `~` as in Azure's own paths, since no name can hold
 * a `~`. So what follows a name can never be taken for a part of it.
 */
export function parseApiPath(path: string): ApiTarget | undefined {
  const [root, namespaces, ...rest] = path.replace(/^\//, '').split('/');
  if (!is(root, 'api') || !is(namespaces, 'namespaces')) return undefined;
  const segments = rest.map(decoded);
  if (!segments.every(segment => segment !== undefined)) return undefined;
  const [namespace, collection, name, ...more] = segments;
  if (namespace === undefined) return { kind: 'namespaces' };
  const level = { namespace };
  if (collection === undefined) return { kind: 'namespace', level };
  if (!is(collection, 'hybridConnections')) return ruleTarget(level, segments.slice(1));
  if (name === undefined) return { kind: 'hybridConnections', level };
  const hybridConnection = name.replaceAll('~', '/');
  if (more.length > 0) return ruleTarget({ namespace, hybridConnection }, more);
  return { kind: 'hybridConnection', level, name: hybridConnection };
}

function ruleTarget(level: Level, segments: readonly string[]): ApiTarget | undefined {
  const [collection, rule, action, ...more] = segments;
  if (!is(collection, 'authorizationRules') || more.length > 0) return undefined;
  if (rule === undefined) return { kind: 'rules', level };
  if (action === undefined) return { kind: 'rule', level, rule };
  if (is(action, 'listKeys')) return { kind: 'listKeys', level, rule };
  return is(action, 'regenerateKeys') ? { kind: 'regenerateKeys', level, rule } : undefined;
}

/** The path of a resource: its `id`. */
export function formatApiPath({ namespace, hybridConnection }: Level, rule?: string): string {
  const entity =
    hybridConnection === undefined
      ? ''
      : `/hybridConnections/${encodeURIComponent(hybridConnection)}`;
  const below = rule === undefined ? '' : `/authorizationRules/${encodeURIComponent(rule)}`;
  return `/api/namespaces/${encodeURIComponent(namespace)}${entity}${below}`;
}

/** Undefined for empty segments and broken escapes. */
function decoded(segment: string): string | undefined {
  const text = percentDecode(segment);
  return text === '' ? undefined : text;
}

/** Words of paths are compared without regard to case, as Azure does. */
function is(segment: string | undefined, word: string): boolean {
  return segment?.toLowerCase() === word.toLowerCase();
}
