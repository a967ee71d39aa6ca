import type { HttpResponse } from 'uWebSockets.js';
import { formatPollTerms, POLL_PATH, type PollSessionId } from '../../protocol/poll-session.ts';
import type { ControlChannel } from '../../relay/control-channel.ts';
import type { ControlSocket, Refused, RelayRequest } from '../../relay/ports.ts';
import type { ControlSocketLimits } from '../control-socket.ts';
import {
  Handshake,
  roleOf,
  type HandshakeAnswer,
  type HandshakeOptions,
  type OnChannel,
} from '../handshake.ts';
import { writeGone, writeRefusal, writeRejection } from '../refusal-response.ts';
import { handshakeHeaders } from './handshake-headers.ts';
import { ControlPollSocket } from './control-poll-socket.ts';
import { PollChannel } from './poll-channel.ts';
import type { SessionRole } from './poll-metrics.ts';
import type { PollSession } from './poll-session.ts';
import { POLL_BATCH_BYTES_MAX, type PollSessions, type ReservedSession } from './poll-sessions.ts';

export interface PollOpeningOptions extends HandshakeOptions {
  readonly sessions: PollSessions;
  readonly control: ControlSocketLimits;
  /** What the frames that wait for one client count for before what it is joined with is paused. */
  readonly bufferBytesMax: number;
  /** `http://host` where clients reach this very node; undefined: where they came to. */
  readonly nodeUrl: string | undefined;
}

/** `POST /$hc/…?sb-hc-transport=poll`: the handshake of a WebSocket, with a session for an outcome. */
export function openPollSession(
  options: PollOpeningOptions,
  response: HttpResponse,
  asked: RelayRequest,
): void {
  const request = { ...asked, headers: handshakeHeaders(asked.headers) };
  const reserved = options.sessions.reserve();
  if (reserved === undefined) {
    const role = roleOf(request.query.action?.toLowerCase() ?? '');
    const refused = options.relay.refuse('sessions-max', request, role);
    response.cork(() => writeRefusal(response, refused, { closeConnection: true }));
    return;
  }
  const handshake = new Handshake(options, request, new PollAnswer(options, response, reserved));
  response.onAborted(() => {
    reserved.release();
    handshake.clientGone();
  });
  handshake.begin(undefined);
}

/** 201 for a session, and the usual refusals. */
class PollAnswer implements HandshakeAnswer {
  readonly #options: PollOpeningOptions;
  readonly #response: HttpResponse;
  readonly #reserved: ReservedSession;

  constructor(options: PollOpeningOptions, response: HttpResponse, reserved: ReservedSession) {
    this.#options = options;
    this.#response = response;
    this.#reserved = reserved;
  }

  letIn(role: SessionRole, protocol: string | undefined, onChannel: OnChannel): void {
    const { outbox, bufferBytesMax } = this.#options;
    this.#open(role, protocol, session =>
      onChannel(new PollChannel(session, outbox, bufferBytesMax)),
    );
  }

  letListenerIn(open: (socket: ControlSocket) => ControlChannel): void {
    const { outbox, control } = this.#options;
    this.#open('listener', undefined, session =>
      new ControlPollSocket(session, outbox, control).open(open),
    );
  }

  refuse(refused: Refused): void {
    this.#reserved.release();
    this.#response.cork(() => writeRefusal(this.#response, refused, { closeConnection: true }));
  }

  reject(status: number, description: string): void {
    this.#reserved.release();
    this.#response.cork(() => writeRejection(this.#response, status, description));
  }

  gone(): void {
    this.#reserved.release();
    this.#response.cork(() => writeGone(this.#response));
  }

  #open(
    role: SessionRole,
    protocol: string | undefined,
    use: (session: PollSession) => void,
  ): void {
    const { id, session } = this.#reserved.open(role);
    use(session);
    const terms = this.#terms(id, protocol);
    this.#response.cork(() =>
      this.#response
        .writeStatus('201 Created')
        .writeHeader('Location', `${this.#options.nodeUrl ?? ''}/${POLL_PATH}/${id}`)
        .writeHeader('Content-Type', 'application/json')
        .writeHeader('Cache-Control', 'no-store')
        .end(terms),
    );
  }

  #terms(id: PollSessionId, protocol: string | undefined): string {
    const { expiryMs, holdMs, windowBytes } = this.#options.sessions.limits;
    return formatPollTerms({
      session: id,
      protocol: protocol ?? '',
      holdMs,
      expiryMs,
      credit: windowBytes,
      batchBytesMax: POLL_BATCH_BYTES_MAX,
    });
  }
}
