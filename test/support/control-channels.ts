import type { NamespaceDescription } from '../../src/protocol/resources.ts';
import {
  ControlChannel,
  type DisconnectReason,
  type Renewal,
} from '../../src/relay/control-channel.ts';
import { HybridConnection } from '../../src/relay/hybrid-connection.ts';
import type { FakeClock } from './fake-clock.ts';
import { FakeControlSocket, fakeEvents, type FakeMeter } from './relay-doubles.ts';

export const TOKEN_GRACE_MS = 300_000;

export interface ControlChannelUnderTest {
  readonly channel: ControlChannel;
  readonly socket: FakeControlSocket;
  readonly meter: FakeMeter;
  readonly hybridConnection: HybridConnection;
  /** Tokens that were to be renewed. */
  readonly renewals: string[];
  readonly ends: DisconnectReason[];
}

export function hybridConnection(
  name = 'hyco',
  terms: { readonly replacesListener?: boolean } = {},
): HybridConnection {
  const description: NamespaceDescription['hybridConnections'][number] = {
    name,
    requiresClientAuthorization: true,
    userMetadata: '',
    authorizationRules: [],
  };
  const written = { origin: 'config-file', createdAtMs: 0, updatedAtMs: 0 } as const;
  return new HybridConnection('tests', { ...description, ...written, ...terms });
}

/** A control channel over a fake socket, with a token for an hour unless told otherwise. */
export function controlChannel(
  clock: FakeClock,
  about: {
    readonly hybridConnection?: HybridConnection;
    readonly listenerId?: string;
    readonly expiresAtMs?: number;
    readonly renew?: (token: string) => Renewal;
  } = {},
): ControlChannelUnderTest {
  const socket = new FakeControlSocket();
  const { events, meter } = fakeEvents(clock);
  const renewals: string[] = [];
  const ends: DisconnectReason[] = [];
  const entity = about.hybridConnection ?? hybridConnection();
  const channel = new ControlChannel(
    {
      hybridConnection: entity,
      listenerId: about.listenerId ?? '1c048eb5-77c4-4b85-96fd-fa526801af35',
      origin: 'wss://relay.example.com',
    },
    socket,
    about.expiresAtMs ?? clock.wallMs() + 3_600_000,
    {
      clock,
      events,
      tokenGraceMs: TOKEN_GRACE_MS,
      renew: token => {
        renewals.push(token);
        return about.renew?.(token) ?? { expiresAtMs: clock.wallMs() + 3_600_000 };
      },
      answerElsewhere: () => false,
      onEnd: (_listener, reason) => ends.push(reason),
    },
  );
  entity.add(channel);
  return { channel, socket, meter, hybridConnection: entity, renewals, ends };
}
