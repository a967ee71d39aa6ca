import { isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument, type Node } from 'yaml';

/** Keys and indexes from the top of the file to a value. */
export type DocumentPath = readonly (string | number)[];

/** A parsed config file that still knows where each value stands. */
export interface ConfigDocument {
  /** Plain objects, arrays, strings, numbers, booleans and null; undefined for an empty file. */
  readonly value: unknown;
  /** `halfway.yaml:12:5: namespaces[0].name`: the place of a value, or of the nearest thing around it. */
  where(path: DocumentPath): string;
}

/** Ten thousand hybrid connections with rules of their own take about 8 MB. */
const FILE_CHARS_MAX = 32 * 1024 * 1024;
/** Bounds what aliases can blow up (the yaml package counts uses times size); real files reuse a rule often. */
const ALIASES_MAX = 20_000;
/** One wrong bracket can make an error of every line after it. */
const ERRORS_MAX = 10;

/** Parses YAML, of which JSON is a part. Never throws, whatever the text. */
export function parseConfigDocument(
  name: string,
  text: string,
): { readonly document: ConfigDocument } | { readonly faults: readonly string[] } {
  if (text.length > FILE_CHARS_MAX) {
    return { faults: [`${name}: must not have more than ${FILE_CHARS_MAX} characters`] };
  }
  try {
    return parse(name, text);
  } catch (error) {
    // Too many aliases, or nesting deeper than the stack.
    return { faults: [`${name}: cannot be read: ${messageOf(error)}`] };
  }
}

function parse(name: string, text: string): ReturnType<typeof parseConfigDocument> {
  const lines = new LineCounter();
  const yaml = parseDocument(text, { lineCounter: lines, prettyErrors: false, logLevel: 'silent' });
  const placeOf = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${name}:${line}:${col}`;
  };
  if (yaml.errors.length > 0) {
    // The message of a YAML error may quote the line, and the line may hold a key; the first sentence does not.
    const errors = yaml.errors.slice(0, ERRORS_MAX);
    return { faults: errors.map(error => `${placeOf(error.pos[0])}: ${sentence(error)}`) };
  }
  const value: unknown = yaml.toJS({ maxAliasCount: ALIASES_MAX });
  const resolve = (node: unknown): unknown => (isAlias(node) ? node.resolve(yaml) : node);
  return {
    document: {
      value: value ?? undefined,
      where: path => {
        const offset = offsetOf(yaml.contents, path, resolve);
        return `${offset === undefined ? name : placeOf(offset)}: ${formatPath(path)}`;
      },
    },
  };
}

/** `namespaces[0].hybridConnections[2].name` */
export function formatPath(path: DocumentPath): string {
  return path
    .map((part, index) => {
      if (typeof part === 'number') return `[${part}]`;
      return index === 0 ? part : `.${part}`;
    })
    .join('');
}

/** Offset of the key that `path` ends with, or of the list item; of what is around it when it is absent. */
function offsetOf(
  contents: Node | null,
  path: DocumentPath,
  resolve: (node: unknown) => unknown,
): number | undefined {
  let node: unknown = contents;
  let offset = startOf(node);
  for (const part of path) {
    node = resolve(node);
    if (isMap(node)) {
      const pair = node.items.find(item => isScalar(item.key) && String(item.key.value) === part);
      if (pair === undefined) return offset;
      offset = startOf(pair.key) ?? offset;
      node = pair.value;
    } else if (isSeq(node) && typeof part === 'number') {
      node = node.items[part];
      offset = startOf(node) ?? offset;
    } else {
      return offset;
    }
  }
  return offset;
}

function startOf(node: unknown): number | undefined {
  const isPlaced = isScalar(node) || isMap(node) || isSeq(node) || isAlias(node);
  return isPlaced ? node.range?.[0] : undefined;
}

function sentence(error: Error): string {
  return error.message.split('\n', 1)[0] ?? error.name;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? sentence(error) : String(error);
}
