import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import type { DispatchClient } from '../../dispatch-client/dispatch-client.ts';
import { CommandError, messageOf } from '../command-error.ts';
import type { CommandContext } from '../context.ts';
import { fieldAt, textAt } from '../admin-client.ts';

// The keys that were sealed to before, as ssh keeps those of hosts: a server that suddenly names another key for a
// machine may want to read what is sealed. Source: job-dispatch.md section 12.6.

/** A key that was taken for the right one. */
export interface KeyPin {
  readonly origin: string;
  readonly environment: string;
  readonly kind: 'machine' | 'group';
  readonly id: string;
  readonly name: string;
  readonly kid: string;
}

/** The file that keeps them, of this user. */
export function pinsFile({ env }: CommandContext): string {
  const own = env['HALFWAY_STATE_DIR'] ?? '';
  const xdg = env['XDG_STATE_HOME'] ?? '';
  const home = env['HOME'] ?? homedir();
  const state = xdg === '' ? join(home, '.local', 'state') : xdg;
  return join(own === '' ? join(state, 'halfway') : own, 'known-keys.json');
}

/** Throws a `CommandError` for a file that cannot be read: going on without it would trust whatever comes. */
export function readPins(file: string): readonly KeyPin[] {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
    throw unreadable(file, messageOf(error));
  }
  try {
    const list = fieldAt(JSON.parse(text), 'keys');
    if (!Array.isArray(list)) throw new TypeError('it is not a list of keys');
    return list.map(pinOf);
  } catch (error) {
    throw unreadable(file, messageOf(error));
  }
}

/**
 * The pins of whatever was meant by this target before: it itself, and others of its name, since a server could as
 * well make a new machine of the same name.
 */
export function pinsOf(pins: readonly KeyPin[], target: Omit<KeyPin, 'kid'>): readonly KeyPin[] {
  return pins.filter(
    pin =>
      pin.origin === target.origin &&
      pin.environment === target.environment &&
      pin.kind === target.kind &&
      (pin.id === target.id || pin.name === target.name),
  );
}

/** Keeps a key in the place of those that stood for the same before. */
export function writePin(file: string, pin: KeyPin): void {
  const pins = readPins(file);
  const replaced = pinsOf(pins, pin);
  const keys = [...pins.filter(other => !replaced.includes(other)), pin];
  const aside = `${file}.${process.pid}`;
  try {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    // Moved into place when it is whole: nobody reads half a file.
    writeFileSync(aside, `${JSON.stringify({ keys }, undefined, 2)}\n`, { mode: 0o600 });
    renameSync(aside, file);
  } catch (error) {
    throw new CommandError(`Cannot keep the key in ${file}: ${messageOf(error)}`);
  }
}

export function pinTargetOf(
  { origin, environment }: Pick<DispatchClient, 'origin' | 'environment'>,
  { kind, id, name }: Pick<KeyPin, 'kind' | 'id' | 'name'>,
): Omit<KeyPin, 'kid'> {
  return { origin, environment, kind, id, name };
}

function pinOf(value: unknown): KeyPin {
  const kind = textAt(value, 'kind');
  if (kind !== 'machine' && kind !== 'group') throw new TypeError('a key has no kind');
  const [origin, environment, id] = [
    textAt(value, 'origin'),
    textAt(value, 'environment'),
    textAt(value, 'id'),
  ];
  return { origin, environment, kind, id, name: textAt(value, 'name'), kid: textAt(value, 'kid') };
}

function unreadable(file: string, why: string): CommandError {
  return new CommandError(`Cannot read the known keys in ${file}: ${why}; repair or remove it`);
}
