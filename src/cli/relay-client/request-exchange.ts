import { PassThrough, Readable } from 'node:stream';
import type { Clock } from '../../base/clock.ts';
import { fitsControlChannel, parseServiceMessage } from '../../protocol/control-messages.ts';
import type { Answer, Answerer, RelayedRequest } from './answer.ts';
import { chunksOf, collect, type AnswerStart } from './answer-start.ts';
import { AnswerWriter, responseText } from './answer-writer.ts';
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
  let socket: FrameSocket;
  try {
    socket = await dial(message.address, { clock: deps.clock });
  } catch (error) {
    // Whatever feeds the answer is to stop, too: nobody can get it any more.
    gone.abort();
    throw error;
  }
  const writer = new AnswerWriter(socket);
  socket.receive({
    fragment: () => undefined,
    drained: () => writer.drained(),
    closed: code => socket.close(code),
    gone: () => {
      gone.abort();
      writer.abort();
    },
  });
  await writer.write(message.id, answer, start);
}

/** Fetches a request at its address and answers it there. */
export async function answerAtAddress(address: string, deps: ExchangeDeps): Promise<void> {
  const socket = await dial(address, { clock: deps.clock });
  const writer = new AnswerWriter(socket);
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
  await writer.write(head.id, answer, { bytes: Buffer.alloc(0), rest: chunksOf(answer.body) });
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
