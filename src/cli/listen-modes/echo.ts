import type { Clock } from '../../base/clock.ts';
import { takeSender, type ListenMode } from './listen-mode.ts';

/** Sends everything back: WebSocket messages fragment by fragment, a request's body as the answer's. */
export function echoMode(deps: { readonly clock: Clock }): ListenMode {
  return {
    accept: async accept => {
      const socket = await takeSender(accept, deps.clock);
      socket.receive({
        fragment: (opcode, fin, payload) => {
          if (!socket.send(opcode, fin, payload)) socket.pause();
        },
        drained: () => socket.resume(),
        closed: (code, reason) => socket.close(code, reason),
        gone: () => undefined,
      });
    },
    answer: ({ method, target, headers, body, hasBody }) => {
      const type = Object.entries(headers).find(([name]) => name.toLowerCase() === 'content-type');
      const contentType = hasBody ? type?.[1] : undefined;
      return Promise.resolve({
        status: 200,
        headers: { 'Content-Type': contentType ?? 'text/plain; charset=utf-8' },
        body: method === 'HEAD' ? undefined : hasBody ? body : `${method} ${target}\n`,
      });
    },
  };
}
