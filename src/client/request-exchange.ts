import { PassThrough, Readable } from 'node:stream';
import type { Clock } from '../base/clock.ts';
import { fitsControlChannel, parseServiceMessage } from '../protocol/control-messages.ts';
import type { Answer, Answerer, RelayedRequest } from './answer.ts';
import { chunksOf, collect, type AnswerStart } from './answer-start.ts';
import { AnswerWriter, responseText } from './answer-writer.ts';
import type { Request } from './control-reader.ts';
import type { Dial, FrameChannel } from './frame-channel.ts';
import { RelayError } from './relay-error.ts';

// One HTTP request and its answer. Small and quick answers go back on the control channel, all others through a
// rendezvous of their own, so that they never hold up other requests.

export interface ExchangeDeps {
  readonly clock: Clock;
  readonly dial: Dial;
  /** Sends a response and its body on the control channel; false when that is down. */
  readonly sendOnControl: (text: string, body: Uint8Array | undefined) => boolean;
  readonly answer: Answerer;
  /** An exchange that could not be finished; its sender gets an error of ours, or the relay's own. */
  readonly onFailure: (why: unknown) => void;
}

const DIAL_TIMEOUT_MS = 20_000;

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
    const isSent =
      (message.address === undefined || fitsControlChannel(text)) &&
      deps.sendOnControl(text, start.bytes.length > 0 ? start.bytes : undefined);
    if (isSent) return;
  }
  let channel: FrameChannel;
  try {
    if (message.address === undefined) {
      throw new RelayError('ProtocolError', 'The request has no address to answer at');
    }
    channel = await dialBack(message.address, deps);
  } catch (error) {
    // Whatever feeds the answer is to stop, too: nobody can get it any more.
    gone.abort();
    await start.rest.return?.();
    throw error;
  }
  const writer = new AnswerWriter(channel);
  // A Close before the answer is through says that its sender has gone.
  const end = (): void => {
    gone.abort();
    writer.abort();
  };
  channel.receive({
    fragment: () => undefined,
    drained: () => writer.drained(),
    closed: code => {
      end();
      channel.close(code);
    },
    gone: end,
  });
  await writer.write(message.id, answer, start);
}

/** Fetches a request at its address and answers it there. */
export async function answerAtAddress(address: string, deps: ExchangeDeps): Promise<void> {
  const channel = await dialBack(address, deps);
  const writer = new AnswerWriter(channel);
  const gone = new AbortController();
  const body = new PassThrough();
  // A sender that goes away is no error of this program; whoever reads the body learns of it there.
  body.on('error', () => undefined);
  const head = await new Promise<Request>((resolve, reject) => {
    const end = (): void => {
      const why = new RelayError('ConnectionLost', 'The sender of the request has gone');
      if (!body.writableEnded) body.destroy(why);
      gone.abort();
      writer.abort();
      reject(why);
    };
    const headParts: Buffer[] = [];
    let isHead = true;
    channel.receive({
      fragment: (_opcode, fin, payload) => {
        if (!isHead) {
          if (body.writableEnded || body.destroyed) return;
          if (!body.write(payload)) channel.pause();
          if (fin) body.end();
          return;
        }
        headParts.push(payload);
        if (!fin) return;
        isHead = false;
        const message = parseServiceMessage(Buffer.concat(headParts).toString('utf8'));
        if (message.type !== 'request') {
          reject(new RelayError('ProtocolError', 'The rendezvous did not begin with a request'));
          channel.close(1002, 'A request was expected');
          return;
        }
        if (!message.body) body.end();
        resolve(message);
      },
      drained: () => writer.drained(),
      closed: code => {
        end();
        channel.close(code);
      },
      gone: end,
    });
    body.on('drain', () => channel.resume());
    body.on('close', () => channel.resume());
  });
  const answer = await answerOrFailure(requestOf(head, body, gone.signal), deps);
  await writer.write(head.id, answer, { bytes: Buffer.alloc(0), rest: chunksOf(answer.body) });
  // What of the body nobody wanted must not keep the relay's Close frame from arriving.
  body.resume();
}

function dialBack(address: string, { clock, dial }: ExchangeDeps): Promise<FrameChannel> {
  return dial(address, { clock, timeoutMs: DIAL_TIMEOUT_MS });
}

function requestOf(message: Request, body: Readable, signal: AbortSignal): RelayedRequest {
  const { id, method, requestTarget: target, requestHeaders: headers, remoteEndpoint } = message;
  const { body: hasBody } = message;
  return { id, method, target, headers, remote: remoteEndpoint, hasBody, body, signal };
}

/** The answer and what of its body comes soon; an answer that breaks off so early is replaced by a failure. */
async function firstBytes(
  request: RelayedRequest,
  deps: ExchangeDeps,
): Promise<{ readonly answer: Answer; readonly start: AnswerStart }> {
  const answer = await answerOrFailure(request, deps);
  try {
    return { answer, start: await collect(chunksOf(answer.body), deps.clock) };
  } catch (error) {
    deps.onFailure(error);
    return { answer: FAILURE, start: await collect(chunksOf(FAILURE.body), deps.clock) };
  }
}

const FAILURE: Answer = {
  status: 500,
  reason: 'Internal Server Error',
  headers: { 'Content-Type': 'text/plain' },
  body: 'The listener failed to answer\n',
};

async function answerOrFailure(request: RelayedRequest, deps: ExchangeDeps): Promise<Answer> {
  try {
    return await deps.answer(request);
  } catch (error) {
    deps.onFailure(error);
    return FAILURE;
  }
}
