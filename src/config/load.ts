import { dirname, resolve } from 'node:path';
import { assert } from '../base/assert.ts';
import type { NamespaceDescription } from '../protocol/resources.ts';
import { checkTogether, warningsTogether } from './checks.ts';
import { parseConfigDocument, type ConfigDocument, type DocumentPath } from './document.ts';
import { readNamespaces } from './namespaces.ts';
import { DEV_DEFAULTS, isOptionName, optionList, OPTIONS } from './options.ts';
import type { Config, NamedOption, OptionName, OptionValues } from './options.ts';
import { filePath } from './parsers.ts';
import { foreignVariable } from './variables.ts';

export interface ConfigSources {
  /**
   * What the result is for. `serve` and `dev` check everything (`serve` needs a namespace, `dev` brings its own);
   * `inspect` only reads the options, for commands that ask a running server.
   */
  readonly purpose: 'serve' | 'dev' | 'inspect';
  /** Values of flags by option name; of secrets the path of their file. */
  readonly flags: Readonly<Partial<Record<OptionName, string | boolean | undefined>>>;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The text of a file. Throws when it cannot be read. */
  readonly readFile: (path: string) => string;
  /** This machine's name, from which a node gets its name unless it is given one. */
  readonly hostName: string;
}

export type LoadedConfig =
  | { readonly config: Config; readonly warnings: readonly string[] }
  | { readonly faults: readonly string[] };

/** A longer list helps nobody; a broken generator can produce thousands. */
const FAULTS_MAX = 200;

/** Defaults < file < environment < flags. Returns the frozen configuration, or every fault there is. */
export function loadConfig(sources: ConfigSources): LoadedConfig {
  return new Loading(sources).run();
}

/** A value as text, where it came from, and what relative paths in it are relative to. */
interface GivenText {
  readonly text: string;
  readonly where: string;
}

class Loading {
  readonly #sources: ConfigSources;
  readonly #faults: string[] = [];
  readonly #warnings: string[] = [];
  #document: ConfigDocument | undefined;
  #folder = '.';
  /** False when there should be a config file and it cannot be used: what it would have said is unknown. */
  #fileIsRead = true;
  /** Options with a fault of their own, so that nothing more is said about them. */
  readonly #faulty = new Set<OptionName>();

  constructor(sources: ConfigSources) {
    this.#sources = sources;
  }

  run(): LoadedConfig {
    const { purpose } = this.#sources;
    this.#readDocument();
    const values = this.#options();
    const namespaces = this.#namespaces();
    this.#warnAboutVariables();
    const config: Config = { ...values, namespaces };
    if (this.#fileIsRead) this.#faults.push(...checkTogether(config, purpose, this.#faulty));
    if (this.#faults.length > 0) return { faults: shortened(this.#faults) };
    this.#warnings.push(...warningsTogether(config, purpose));
    return { config: deepFreeze(config), warnings: this.#warnings };
  }

  #readDocument(): void {
    const given = this.#fromFlag('config') ?? this.#fromVariable('config');
    if (given === undefined) return;
    const text = this.#read(given.text, given.where);
    if (text === undefined) {
      this.#fileIsRead = false;
      return;
    }
    const parsed = parseConfigDocument(given.text, text);
    if ('faults' in parsed) {
      this.#faults.push(...parsed.faults);
      this.#fileIsRead = false;
      return;
    }
    const { value } = parsed.document;
    if (value !== undefined && !isObject(value)) {
      this.#faults.push(`${given.text}: must hold keys and values at the top`);
      this.#fileIsRead = false;
      return;
    }
    this.#document = parsed.document;
    this.#folder = dirname(given.text);
    for (const key of Object.keys(value ?? {}).filter(name => !isFileKey(name))) {
      this.#report([key], 'is not a key we know; see `halfway config options`');
    }
  }

  /** All options by name; faulty ones have their default, and the fault is noted. */
  #options(): OptionValues {
    const defaults = {
      ...(this.#sources.purpose === 'dev' ? DEV_DEFAULTS : {}),
      nodeId: nodeIdFrom(this.#sources.hostName),
    };
    const entries = optionList.map(({ name }) => [name, OPTIONS[name].default]);
    const values: Record<string, unknown> = { ...Object.fromEntries(entries), ...defaults };
    for (const option of optionList) {
      const faultsBefore = this.#faults.length;
      const given = this.#given(option);
      const parsed = given === undefined ? undefined : option.parse(given.text);
      if (parsed !== undefined && 'value' in parsed) values[option.name] = parsed.value;
      else if (parsed !== undefined) this.#faults.push(`${given?.where} ${parsed.fault}`);
      if (this.#faults.length > faultsBefore) this.#faulty.add(option.name);
    }
    assert(hasEveryOption(values), 'each option has its default or what its parser returned');
    return values;
  }

  #given(option: NamedOption): GivenText | undefined {
    return (
      this.#fromFlag(option.name) ?? this.#fromVariable(option.name) ?? this.#fromDocument(option)
    );
  }

  #fromFlag(name: OptionName): GivenText | undefined {
    const value = this.#sources.flags[name];
    if (value === undefined) return undefined;
    const option = named(name);
    if (option.secret !== true) return { text: String(value), where: option.flag };
    return this.#secret(String(value), option.flag);
  }

  #fromVariable(name: OptionName): GivenText | undefined {
    const { env, secret } = named(name);
    const value = this.#sources.env[env];
    const file = secret === true ? this.#sources.env[`${env}_FILE`] : undefined;
    // Compose files and charts pass on variables that were never set as empty ones.
    const isGiven = value !== undefined && value !== '';
    if (file !== undefined && file !== '') {
      if (isGiven)
        this.#faults.push(`${env}_FILE must not stand beside ${env}: give one of the two`);
      return this.#secret(file, `${env}_FILE`);
    }
    if (!isGiven || foreignVariable(env, value) !== undefined) return undefined;
    return { text: value, where: env };
  }

  #fromDocument(option: NamedOption): GivenText | undefined {
    const { name } = option;
    if (name === 'config' || !isObject(this.#document?.value)) return undefined;
    const fields = this.#document.value;
    const fileKey = `${name}File`;
    if (option.secret === true && fields[fileKey] !== undefined) {
      const path = fields[fileKey];
      if (fields[name] !== undefined) {
        this.#report([fileKey], `must not stand beside ${name}: give one of the two`);
      }
      const parsed = filePath(typeof path === 'string' ? path : '');
      if ('value' in parsed) {
        return this.#secret(resolve(this.#folder, parsed.value), this.#where([fileKey]));
      }
      this.#report([fileKey], parsed.fault);
      return undefined;
    }
    const value = fields[name];
    if (value === undefined) return undefined;
    const text = textOf(value);
    if (text === undefined) {
      this.#report([name], 'must be a single value or a list of texts');
      return undefined;
    }
    // Paths of a file are relative to the file; those of flags and variables to where one stands.
    const isPath = isPathOption(option) && text !== '';
    return { text: isPath ? resolve(this.#folder, text) : text, where: this.#where([name]) };
  }

  #namespaces(): NamespaceDescription[] {
    const { purpose } = this.#sources;
    if (purpose === 'inspect') return [];
    const fields = isObject(this.#document?.value) ? this.#document.value : {};
    if (fields['namespaces'] === undefined) return [];
    return readNamespaces(fields['namespaces'], {
      report: (path, fault) => this.#report(path, fault),
      readSecret: (file, path) =>
        this.#secret(resolve(this.#folder, file), this.#where(path))?.text,
    });
  }

  #warnAboutVariables(): void {
    for (const [name, value] of Object.entries(this.#sources.env)) {
      const why = foreignVariable(name, value ?? '');
      if (why !== undefined) this.#warnings.push(`${name} is ignored: ${why}`);
    }
  }

  #secret(file: string, where: string): GivenText | undefined {
    const text = this.#read(file, where);
    // Editors and `echo` end a file with a line break that is not part of the secret.
    return text === undefined ? undefined : { text: text.replace(/\r?\n$/, ''), where };
  }

  #read(file: string, where: string): string | undefined {
    try {
      return this.#sources.readFile(file);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      this.#faults.push(`${where} must name a file that can be read: ${why}`);
      return undefined;
    }
  }

  #report(path: DocumentPath, fault: string): void {
    this.#faults.push(`${this.#where(path)} ${fault}`);
  }

  #where(path: DocumentPath): string {
    return this.#document?.where(path) ?? path.join('.');
  }
}

/** A host name as a node's name: what may not be in one becomes a hyphen. */
function nodeIdFrom(hostName: string): string {
  return hostName.replace(/[^A-Za-z0-9._-]/g, '-').slice(0, 64) || 'halfway';
}

function named(name: OptionName): NamedOption {
  const option = optionList.find(candidate => candidate.name === name);
  if (option === undefined) throw new Error(`Unreachable: option ${name}`);
  return option;
}

function isPathOption({ placeholder, secret }: NamedOption): boolean {
  return placeholder === 'DIR' || (placeholder === 'FILE' && secret !== true);
}

function isFileKey(key: string): boolean {
  if (key === 'namespaces') return true;
  if (isOptionName(key)) return key !== 'config';
  return optionList.some(({ name, secret }) => secret === true && key === `${name}File`);
}

/** A value of the file as the text that a variable would hold: lists are joined by commas. */
function textOf(value: unknown): string | undefined {
  if (value === null) return '';
  if (Array.isArray(value)) {
    const texts = value.map(item => (Array.isArray(item) ? undefined : textOf(item)));
    return texts.includes(undefined) ? undefined : texts.join(',');
  }
  if (typeof value === 'string') return value;
  return typeof value === 'object' ? undefined : JSON.stringify(value);
}

function hasEveryOption(values: Readonly<Record<string, unknown>>): values is OptionValues {
  return optionList.every(({ name }) => name in values);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function shortened(faults: readonly string[]): readonly string[] {
  if (faults.length <= FAULTS_MAX) return faults;
  return [...faults.slice(0, FAULTS_MAX), `… and ${faults.length - FAULTS_MAX} more faults`];
}

function deepFreeze<Value>(value: Value): Value {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value;
  Object.values(value).forEach(deepFreeze);
  return Object.freeze(value);
}
