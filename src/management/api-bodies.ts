import { show } from '../base/show.ts';
import { checkRights, KEY_CHARS_MAX, USER_METADATA_CHARS_MAX } from '../protocol/resource-rules.ts';
import type { Right } from '../protocol/resources.ts';
import type { ApiFault } from './api-answers.ts';

// Bodies of requests. Each reader reports every fault there is; what it returns may be used only when there was none.

type Read<Value> = { readonly value: Value; readonly faults: readonly ApiFault[] };
type Fields = Readonly<Record<string, unknown>>;

/** What answers hold and requests may repeat: it is for the server to say. */
const READ_ONLY = ['id', 'name', 'type', 'location', 'etag', 'systemData'];
const READ_ONLY_PROPERTIES = ['createdAt', 'updatedAt', 'listenerCount', 'definedBy'];

export interface HybridConnectionBody {
  readonly requiresClientAuthorization: boolean;
  readonly userMetadata: string;
}

/** `{"properties":{"requiresClientAuthorization":true,"userMetadata":""}}`; what is left out has its default. */
export function readHybridConnectionBody(text: string): Read<HybridConnectionBody> {
  const faults: ApiFault[] = [];
  const properties = propertiesOf(text, ['requiresClientAuthorization', 'userMetadata'], faults);
  const { requiresClientAuthorization = true, userMetadata = '' } = properties;
  if (typeof requiresClientAuthorization !== 'boolean') {
    faults.push({
      target: 'properties.requiresClientAuthorization',
      message: `must be true or false, got ${show(requiresClientAuthorization)}`,
    });
  }
  const isText = typeof userMetadata === 'string' && userMetadata.length <= USER_METADATA_CHARS_MAX;
  if (!isText) {
    faults.push({
      target: 'properties.userMetadata',
      message: `must be a text of at most ${USER_METADATA_CHARS_MAX} characters`,
    });
  }
  return {
    value: {
      requiresClientAuthorization: requiresClientAuthorization !== false,
      userMetadata: isText ? userMetadata : '',
    },
    faults,
  };
}

export interface RuleBody {
  readonly rights: readonly Right[];
  readonly primaryKey?: string;
  readonly secondaryKey?: string;
}

/** `{"properties":{"rights":["Listen"]}}`, with keys of one's own if they are to be known beforehand. */
export function readRuleBody(text: string): Read<RuleBody> {
  const faults: ApiFault[] = [];
  const properties = propertiesOf(text, ['rights', 'primaryKey', 'secondaryKey'], faults);
  const given = properties['rights'];
  const checked = Array.isArray(given) ? checkRights(given) : { rights: [], faults: [] };
  if (!Array.isArray(given)) {
    faults.push({ target: 'properties.rights', message: `must be a list, got ${show(given)}` });
  }
  for (const { index, fault } of checked.faults) {
    const place = index === undefined ? '' : `[${index}]`;
    faults.push({ target: `properties.rights${place}`, message: fault });
  }
  const primaryKey = keyAt(properties, 'primaryKey', 'properties.primaryKey', faults);
  const secondaryKey = keyAt(properties, 'secondaryKey', 'properties.secondaryKey', faults);
  return {
    value: {
      rights: checked.rights,
      ...(primaryKey === undefined ? {} : { primaryKey }),
      ...(secondaryKey === undefined ? {} : { secondaryKey }),
    },
    faults,
  };
}

export interface RegenerateBody {
  readonly keyType: 'primaryKey' | 'secondaryKey';
  /** Undefined: a random one is to be made. */
  readonly key?: string;
}

/** `{"keyType":"PrimaryKey"}` or `"SecondaryKey"`, with `"key"` to say which. */
export function readRegenerateBody(text: string): Read<RegenerateBody> {
  const faults: ApiFault[] = [];
  const fields = objectOf(text, faults);
  reportUnknown(fields, ['keyType', 'key'], '', faults);
  const keyType = fields['keyType'];
  if (keyType !== 'PrimaryKey' && keyType !== 'SecondaryKey') {
    const message = `must be "PrimaryKey" or "SecondaryKey", got ${show(keyType)}`;
    faults.push({ target: 'keyType', message });
  }
  const key = keyAt(fields, 'key', 'key', faults);
  return {
    value: {
      keyType: keyType === 'SecondaryKey' ? 'secondaryKey' : 'primaryKey',
      ...(key === undefined ? {} : { key }),
    },
    faults,
  };
}

function propertiesOf(text: string, known: readonly string[], faults: ApiFault[]): Fields {
  const fields = objectOf(text, faults);
  reportUnknown(fields, ['properties', ...READ_ONLY], '', faults);
  const properties = fields['properties'] ?? {};
  if (!isObject(properties)) {
    const message = `must be an object, got ${show(properties)}`;
    faults.push({ target: 'properties', message });
    return {};
  }
  reportUnknown(properties, [...known, ...READ_ONLY_PROPERTIES], 'properties.', faults);
  return properties;
}

/** An empty text stands for an empty object. */
function objectOf(text: string, faults: ApiFault[]): Fields {
  if (text.trim() === '') return {};
  try {
    const value: unknown = JSON.parse(text);
    if (isObject(value)) return value;
    faults.push({ target: 'body', message: `must be a JSON object, got ${show(value)}` });
  } catch {
    // The parser's own message quotes the text, which may hold a key.
    faults.push({ target: 'body', message: 'must be JSON' });
  }
  return {};
}

function reportUnknown(
  fields: Fields,
  known: readonly string[],
  prefix: string,
  faults: ApiFault[],
): void {
  for (const name of Object.keys(fields).filter(key => !known.includes(key))) {
    const message = `is not a key we know; known here: ${known.join(', ')}`;
    faults.push({ target: `${prefix}${name.slice(0, 80)}`, message });
  }
}

/** Faults never show a key. */
function keyAt(
  fields: Fields,
  name: string,
  target: string,
  faults: ApiFault[],
): string | undefined {
  const key = fields[name];
  if (key === undefined || key === null) return undefined;
  // What a connection string could not hold would be of no use to clients.
  if (typeof key === 'string' && key.length <= KEY_CHARS_MAX && /^[\x21-\x3a\x3c-\x7e]+$/.test(key))
    return key;
  faults.push({
    target,
    message: `must be 1 to ${KEY_CHARS_MAX} printable ASCII characters without spaces and ";"`,
  });
  return undefined;
}

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
