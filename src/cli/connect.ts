import type { FrameChannel } from '../client/frame-channel.ts';
import { HybridConnectionClient } from '../client/hybrid-connection-client.ts';
import { CLOSE_CODE_NONE, OPCODES } from '../protocol/frames.ts';
import { CommandError, EXIT, usageError, type ExitCode } from './command-error.ts';
import { relayConnection, senderPlace, type ConnectionOptions } from './connection.ts';
import type { CommandContext } from './context.ts';
import { splitHeader } from './header-option.ts';
import { adviceOn } from './refusal-advice.ts';
import { clientOptions, withUsageErrors, type RouteOptions } from './route-options.ts';

export interface ConnectOptions extends ConnectionOptions, RouteOptions {
  readonly text?: boolean;
  readonly protocol?: readonly string[];
  readonly header?: readonly string[];
  readonly quiet?: boolean;
}

/** `halfway connect`: standard input and output over a WebSocket; the exit code says how it closed. */
export async function runConnect(
  pathArgument: string | undefined,
  options: ConnectOptions,
  context: CommandContext,
): Promise<ExitCode> {
  if (options.connectionStringFile === '-') {
    throw usageError('Cannot read the connection string from standard input: it is what is sent');
  }
  const connection = await relayConnection(options, context);
  const { shown, root, below, tokens } = senderPlace(pathArgument, connection);
  const optionsThere = clientOptions({ ...connection, tokens }, root, options, context);
  const client = withUsageErrors(() => new HybridConnectionClient(optionsThere));
  const headers = Object.fromEntries((options.header ?? []).map(splitHeader));
  let channel: FrameChannel;
  try {
    const protocols = options.protocol ?? [];
    channel = await client.connectChannel({ path: below, protocols, headers });
  } catch (error) {
    throw new CommandError(adviceOn(`Cannot connect to "${shown}"`, error));
  }
  const end = await pipeBothWays(channel, options.text === true, context);
  // Libraries that close without naming a code mean the same as 1000.
  if (end.code === 1000 || end.code === CLOSE_CODE_NONE) return EXIT.ok;
  if (options.quiet !== true) {
    context.stderr.write(`halfway: closed with ${end.code} ${end.reason}`.trimEnd() + '\n');
  }
  return EXIT.failed;
}

/** Resolves with the peer's close code, 1006 when there was none. */
function pipeBothWays(
  channel: FrameChannel,
  isText: boolean,
  { stdin, stdout }: CommandContext,
): Promise<{ readonly code: number; readonly reason: string }> {
  return new Promise(resolve => {
    let closeReason = '';
    channel.receive({
      fragment: (_opcode, fin, payload) => {
        const canGoOn = stdout.write(payload);
        if (isText && fin) stdout.write('\n');
        if (canGoOn) return;
        channel.pause();
        stdout.once('drain', () => channel.resume());
      },
      drained: () => stdin.resume(),
      closed: (code, reason) => {
        closeReason = reason;
        channel.close(code, reason);
      },
      gone: code => {
        stdin.destroy();
        resolve({ code, reason: closeReason });
      },
    });
    const send = (payload: Uint8Array): void => {
      if (!channel.send(isText ? OPCODES.text : OPCODES.binary, true, payload)) stdin.pause();
    };
    const lines = new LineSplitter(send);
    stdin.on('data', (chunk: Buffer) => {
      if (isText) lines.push(chunk);
      else send(chunk);
    });
    // Half-close: what the other side still has to say goes on arriving.
    stdin.once('end', () => {
      if (isText) lines.end();
      channel.close(1000);
    });
  });
}

const LINE_FEED = 0x0a;

/** Cuts bytes into lines without their line feed; a last line without one counts, too. */
class LineSplitter {
  readonly #onLine: (line: Buffer) => void;
  #rest: Buffer = Buffer.alloc(0);

  constructor(onLine: (line: Buffer) => void) {
    this.#onLine = onLine;
  }

  push(chunk: Buffer): void {
    let bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    for (let at = bytes.indexOf(LINE_FEED); at !== -1; at = bytes.indexOf(LINE_FEED)) {
      this.#onLine(bytes.subarray(0, at));
      bytes = bytes.subarray(at + 1);
    }
    this.#rest = bytes;
  }

  end(): void {
    if (this.#rest.length > 0) this.#onLine(this.#rest);
  }
}
