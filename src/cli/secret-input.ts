import { readFileSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { CommandError, messageOf, usageError } from './command-error.ts';
import { readAll, type CommandContext } from './context.ts';

// Secrets never come from the command line, where every user of the machine and the shell's history see them.

export interface SecretSource {
  /** What it is, as in "Cannot read the password". */
  readonly what: string;
  /** Where it is; `-` is standard input. Undefined: whoever sits at the terminal is asked, else standard input. */
  readonly file: string | undefined;
}

type Asking = Pick<CommandContext, 'stdin' | 'stderr'>;

/** A secret without the line end behind it. Throws a usage error when it is empty or cannot be read. */
export async function readSecret({ what, file }: SecretSource, context: Asking): Promise<string> {
  const text = await secretText({ what, file }, context);
  const secret = text.replace(/\r?\n$/, '');
  if (secret === '') throw usageError(`Cannot use the ${what}: it is empty`);
  return secret;
}

async function secretText(
  { what, file }: SecretSource,
  { stdin, stderr }: Asking,
): Promise<string> {
  if (file !== undefined && file !== '-') {
    try {
      return readFileSync(file, 'utf8');
    } catch (error) {
      throw usageError(`Cannot read the ${what}: ${messageOf(error)}`);
    }
  }
  if (file === undefined && isTerminal(stdin)) {
    stderr.write(`${what.slice(0, 1).toUpperCase()}${what.slice(1)}: `);
    try {
      return await typedLine(stdin);
    } finally {
      stderr.write('\n');
    }
  }
  return readAll(stdin);
}

type TerminalInput = Readable & {
  readonly isTTY: true;
  setRawMode(isRaw: boolean): unknown;
};

function isTerminal(stdin: Readable): stdin is TerminalInput {
  return (
    'isTTY' in stdin &&
    stdin.isTTY === true &&
    'setRawMode' in stdin &&
    typeof stdin.setRawMode === 'function'
  );
}

const ENTER = /[\r\n]/;
const [CTRL_C, CTRL_D, CTRL_U] = ['\u0003', '\u0004', '\u0015'];
const BACKSPACES: ReadonlySet<string> = new Set(['\u007f', '\b']);

/** What is typed until Enter; the terminal shows nothing of it. */
async function typedLine(stdin: TerminalInput): Promise<string> {
  stdin.setRawMode(true);
  const decoder = new TextDecoder();
  let typed: string[] = [];
  try {
    return await new Promise<string>((resolve, reject) => {
      const done = (settle: () => void): void => {
        stdin.off('data', onData);
        stdin.off('end', onEnd);
        settle();
      };
      const onEnd = (): void => done(() => resolve(typed.join('')));
      const onData = (chunk: Buffer): void => {
        for (const character of decoder.decode(chunk, { stream: true })) {
          if (ENTER.test(character) || character === CTRL_D) return onEnd();
          if (character === CTRL_C) return done(() => reject(new CommandError('Interrupted')));
          if (character === CTRL_U) typed = [];
          else if (BACKSPACES.has(character)) typed.pop();
          else typed.push(character);
        }
      };
      stdin.on('data', onData);
      stdin.once('end', onEnd);
    });
  } finally {
    stdin.setRawMode(false);
    stdin.pause();
  }
}
