import { PassThrough, Readable } from 'node:stream';
import type { CancelTimer, Clock } from '../../base/clock.ts';
import {
  CONTROL_BODY_BYTES_MAX,
  fitsControlChannel,
  formatResponse,
  parseServiceMessage,
} from '../../protocol/control-messages.ts';
import { OPCODES } from '../../protocol/frames.ts';
import type { Answer, Answerer, RelayedRequest } from './answer.ts';
import type { ControlLink, Request } from './control-link.ts';
import { dial, type FrameSocket } from './frame-socket.ts';

// One HTTP request and its answer. Small and quick answers go back on the control channel, all others through a
// rendezvous of their own, so that they never hold up other requests.

export interface ExchangeDeps {
  readonly clock: Clock;
  readonly link: Pick<ControlLink, 'send'>;
  readonly answer: Answerer;
  /** An exchange that could not be finished; its sender gets the relay's own error. */
  readonly onFailure: (why: unknown) => void;
}

/** How long an answer is held back in the hope that all of it fits the control channel. */
const HOLD_MS = 200;

/** Answers a request that came in full on the control channel. */
export async function answerInline(
  message: Request,
  body: Buffer,
  deps: ExchangeDeps,
): Promise<void> {
  const gone = new AbortController();
  const request = requestOf(message, Readable.from(body.length > 0 ? [body] : []), gone.signal);
  const { answer, start } = await firstBytes(request, deps);
  if (start.isWhole) {
    const text = responseText(message.id, answer, start.bytes.length > 0);
    if (message.address === undefined || fitsControlChannel(text)) {
      deps.link.send(text, start.bytes.length > 0 ? start.bytes : undefined);
      return;
    }
  }
  if (message.address === undefined) throw new Error('the request has no address to answer at');
  const socket = await dial(message.address, { clock: deps.clock });
  const writer = new FragmentWriter(socket);
  socket.receive({
    fragment: () => undefined,
    drained: () => writer.drained(),
    closed: code => socket.close(code),
    gone: () => {
      gone.abort();
      writer.abort();
    },
  });
  await writeAnswer(message.id, answer, { writer, start: start.bytes, rest: start.rest });
}

/** Fetches a request at its address and answers it there. */
export async function answerAtAddress(address: string, deps: ExchangeDeps): Promise<void> {
  const socket = await dial(address, { clock: deps.clock });
  const writer = new FragmentWriter(socket);
  const gone = new AbortController();
  const body = new PassThrough();
  // A sender that goes away is no error of this program; whoever reads the body learns of it there.
  body.on('error', () => undefined);
  const head = await new Promise<Request>((resolve, reject) => {
    const headParts: Buffer[] = [];
    let isHead = true;
    socket.receive({
      fragment: (_opcode, fin, payload) => {
        if (!isHead) {
          if (!body.write(payload)) socket.pause();
          if (fin) body.end();
          return;
        }
        headParts.push(payload);
        if (!fin) return;
        isHead = false;
        const message = parseServiceMessage(Buffer.concat(headParts).toString('utf8'));
        if (message.type !== 'request') {
          reject(new Error('the rendezvous did not begin with a request'));
          socket.close(1002, 'A request was expected');
          return;
        }
        if (!message.body) body.end();
        resolve(message);
      },
      drained: () => writer.drained(),
      closed: code => socket.close(code),
      gone: () => {
        const why = new Error('the sender has gone');
        if (!body.writableEnded) body.destroy(why);
        gone.abort();
        writer.abort();
        reject(why);
      },
    });
    body.on('drain', () => socket.resume());
  });
  const answer = await answerOrFailure(requestOf(head, body, gone.signal), deps);
  const rest = chunksOf(answer.body);
  await writeAnswer(head.id, answer, { writer, start: Buffer.alloc(0), rest });
  // What of the body nobody wanted must not keep the relay's Close frame from arriving.
  body.resume();
}

function requestOf(message: Request, body: Readable, signal: AbortSignal): RelayedRequest {
  const { method, requestTarget: target, requestHeaders: headers, remoteEndpoint } = message;
  const { body: hasBody } = message;
  return { method, target, headers, remote: remoteEndpoint, hasBody, body, signal };
}

/** The answer and what of its body comes soon; an answer that breaks off so early is replaced by a failure. */
async function firstBytes(
  request: RelayedRequest,
  deps: ExchangeDeps,
): Promise<{ readonly answer: Answer; readonly start: Start }> {
  const answer = await answerOrFailure(request, deps);
  try {
    return { answer, start: await collect(chunksOf(answer.body), deps.clock) };
  } catch (error) {
    deps.onFailure(error);
    return { answer: FAILURE, start: await collect(chunksOf(FAILURE.body), deps.clock) };
  }
}

const FAILURE: Answer = {
  status: 502,
  reason: 'Bad Gateway',
  headers: { 'Content-Type': 'text/plain' },
  body: 'The listener could not get an answer\n',
};

async function answerOrFailure(request: RelayedRequest, deps: ExchangeDeps): Promise<Answer> {
  try {
    return await deps.answer(request);
  } catch (error) {
    deps.onFailure(error);
    return FAILURE;
  }
}

function responseText(requestId: string, answer: Answer, body: boolean): string {
  return formatResponse({
    requestId,
    statusCode: answer.status,
    ...(answer.reason === undefined ? {} : { statusDescription: answer.reason }),
    responseHeaders: answer.headers,
    body,
  });
}

type Chunks = AsyncIterator<Buffer, unknown, undefined>;

async function* chunksOf(body: Answer['body']): AsyncGenerator<Buffer> {
  if (body === undefined) return;
  if (typeof body === 'string') yield Buffer.from(body);
  else for await (const chunk of body) yield Buffer.from(chunk);
}

interface Start {
  readonly bytes: Buffer;
  readonly isWhole: boolean;
  readonly rest: Chunks;
}

/** Takes chunks until they end, are too many for the control channel, or take too long. */
async function collect(chunks: Chunks, clock: Clock): Promise<Start> {
  const taken: Buffer[] = [];
  let size = 0;
  let cancel: CancelTimer | undefined;
  const late = new Promise<'late'>(resolve => {
    cancel = clock.after(HOLD_MS, () => resolve('late'));
  });
  try {
    for (;;) {
      const next = chunks.next();
      const result = await Promise.race([next, late]);
      if (result === 'late') {
        return { bytes: Buffer.concat(taken), isWhole: false, rest: startingWith(next, chunks) };
      }
      if (result.done === true) return { bytes: Buffer.concat(taken), isWhole: true, rest: chunks };
      taken.push(result.value);
      size += result.value.length;
      if (size > CONTROL_BODY_BYTES_MAX) {
        return { bytes: Buffer.concat(taken), isWhole: false, rest: chunks };
      }
    }
  } finally {
    cancel?.();
  }
}

async function* startingWith(
  pending: Promise<IteratorResult<Buffer, unknown>>,
  chunks: Chunks,
): AsyncGenerator<Buffer> {
  for (let result = await pending; result.done !== true; result = await chunks.next()) {
    yield result.value;
  }
}

/** Writes an answer and closes. An answer that breaks off breaks the socket, so that its sender sees no end. */
async function writeAnswer(
  requestId: string,
  answer: Answer,
  out: { readonly writer: FragmentWriter; readonly start: Buffer; readonly rest: Chunks },
): Promise<void> {
  const { writer, start, rest } = out;
  const hasBody = answer.body !== undefined;
  try {
    await writer.write(OPCODES.text, true, Buffer.from(responseText(requestId, answer, hasBody)));
    if (hasBody) await writeBody(writer, start, rest);
    writer.close();
  } catch (error) {
    if (writer.isAborted) return;
    writer.destroy();
    throw error;
  }
}

/** One message in fragments. An empty one ends it, because only the end of the source tells which was the last. */
async function writeBody(writer: FragmentWriter, start: Buffer, rest: Chunks): Promise<void> {
  let opcode: number = OPCODES.binary;
  if (start.length > 0) {
    await writer.write(opcode, false, start);
    opcode = OPCODES.continuation;
  }
  for (let next = await rest.next(); next.done !== true; next = await rest.next()) {
    if (writer.isAborted) {
      await rest.return?.();
      return;
    }
    if (next.value.length === 0) continue;
    await writer.write(opcode, false, next.value);
    opcode = OPCODES.continuation;
  }
  await writer.write(opcode, true, Buffer.alloc(0));
}

/** Writes fragments and waits while the socket is full. */
class FragmentWriter {
  readonly #socket: FrameSocket;
  #isAborted = false;
  #onDrained: (() => void) | undefined;

  constructor(socket: FrameSocket) {
    this.#socket = socket;
  }

  async write(opcode: number, fin: boolean, payload: Uint8Array): Promise<void> {
    if (this.#isAborted || this.#socket.send(opcode, fin, payload)) return;
    await new Promise<void>(resolve => {
      this.#onDrained = resolve;
    });
  }

  /** Whether the socket has gone, and with it whoever wanted this. */
  get isAborted(): boolean {
    return this.#isAborted;
  }

  close(): void {
    this.#socket.close(1000, 'Normal Closure');
  }

  destroy(): void {
    this.#socket.destroy();
  }

  drained(): void {
    this.#onDrained?.();
    this.#onDrained = undefined;
  }

  /** The socket has gone: nothing waits any more. */
  abort(): void {
    this.#isAborted = true;
    this.drained();
  }
}
