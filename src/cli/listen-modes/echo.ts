import type { ListenMode } from './listen-mode.ts';

/** Sends everything back: WebSocket messages fragment by fragment, a request's body as the answer's. */
export function echoMode(): ListenMode {
  return {
    accept: async offer => {
      const channel = await offer.acceptChannel();
      channel.receive({
        fragment: (opcode, fin, payload) => {
          if (!channel.send(opcode, fin, payload)) channel.pause();
        },
        drained: () => channel.resume(),
        closed: (code, reason) => channel.close(code, reason),
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
