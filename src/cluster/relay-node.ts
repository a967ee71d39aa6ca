import { assert } from '../base/assert.ts';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import { isRendezvousId, nodeTagOf } from '../protocol/ids.ts';
import { meshHeadOf, meshMessage, type MeshHead } from '../protocol/mesh-messages.ts';
import type { MeshMessage } from '../protocol/mesh-frames.ts';
import { entityKey } from '../protocol/request-path.ts';
import { isRefusalReason } from '../protocol/refusals.ts';
import type { HybridConnection } from '../relay/hybrid-connection.ts';
import type {
  Channel,
  Claim,
  ClaimedPlace,
  ClaimRefusal,
  Cluster,
  EntityName,
  ListenerResponse,
  Pending,
  Randomness,
  ReachableListener,
  RelayRequest,
} from '../relay/ports.ts';
import type { DialAction, DialOutcome } from '../relay/given-addresses.ts';
import type { Relay } from '../relay/relay.ts';
import { HandedStream } from './handed-stream.ts';
import { Lingering } from './lingering.ts';
import type {
  DirectoryEvent,
  ListenerDirectory,
  ListenerRow,
  NodeRecord,
} from './listener-directory.ts';
import type { Mesh } from './mesh.ts';
import type { Answer } from './mesh-wire.ts';
import type { MeshStream } from './mesh-stream.ts';
import { newStreamKey } from './stream-records.ts';
import { RemoteListener } from './remote-listener.ts';

/** How long a node waits for what it asked another one: a round trip, with room for a slow moment. */
const ASK_TIMEOUT_MS = 5_000;
/** How long a stream that was agreed upon may take to come. */
const STREAM_TIMEOUT_MS = 5_000;
/** Offers of other nodes that listeners here hold at once. */
const FOREIGN_OFFERS_MAX = 50_000;

export interface RelayNodeDeps {
  readonly directory: ListenerDirectory;
  readonly clock: Clock;
  readonly mesh: Pick<
    Mesh,
    'isUp' | 'send' | 'request' | 'openStream' | 'expectEither' | 'giveChannel' | 'giveUpStreams'
  >;
  readonly random: Randomness;
  readonly log: Logger;
  readonly listenersMax: number;
  readonly nodeTag: string;
  /** The node of a tag; undefined: nobody alive has it. */
  readonly nodeOfTag: (tag: string) => string | undefined;
  /** `lingeringNodes` has changed. */
  readonly onLingering: () => void;
  /** Makes a stream from another node a channel of the data plane. */
  readonly channelOf: (stream: MeshStream) => Channel | undefined;
  /** Joins a listener's rendezvous here with the stream to its sender's node. */
  readonly joinHop: (rendezvous: Channel, stream: Channel) => void;
}

/** An offer of another node's that a listener here holds. */
interface ForeignOffer {
  readonly node: string;
  readonly listener: ReachableListener;
  readonly pending: Pending;
}

/**
 * This node among the others: what the relay asks of them, and what they ask of it. The directory says
 * who listens where; the mesh carries what is said. Payload crosses at most one hop, on a stream of its
 * own.
 */
export class RelayNode implements Cluster {
  readonly nodeTag: string;
  readonly #deps: RelayNodeDeps;
  /** Control channels here, by their key in the directory. */
  readonly #own = new Map<string, ReachableListener>();
  /** Listeners elsewhere; one object a row, for it counts what is pending. */
  readonly #remote = new Map<string, RemoteListener>();
  /** What was put before them, by its id. Bounded by `sendersMax`: each sender asks one at a time. */
  readonly #asked = new Map<string, RemoteListener>();
  readonly #foreign = new Map<string, ForeignOffer>();
  readonly #lingering: Lingering;
  /** Hybrid connections whose listeners elsewhere became known before there was a relay to tell. */
  readonly #early = new Map<string, EntityName>();
  #relay: Relay | undefined;

  constructor(deps: RelayNodeDeps) {
    this.#deps = deps;
    this.nodeTag = deps.nodeTag;
    this.#lingering = new Lingering({
      clock: deps.clock,
      isAway: node => deps.directory.announcements.isAway(node),
      onEnd: rows => {
        for (const row of rows) this.#forget(row);
        deps.onLingering();
      },
    });
    deps.directory.observe(event => this.#directoryChanged(event));
  }

  /** The relay that this node runs; call once, before anything is offered. */
  serve(relay: Relay): void {
    this.#relay = relay;
    for (const name of this.#early.values()) this.#refreshNamed(name);
    this.#early.clear();
  }

  /** Nodes that the directory has lost and that we are linked with. */
  lingeringNodes(): readonly NodeRecord[] {
    return this.#lingering.nodes();
  }

  get foreignOffers(): number {
    return this.#foreign.size;
  }

  claim(claim: Claim, decided: (place: ClaimedPlace | ClaimRefusal) => void): void {
    const { directory, listenersMax, log, random } = this.#deps;
    const key = random.uuid();
    const row = { ...claim, key, hybridConnection: entityKey(claim.hybridConnection) };
    let isReleased = false;
    const release = (): void => {
      if (isReleased) return;
      isReleased = true;
      this.#own.delete(key);
      directory.release(key).catch((error: unknown) => log.error({ err: error }, 'release failed'));
    };
    directory.claim(row, { listenersMax }).then(
      result => {
        if (result.type !== 'claimed') {
          decided(result.type === 'quota-reached' ? 'listeners-max' : 'overloaded');
          return;
        }
        decided({ opened: listener => this.#own.set(key, listener), release });
      },
      (error: unknown) => {
        log.error({ err: error }, 'claim failed');
        decided('overloaded');
      },
    );
  }

  answerElsewhere(from: EntityName, response: ListenerResponse, body: Uint8Array): boolean {
    const { requestId } = response;
    const offer = this.#foreign.get(requestId);
    // Without an offer: the listener reconnected, and answers on another node than it was asked on.
    const node = offer?.node ?? this.#nodeOf(requestId);
    if (node === undefined) return false;
    if (offer !== undefined) this.#settleForeign(requestId, offer);
    const head = {
      ...from,
      id: requestId,
      statusCode: response.statusCode,
      statusDescription: response.statusDescription,
      responseHeaders: response.responseHeaders,
    };
    // The body is lent for the call, and the mesh keeps it until it is sent.
    return this.#deps.mesh.send(node, meshMessage('response', head, body.slice()));
  }

  /** A listener dialled here; undefined: the address is from this node, or from none there is. */
  dialElsewhere(request: RelayRequest, action: DialAction): Promise<DialOutcome> | undefined {
    const { id } = request.query;
    const node = id === undefined ? undefined : this.#nodeOf(id);
    return id === undefined || node === undefined
      ? undefined
      : this.#dial(node, id, request, action);
  }

  /** Looks again at who listens elsewhere: the hybrid connection has just come into being. */
  refresh(hybridConnection: HybridConnection): void {
    const { directory } = this.#deps;
    const { namespace } = hybridConnection;
    const name = entityKey(hybridConnection.name);
    const rows = [
      ...directory.listenersOf(namespace, name),
      ...this.#lingering.rowsOf(namespace, name),
    ];
    const self = directory.self().node;
    hybridConnection.setElsewhere(
      rows.filter(row => row.node !== self).map(row => this.#remoteOf(row)),
    );
  }

  async #dial(
    node: string,
    id: string,
    request: RelayRequest,
    action: DialAction,
  ): Promise<DialOutcome> {
    const { mesh } = this.#deps;
    const { query, headers } = request;
    const protocols = headers
      .filter(([name]) => name === 'sec-websocket-protocol')
      .map(([, value]) => value)
      .join(', ');
    const reply = await mesh.request(
      node,
      meshMessage('dial', {
        id,
        action,
        protocols: protocols === '' ? undefined : protocols,
        rejectStatus: query.statusCode,
        rejectDescription: query.statusDescription,
        userQuery: query.userQuery,
      }),
      ASK_TIMEOUT_MS,
    );
    const head = reply.type === 'answered' ? meshHeadOf('dial-answer', reply.message) : undefined;
    if (head?.outcome === 'rejected') return { rejected: true };
    if (head?.outcome !== 'go-on' || head.streamKey === undefined) {
      // A node that is gone has taken its senders with it.
      const given = head?.reason;
      const reason = given !== undefined && isRefusalReason(given) ? given : 'address-unknown';
      return { refused: this.#served().refuse(reason, request, 'rendezvous', head?.text) };
    }
    const { streamKey, protocol } = head;
    return {
      dial: {
        protocol,
        opened: rendezvous => void this.#reach(node, streamKey, rendezvous),
        // The other node notices by the stream that does not come.
        abandon: () => {},
      },
    };
  }

  /** Brings a listener's rendezvous to the node of its sender: as it is, or by a stream. Never rejects. */
  async #reach(node: string, streamKey: string, rendezvous: Channel): Promise<void> {
    const { mesh, joinHop, channelOf, log } = this.#deps;
    try {
      if (await mesh.giveChannel(node, streamKey, rendezvous)) return;
      const channel = channelOf(await mesh.openStream(node, streamKey));
      if (channel === undefined) rendezvous.close(1011, 'The relay failed');
      else joinHop(rendezvous, channel);
    } catch (error) {
      log.warn({ err: error, node }, 'stream to another node failed');
      rendezvous.close(1011, 'The relay failed');
    }
  }

  /** Another node says something. */
  said(node: string, message: MeshMessage, answer: Answer | undefined): void {
    const offer = meshHeadOf('offer', message);
    if (offer !== undefined) return this.#offered(node, offer, message.body);
    const over =
      meshHeadOf('settled', message)?.id ?? meshHeadOf('sender-gone', message)?.id ?? undefined;
    if (over !== undefined) {
      const foreign = this.#foreign.get(over);
      if (foreign?.node === node) this.#settleForeign(over, foreign);
      return;
    }
    const notTaken = meshHeadOf('offer-refused', message)?.id;
    const lost = notTaken ?? meshHeadOf('listener-lost', message)?.id;
    if (lost !== undefined) {
      const asked = this.#asked.get(lost);
      if (asked?.node !== node) return;
      this.#asked.delete(lost);
      if (notTaken === undefined) asked.lost(lost);
      else asked.refused(lost);
      return;
    }
    const response = meshHeadOf('response', message);
    if (response !== undefined) {
      const { id: requestId, namespace, hybridConnection, ...rest } = response;
      this.#served().answerFromElsewhere(
        { namespace, hybridConnection },
        { type: 'response', requestId, ...rest, body: message.body.length > 0 },
        message.body,
      );
      return;
    }
    const dial = meshHeadOf('dial', message);
    if (dial !== undefined && answer !== undefined) {
      answer(this.#answerDial(node, dial));
      return;
    }
    const announced = meshHeadOf('listeners', message);
    if (announced !== undefined) {
      this.#deps.directory.announcements.heard(node, announced);
      for (const row of this.#lingering.released(node, announced.released)) this.#forget(row);
    }
  }

  /** Another node's sender is put before a listener here. */
  #offered(node: string, offer: MeshHead<'offer'>, body: Uint8Array): void {
    const { mesh } = this.#deps;
    const { id, listenerKey, text, hasBody } = offer;
    const listener = this.#own.get(listenerKey);
    if (!isRendezvousId(id)) return;
    const pending: Pending = {
      id,
      listenerLost: () => {
        this.#foreign.delete(id);
        mesh.send(node, meshMessage('listener-lost', { id }));
      },
    };
    const isTaken =
      listener !== undefined &&
      this.#foreign.size < FOREIGN_OFFERS_MAX &&
      listener.offer(pending, text, hasBody ? body : undefined);
    if (isTaken) this.#foreign.set(id, { node, listener, pending });
    else mesh.send(node, meshMessage('offer-refused', { id, reason: 'not-taken' }));
  }

  /** A listener dialled on another node an address of ours. */
  #answerDial(node: string, dial: MeshHead<'dial'>): MeshMessage {
    const relay = this.#served();
    const request = dialledRequest(dial);
    const outcome = dial.action === 'accept' ? relay.accept(request) : relay.openRequest(request);
    if ('rejected' in outcome) return meshMessage('dial-answer', { outcome: 'rejected' });
    if ('refused' in outcome) {
      const { reason, detail } = outcome.refused;
      return meshMessage('dial-answer', { outcome: 'refused', reason, text: detail });
    }
    const { dial: admitted } = outcome;
    const key = newStreamKey();
    const { mesh, channelOf, log } = this.#deps;
    mesh.expectEither({ key, from: node, timeoutMs: STREAM_TIMEOUT_MS }).then(
      stream => {
        const channel = stream instanceof HandedStream ? stream.channel : channelOf(stream);
        if (channel === undefined) admitted.abandon();
        else admitted.opened(channel);
      },
      (error: unknown) => {
        log.warn({ err: error, node }, 'stream from another node did not come');
        admitted.abandon();
      },
    );
    return meshMessage('dial-answer', {
      outcome: 'go-on',
      protocol: admitted.protocol,
      streamKey: key,
    });
  }

  #directoryChanged(event: DirectoryEvent): void {
    const { directory, mesh } = this.#deps;
    switch (event.type) {
      case 'node-joined':
        this.#lingering.nodeIsBack(event.node.node);
        return;
      case 'node-gone':
        if (mesh.isUp(event.node.node)) this.#lingering.keepNode(event.node);
        return;
      case 'listener-added':
        if (event.row.node === directory.self().node) return;
        this.#lingering.rowIsBack(event.row);
        this.#refreshNamed(event.row);
        return;
      case 'listener-removed': {
        const { row, why } = event;
        if (row.node === directory.self().node) return;
        if (why === 'node-gone' && mesh.isUp(row.node)) this.#lingering.keepRow(row);
        else this.#forget(row);
        return;
      }
      default:
    }
  }

  #forget(row: ListenerRow): void {
    const listener = this.#remote.get(row.key);
    this.#remote.delete(row.key);
    this.#refreshNamed(row);
    listener?.lostAll();
  }

  #refreshNamed({ namespace, hybridConnection }: EntityName): void {
    if (this.#relay === undefined) {
      const name = { namespace, hybridConnection };
      this.#early.set(JSON.stringify([namespace, hybridConnection]), name);
      return;
    }
    const found = this.#relay.find({ namespace, hybridConnection });
    if (found !== undefined) this.refresh(found);
  }

  #remoteOf(row: ListenerRow): RemoteListener {
    const known = this.#remote.get(row.key);
    if (known !== undefined) return known;
    const { mesh } = this.#deps;
    const listener: RemoteListener = new RemoteListener(row, {
      send: ({ id, listenerKey, text, body }) => {
        const head = { id, listenerKey, text, hasBody: body !== undefined };
        const isSent = mesh.send(row.node, meshMessage('offer', head, body));
        if (isSent) this.#asked.set(id, listener);
        return isSent;
      },
      settle: id => {
        this.#asked.delete(id);
        mesh.send(row.node, meshMessage('settled', { id }));
      },
    });
    this.#remote.set(row.key, listener);
    return listener;
  }

  /** The link to another node broke. */
  linkDown(node: string): void {
    this.#deps.directory
      .suspect(node)
      .catch((error: unknown) => this.#deps.log.warn({ err: error, node }, 'cannot check a node'));
    this.#lingering.end(node);
    for (const listener of this.#remote.values()) if (listener.node === node) listener.lostAll();
    // A listener that dialled there is told nothing by a node that died; its sender need not wait for that.
    this.#deps.mesh.giveUpStreams(node);
    for (const [id, offer] of this.#foreign) {
      if (offer.node === node) this.#settleForeign(id, offer);
    }
  }

  #settleForeign(id: string, offer: ForeignOffer): void {
    this.#foreign.delete(id);
    offer.listener.settled(offer.pending);
  }

  /** The other node that an id is from; undefined when it is from here, from nobody, or no id. */
  #nodeOf(id: string): string | undefined {
    if (!isRendezvousId(id)) return undefined;
    const tag = nodeTagOf(id);
    return tag === '' || tag === this.nodeTag ? undefined : this.#deps.nodeOfTag(tag);
  }

  #served(): Relay {
    assert(this.#relay !== undefined, 'a relay is served before anything is said');
    return this.#relay;
  }
}

/** What the core looks at when an address is dialled; everything else stayed with the node that was dialled. */
function dialledRequest(dial: MeshHead<'dial'>): RelayRequest {
  const { id, protocols, rejectStatus, rejectDescription, userQuery } = dial;
  return {
    host: '',
    origin: '',
    path: { kind: 'websocket', rawPath: '', segments: [] },
    query: {
      id,
      userQuery,
      ...(rejectStatus === undefined ? {} : { statusCode: rejectStatus }),
      ...(rejectDescription === undefined ? {} : { statusDescription: rejectDescription }),
    },
    headers: protocols === undefined ? [] : [['sec-websocket-protocol', protocols]],
    remote: { address: '', port: 0 },
  };
}
