// A node of the mesh in a process of its own, told what to do over its IPC channel: it answers every
// question with the question itself, and sends back what comes on streams that it is told to expect.
import { OPCODE } from '../../src/relay/ports.ts';
import { startMeshNode } from './mesh-node.ts';

export type ToMeshChild =
  | { readonly type: 'nodes'; readonly nodes: Parameters<typeof node.list.set>[0] }
  | { readonly type: 'expect'; readonly key: string };

export type FromMeshChild =
  | { readonly type: 'started'; readonly port: number }
  | { readonly type: 'expecting' };

const [nodeId = 'child'] = process.argv.slice(2);
const node = await startMeshNode({
  nodeId,
  onMessage: ({ message, answer }) => answer?.(message),
});

function tell(message: FromMeshChild): void {
  process.send?.(message);
}

process.on('message', (message: ToMeshChild) => {
  if (message.type === 'nodes') node.list.set(message.nodes);
  else void echo(message.key);
});

async function echo(key: string): Promise<void> {
  const expected = node.mesh.expectStream({ key, timeoutMs: 5_000 });
  tell({ type: 'expecting' });
  const stream = await expected;
  const channel = stream.channel();
  channel?.receive({
    fragment: (opcode, fin, payload) => {
      if (!channel.send(opcode, fin, payload)) channel.pause();
    },
    drained: () => channel.resume(),
    closed: (code, reason) => channel.close(code, reason),
    gone: () => {},
  });
  channel?.resume();
  channel?.send(OPCODE.text, true, Buffer.from(`stream from ${stream.nodeId}`));
}

process.on('disconnect', () => process.exit());
tell({ type: 'started', port: node.mesh.port });
