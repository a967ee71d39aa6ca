import { expect, test } from 'vitest';
import { signToken } from '../../src/auth/sign-token.ts';
import { TokenVerifier } from '../../src/auth/verify-token.ts';
import { MemoryCoordinator } from '../../src/cluster/memory-coordinator.ts';
import { openMemoryDirectory } from '../../src/cluster/memory-directory.ts';
import { MeshKeys } from '../../src/cluster/mesh-credentials.ts';
import { MESH_DEFAULTS } from '../../src/cluster/mesh-options.ts';
import { MeshStreams } from '../../src/cluster/mesh-streams.ts';
import { RelayNode } from '../../src/cluster/relay-node.ts';
import { MESH_VERSIONS, type MeshMessage } from '../../src/protocol/mesh-frames.ts';
import { meshHeadOf, meshMessage } from '../../src/protocol/mesh-messages.ts';
import { NamespaceTable } from '../../src/relay/namespaces.ts';
import type { HeldSender } from '../../src/relay/ports.ts';
import { Relay } from '../../src/relay/relay.ts';
import { configOf } from '../support/config-of.ts';
import { reportBug } from '../support/directories.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { TEST_SECRET } from '../support/mesh-node.ts';
import {
  CountingRandomness,
  FakeControlSocket,
  fakeEvents,
  fakeRequest,
} from '../support/relay-doubles.ts';
import { NAMESPACE, ROOT_KEY } from '../support/relay.ts';
import { until } from '../support/within.ts';

const SILENT = { debug(): void {}, info(): void {}, warn(): void {}, error(): void {} };

/** A node with a listener and a sender that waits for it; other nodes are what the test says of them. */
async function stage() {
  const clock = new FakeClock();
  const { directory } = openMemoryDirectory(new MemoryCoordinator(clock), {
    node: 'a',
    meshAddress: 'a.example:7000',
    versions: MESH_VERSIONS,
    reportBug,
  });
  const streams = new MeshStreams({
    clock,
    keys: new MeshKeys({ secret: TEST_SECRET }),
    limits: MESH_DEFAULTS,
    nodeId: 'a',
    onFault: () => {},
    onOpened: () => {},
  });
  const random = new CountingRandomness();
  const node = new RelayNode({
    directory,
    clock,
    mesh: {
      isUp: () => true,
      send: () => true,
      request: () => Promise.resolve({ type: 'failed', why: 'down' }),
      openStream: (_node, key) => streams.open(undefined, key, {}),
      expectEither: expectation => streams.expectEither(expectation),
      giveUpStreams: from => streams.giveUp(from),
      giveChannel: () => Promise.resolve(false),
    },
    random,
    log: SILENT,
    listenersMax: 25,
    nodeTag: '',
    nodeOfTag: () => undefined,
    onLingering: () => {},
    channelOf: () => undefined,
    joinHop: () => {},
  });
  const relay = new Relay({
    namespaces: new NamespaceTable([NAMESPACE], 0),
    verifier: new TokenVerifier(),
    clock,
    random,
    events: fakeEvents(clock).events,
    dataPlane: { join: () => false },
    cluster: node,
    limits: configOf({}),
    autoCreate: false,
  });
  node.serve(relay);
  const control = new FakeControlSocket();
  const token = signToken({
    audience: 'http://relay.example.com/open/',
    keyName: 'root',
    key: ROOT_KEY,
    expiresAtSec: Math.floor(clock.wallMs() / 1_000) + 3_600,
  });
  const listening = fakeRequest('/$hc/open?sb-hc-action=listen', {
    headers: [['servicebusauthorization', token]],
  });
  await new Promise<void>((resolve, reject) => {
    relay.listen(listening, outcome => {
      if ('reason' in outcome) reject(new Error(outcome.text));
      else {
        outcome.open(control);
        resolve();
      }
    });
  });
  const told: string[] = [];
  const sender: HeldSender = {
    complete: () => told.push('complete'),
    refuse: ({ reason }) => told.push(reason),
    reject: status => told.push(`${status}`),
  };
  relay.connect(fakeRequest('/$hc/open?sb-hc-action=connect'), sender);
  /** The listener dials, at node b, the address that it was given last. */
  const dialAtB = (): string | undefined => {
    const text = control.sent.at(-1)?.text ?? '';
    const id = /sb-hc-id=([\w-]+)/.exec(text)?.[1] ?? '';
    let answer: MeshMessage | undefined;
    node.said('b', meshMessage('dial', { id, action: 'accept', userQuery: '' }), message => {
      answer = message;
      return true;
    });
    return answer === undefined ? undefined : meshHeadOf('dial-answer', answer)?.outcome;
  };
  return { clock, node, streams, control, told, dialAtB };
}

test('linkDown() gives up the stream that was to come from there: the listener is asked again at once', async () => {
  const it = await stage();
  expect(it.dialAtB()).toBe('go-on');
  expect(it.streams.expectedStreams).toBe(1);
  it.node.linkDown('c');
  expect(it.streams.expectedStreams).toBe(1);
  it.node.linkDown('b');
  expect(it.streams.expectedStreams).toBe(0);
  // No time has passed on this clock.
  await until('it is asked again', () => it.control.sent.length === 2);
  expect(it.dialAtB()).toBe('go-on');
  expect(it.told).toEqual([]);
});
