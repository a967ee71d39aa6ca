import { readFileSync } from 'node:fs';
import type { Envelope } from '../../crypto/envelope.ts';
import { sealInput, type TargetKey } from '../../dispatch-client/sealing.ts';
import { messageOf, usageError } from '../command-error.ts';
import { readAll, type CommandContext } from '../context.ts';
import { readSecret } from '../secret-input.ts';

export interface InputOptions {
  /** `NAME=VALUE`, `NAME=@FILE` */
  readonly input?: readonly string[];
  /** A JSON object of inputs. */
  readonly inputs?: string;
  /** `NAME=@FILE`, `NAME=-` or `NAME`; never the value itself. */
  readonly secretInput?: readonly string[];
}

/** What can be read by everyone who sees the run. Throws a usage error. */
export async function plainInputs(
  { input = [], inputs }: InputOptions,
  context: CommandContext,
): Promise<Readonly<Record<string, unknown>>> {
  const given: [string, unknown][] = inputs === undefined ? [] : await inputsIn(inputs, context);
  for (const text of input) {
    const { name, value } = assignmentIn(text, '--input');
    if (value === undefined) throw usageError(`Cannot read --input "${text}": it is NAME=VALUE`);
    given.push([name, value.startsWith('@') ? fileText(value.slice(1)) : value]);
  }
  return onceEach(given);
}

/** Names and values of what is to be sealed. */
export async function secretInputs(
  { secretInput = [] }: InputOptions,
  context: CommandContext,
): Promise<Readonly<Record<string, string>>> {
  const secrets: [string, string][] = [];
  for (const text of secretInput) {
    const { name, value } = assignmentIn(text, '--secret-input');
    if (value !== undefined && value !== '-' && !value.startsWith('@')) {
      throw usageError(
        `Cannot take the secret "${name}" from the command line, where others see it: ` +
          `give ${name}=@FILE, ${name}=- for standard input, or ${name} to be asked`,
      );
    }
    const file = value?.replace(/^@/, '');
    secrets.push([name, await readSecret({ what: `secret input ${name}`, file }, context)]);
  }
  return onceEach(secrets);
}

export async function sealedInputs(
  key: TargetKey,
  runId: string,
  secrets: Readonly<Record<string, string>>,
): Promise<Readonly<Record<string, Envelope>>> {
  const sealed: Record<string, Envelope> = {};
  for (const [name, value] of Object.entries(secrets)) {
    sealed[name] = await sealInput(key, { runId, name }, value);
  }
  return sealed;
}

/** The JSON object in a file, `-` for standard input. Throws a usage error. */
export async function objectIn(
  file: string,
  option: string,
  { stdin }: CommandContext,
): Promise<object> {
  const text = file === '-' ? await readAll(stdin) : fileText(file);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw usageError(`Cannot read ${option}: it is not JSON: ${messageOf(error)}`);
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  throw usageError(`Cannot read ${option}: it must be a JSON object`);
}

async function inputsIn(file: string, context: CommandContext): Promise<[string, unknown][]> {
  return Object.entries(await objectIn(file, '--inputs', context));
}

/** `NAME=VALUE` pairs as of --label. */
export function pairsIn(
  texts: readonly string[] | undefined,
  option: string,
): Readonly<Record<string, string>> | undefined {
  return (
    texts &&
    onceEach(
      texts.map(text => {
        const { name, value } = assignmentIn(text, option);
        if (value === undefined)
          throw usageError(`Cannot read ${option} "${text}": it is NAME=VALUE`);
        return [name, value];
      }),
    )
  );
}

function assignmentIn(
  text: string,
  option: string,
): { readonly name: string; readonly value: string | undefined } {
  const [name = '', value] = text.split(/=(.*)/s);
  if (name === '') throw usageError(`Cannot read ${option}: it begins with a name`);
  return { name, value };
}

function onceEach<Value>(pairs: readonly (readonly [string, Value])[]): Record<string, Value> {
  const names = pairs.map(([name]) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw usageError(`"${twice}" is given twice`);
  return Object.fromEntries(pairs);
}

function fileText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw usageError(`Cannot read ${file}: ${messageOf(error)}`);
  }
}
