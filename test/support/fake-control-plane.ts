import { createServer, type IncomingMessage } from 'node:http';
import { systemClock } from '../../src/base/clock.ts';
import { Routes } from '../../src/client/routes.ts';
import { ControlClient } from '../../src/machine/control-client.ts';

export interface AskedRequest {
  readonly method: string;
  /** With its query. */
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly bytes: Buffer;
  readonly json: unknown;
}

export interface GivenAnswer {
  readonly status?: number;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

export type Answering = (request: AskedRequest) => GivenAnswer | Promise<GivenAnswer>;

/** An HTTP server in the place of the control plane; `answer` is the test's and may be changed. */
export async function fakeControlPlane(answer: Answering) {
  const asked: AskedRequest[] = [];
  const state = { answer };
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.once('end', () => {
      const bytes = Buffer.concat(chunks);
      const { method = '', url = '', headers } = request;
      const isJson = headers['content-type'] === 'application/json';
      const json: unknown = isJson ? JSON.parse(bytes.toString()) : undefined;
      const seen = { method, path: url, headers, bytes, json };
      asked.push(seen);
      void Promise.resolve(state.answer(seen)).then(({ status = 200, body, headers: more }) => {
        response.writeHead(status, { 'Content-Type': 'application/json', ...more });
        response.end(body === undefined ? '' : JSON.stringify(body));
      });
    });
  });
  await new Promise<void>(resolve => void server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('The server has no port');
  const origin = `http://127.0.0.1:${address.port}`;
  return {
    origin,
    asked,
    /** Replaces what it answers. */
    use: (next: Answering): void => {
      state.answer = next;
    },
    client: new ControlClient({ origin, routes: new Routes(), clock: systemClock }),
    [Symbol.asyncDispose]: async (): Promise<void> => {
      server.closeAllConnections();
      await new Promise<void>(resolve => void server.close(() => resolve()));
    },
  };
}

/** A refusal as the control plane writes it. */
export function problem(status: number, code: string, more: object = {}): GivenAnswer {
  return {
    status,
    headers: { 'Content-Type': 'application/problem+json' },
    body: { type: 'about:blank', title: code, status, code, ...more },
  };
}
