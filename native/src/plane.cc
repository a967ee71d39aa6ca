#include "plane.h"
#include "handover.h"

#include <cerrno>
#include <fcntl.h>
#include <memory>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

namespace halfway {

namespace {

/** How much of a context is searched for its handlers. They stand near its front; no known build is smaller. */
constexpr size_t kContextWords = 24;

/** A queue up to this size does not pause its source at once: it is often gone before the source sends again. */
constexpr size_t kQueueLeniencyBytes = 64 * 1024;

/** One write takes at most this much, for uSockets counts in int. */
constexpr size_t kWriteBytesMax = size_t{1} << 30;

/**
 * What the kernel may hold of a raw leg's output on a Unix socket. TCP grows by itself; there it stays at what the
 * system gives everyone, of which one receive fills more than there is. The system's limit may be below it.
 */
constexpr int kLocalSendBytes = 1 << 20;

constexpr double kSlots = 1 << 20;

/**
 * What a raw leg gives nothing of can still be on its way from the other node to a slow client, unseen from here. The
 * other node judges its client, and the mesh the other node; so this is only the last resort: times `stallMs`.
 */
constexpr double kNodePatience = 10;

int domain_of(int fd) {
  int domain = 0;
  socklen_t size = sizeof domain;
  return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 ? domain : AF_UNSPEC;
}

// Handlers of our own context. uSockets calls each without asking whether there is one; all its sockets are legs.
us_socket_t *ignore_open(us_socket_t *socket, int, char *, int) { return socket; }
us_socket_t *ignore_data(us_socket_t *socket, char *, int) { return socket; }
us_socket_t *ignore_event(us_socket_t *socket) { return socket; }
us_socket_t *ignore_close(us_socket_t *socket, int, void *) { return socket; }

} // namespace

Plane &Plane::instance() {
  static Plane plane;
  return plane;
}

// ---- Hooks -----------------------------------------------------------------------------------------------------------

/**
 * There is no getter for handlers, and no struct is known. So each setter is called, and the one pointer-sized word of
 * the context that changes, to our function, held the old handler. Anything else is refused.
 */
int Plane::hook(us_socket_context_t *context) {
  loop_ = us.context_loop(0, context);
  Hook *known = hook_of(context);
  if (known != nullptr) {
    DataHandler current;
    memcpy(&current, reinterpret_cast<char *>(context) + known->offset, sizeof current);
    if (current == on_data) return 0;
    // The context was freed, and another one stands where it stood.
    *known = hooks_.back();
    hooks_.pop_back();
  }

  Hook hook{};
  hook.context = context;
  const auto replace = [&](auto set, auto ours, auto &old) {
    uintptr_t before[kContextWords], after[kContextWords];
    memcpy(before, context, sizeof before);
    set(0, context, ours);
    memcpy(after, context, sizeof after);
    int changed = 0;
    for (size_t i = 0; i < kContextWords; i += 1) {
      if (before[i] == after[i]) continue;
      changed += 1;
      if (after[i] != reinterpret_cast<uintptr_t>(ours) || before[i] == 0) return false;
      memcpy(&old, &before[i], sizeof old);
      hook.offset = i * sizeof(uintptr_t);
    }
    return changed == 1;
  };
  // The data handler last, for its place is remembered. A refusal half-way gives back what was taken.
  const bool hooked = replace(us.context_on_writable, on_writable, hook.writable) &&
                      replace(us.context_on_end, on_end, hook.end) && replace(us.context_on_close, on_close, hook.close) &&
                      replace(us.context_on_data, on_data, hook.data);
  if (hooked) {
    hooks_.push_back(hook);
    return 1;
  }
  if (hook.writable != nullptr) us.context_on_writable(0, context, hook.writable);
  if (hook.end != nullptr) us.context_on_end(0, context, hook.end);
  if (hook.close != nullptr) us.context_on_close(0, context, hook.close);
  if (hook.data != nullptr) us.context_on_data(0, context, hook.data);
  return -1;
}

Plane::Hook *Plane::hook_of(us_socket_context_t *context) {
  for (Hook &hook : hooks_) {
    if (hook.context == context) return &hook;
  }
  return nullptr;
}

const Plane::Hook &Plane::hook_of(us_socket_t *socket) { return *hook_of(us.socket_context(0, socket)); }

Leg *Plane::leg_of(us_socket_t *socket) const {
  const auto fd = static_cast<size_t>(us.poll_fd(poll_of(socket)));
  Leg *leg = fd < byFd_.size() ? byFd_[fd] : nullptr;
  return leg != nullptr && leg->socket == socket ? leg : nullptr;
}

// ---- The four events of uSockets -------------------------------------------------------------------------------------

us_socket_t *Plane::on_data(us_socket_t *socket, char *data, int length) {
  Plane &plane = instance();
  Leg *leg = plane.leg_of(socket);
  if (leg == nullptr) return plane.hook_of(socket).data(socket, data, length);
  plane.receive(*leg, data, static_cast<size_t>(length));
  // uSockets receives again, in the same event and even from a paused socket, as long as the buffer comes back full.
  // Null stops that: no flood may keep the others waiting.
  return nullptr;
}

us_socket_t *Plane::on_writable(us_socket_t *socket) {
  Plane &plane = instance();
  Leg *leg = plane.leg_of(socket);
  if (leg == nullptr) return plane.hook_of(socket).writable(socket);
  plane.isInWritable_ = true;
  plane.flush(*leg);
  plane.isInWritable_ = false;
  return socket;
}

us_socket_t *Plane::on_end(us_socket_t *socket) {
  Plane &plane = instance();
  Leg *leg = plane.leg_of(socket);
  if (leg == nullptr) return plane.hook_of(socket).end(socket);
  leg->gotEnd = true;
  // A client that has sent Close has the right to send FIN, and still to receive: only its input is over. Another node
  // sends FIN when the pair is over for it, and takes nothing more.
  if (!leg->inputDone || leg->isRaw) plane.lose(*leg, Cause::lost);
  if (leg->finSent) plane.schedule(*leg, kDueCut);
  plane.update_poll(*leg);
  return socket;
}

us_socket_t *Plane::on_close(us_socket_t *socket, int code, void *reason) {
  Plane &plane = instance();
  const Hook hook = plane.hook_of(socket);
  Leg *leg = plane.leg_of(socket);
  if (leg != nullptr) {
    plane.byFd_[static_cast<size_t>(leg->fd)] = nullptr;
    leg->socket = nullptr;
    leg->queue.clear();
    if (leg->mode == Mode::spliced) {
      if (!leg->inputDone) plane.relay_held(*leg);
      plane.lose(*leg, Cause::lost);
    } else if (leg->mode == Mode::parked) {
      plane.parkedBytes_ -= leg->held.size();
      leg->held.clear();
    }
    plane.schedule(*leg, kDueGone);
  }
  return hook.close(socket, code, reason);
}

// ---- Receiving -------------------------------------------------------------------------------------------------------

void Plane::receive(Leg &leg, char *data, size_t length) {
  if (leg.inputDone) return;
  switch (leg.mode) {
  case Mode::spliced:
    // Held input goes first. It is looked at in this very iteration, so this is rare.
    if (!leg.held.empty()) relay_held(leg);
    if (!leg.inputDone) relay(leg, data, length);
    return;
  case Mode::parked:
    if (static_cast<double>(parkedBytes_ + length) > options.parkedBytesMax) return fail(leg, kTooBig);
    parkedBytes_ += length;
    return hold(leg, data, length);
  case Mode::delivered:
    leg.activity += 1;
    if (leg.isPaused || !leg.held.empty()) return hold(leg, data, length);
    const size_t taken = host_->deliver(leg, data, data, length);
    if (taken < length && !leg.inputDone) hold(leg, data + taken, length - taken);
    return;
  }
}

void Plane::hold(Leg &leg, const char *data, size_t length) {
  leg.held.append(data, length);
  update_poll(leg);
}

/** The hot path: a receive of one leg becomes one write to the other. */
void Plane::relay(Leg &leg, char *data, size_t length) {
  Leg &peer = *leg.peer;
  const Relayed relayed = relay_frames(leg.reader, data, data + length,
                                       [&](const char *bytes, size_t count) { send(peer, bytes, count); });
  Pair &pair = *leg.pair;
  const size_t side = leg.side;
  pair.bytes[side] += relayed.dataBytes;
  pair.frames[side] += relayed.dataFrames;
  pair.counters[side] += static_cast<double>(relayed.dataBytes);
  pair.counters[2 + side] += static_cast<double>(relayed.dataFrames);
  if (relayed.end != relayed.start) send(peer, relayed.start, static_cast<size_t>(relayed.end - relayed.start));

  if (__builtin_expect(relayed.closed, 0)) {
    const FrameReader &reader = leg.reader;
    const int code = reader.close_code();
    if (code == 0) return fail(leg, kProtocolError);
    leg.closeCode = code;
    end_input(leg, Cause::close);
    send_control(peer, kOpcodeClose, reader.control, reader.controlLength);
    peer.outputDone = true;
    if (peer.inputDone) {
      finish(leg);
      finish(peer);
    }
    return;
  }
  if (__builtin_expect(relayed.fault != 0, 0)) return fail(leg, relayed.fault);
  if (__builtin_expect(!peer.queue.empty(), 0)) {
    // A short rest is let pass once; what comes while it still waits pauses the source, whatever its size.
    if (peer.queue.size() > kQueueLeniencyBytes || leg.isLenient) {
      leg.isLenient = false;
      leg.isPaused = true;
      totals.pauses += 1;
      update_poll(leg);
    } else {
      leg.isLenient = true;
    }
  }
}

void Plane::relay_held(Leg &leg) {
  // Rare: once in the life of a pair, at most. Frames that are not masked are longer than they were by up to 10 bytes,
  // which need room in front.
  const size_t length = leg.held.size();
  if (length == 0) return;
  const std::unique_ptr<char[]> copy(new char[kReceivePadding + length]);
  memcpy(copy.get() + kReceivePadding, leg.held.data(), length);
  leg.held.clear();
  relay(leg, copy.get() + kReceivePadding, length);
}

size_t Plane::deliver_frames(Leg &leg, char *data, size_t length) {
  FrameReader &reader = leg.reader;
  char *in = data;
  char *const end = data + length;
  while (in < end && !leg.isPaused && !leg.inputDone) {
    if (reader.state == FrameReader::State::payload) {
      const size_t part = std::min<uint64_t>(reader.remaining, static_cast<uint64_t>(end - in));
      char *const payload = in;
      reader.take_payload(payload, payload, part);
      reader.remaining -= part;
      in += part;
      leg.bytesReceived += part;
      const bool isFirst = reader.isFirstPart, isLast = reader.remaining == 0;
      reader.isFirstPart = false;
      if (isLast) reader.state = FrameReader::State::header;
      host_->chunk(leg, reader.firstByte, isFirst, isLast, payload, part);
      continue;
    }
    if (reader.state == FrameReader::State::header) {
      const int read = reader.read_header(in, end);
      if (read == 0) break;
      if (read != 1) {
        fail(leg, read);
        break;
      }
      if (reader.is_data()) {
        leg.framesReceived += 1;
        if (reader.remaining != 0) reader.state = FrameReader::State::payload;
        else host_->chunk(leg, reader.firstByte, true, true, in, 0);
        continue;
      }
      reader.state = FrameReader::State::control;
      reader.controlLength = 0;
    }
    if (reader.collect_control(in, end)) {
      reader.state = FrameReader::State::header;
      deliver_control(leg);
    }
  }
  return static_cast<size_t>(in - data);
}

void Plane::deliver_control(Leg &leg) {
  const FrameReader &reader = leg.reader;
  if (reader.opcode() == kOpcodePong) return;
  if (reader.opcode() == kOpcodePing) {
    memcpy(leg.pong, reader.control, reader.controlLength);
    leg.pongLength = reader.controlLength;
    leg.owesPong = true;
    return answer_ping(leg);
  }
  const int code = reader.close_code();
  if (code == 0) return fail(leg, kProtocolError);
  leg.closeCode = code;
  end_input(leg, Cause::close);
  if (leg.outputDone) finish(leg);
  const size_t reasonLength = code == kNoCode ? 0 : reader.controlLength - 2u;
  host_->close_frame(leg, code, reader.control + 2, reasonLength);
}

void Plane::deliver_held(Leg &leg) {
  // JavaScript sees this memory through one ArrayBuffer for ever, so it is never freed. It calls no other leg's
  // deliver_held, so one is enough.
  static char *const scratch = new char[kReceiveBytesMax];
  while (!leg.held.empty() && !leg.isPaused && !leg.inputDone) {
    const size_t length = std::min(leg.held.size(), kReceiveBytesMax);
    memcpy(scratch, leg.held.data(), length);
    leg.held.consume(host_->deliver(leg, scratch, scratch, length));
  }
}

// ---- Sending ---------------------------------------------------------------------------------------------------------

bool Plane::is_between_frames(const Leg &leg) const {
  if (leg.mode == Mode::spliced) return !leg.peer->reader.is_inside_frame();
  return leg.outFragmentLeft == 0 && leg.rawHave == 0 && leg.rawRemaining == 0;
}

/** Writes what the socket takes, and returns how much that was. A write that can never succeed breaks the leg. */
size_t Plane::send_now(Leg &leg, const char *data, size_t length) {
  if (__builtin_expect(isInWritable_, 0)) {
    // After on_writable uSockets stops asking for writable unless one of its own writes came out short meanwhile.
    const int written = us.socket_write(0, leg.socket, data, static_cast<int>(std::min(length, kWriteBytesMax)), 0);
    if (written > 0) return static_cast<size_t>(written);
    // Zero hides the cause. A broken pipe would be reported as writable again and again.
    pollfd look{leg.fd, 0, 0};
    if (::poll(&look, 1, 0) == 1) {
      leg.isBroken = true;
      schedule(leg, kDueCut);
    }
    return 0;
  }
  const ssize_t written = ::send(leg.fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (__builtin_expect(written >= 0, 1)) return static_cast<size_t>(written);
  if (errno == EPIPE || errno == ECONNRESET || errno == ETIMEDOUT || errno == EHOSTUNREACH || errno == ENETUNREACH) {
    leg.isBroken = true;
    schedule(leg, kDueCut);
  }
  return 0;
}

void Plane::send(Leg &leg, const char *data, size_t length) {
  if (__builtin_expect(leg.queue.empty() && leg.isReady && leg.socket != nullptr && !leg.isBroken, 1)) {
    const size_t written = send_now(leg, data, length);
    if (__builtin_expect(written == length, 1)) return;
    data += written;
    length -= written;
  }
  if (leg.socket == nullptr || leg.isBroken) return;
  const bool wasEmpty = leg.queue.empty();
  leg.queue.append(data, length);
  if (wasEmpty) update_poll(leg);
}

void Plane::send_parts(Leg &leg, const char *header, size_t headerLength, const char *payload, size_t length) {
  if (leg.queue.empty() && leg.isReady && length > 1024) {
    const iovec parts[] = {{const_cast<char *>(header), headerLength}, {const_cast<char *>(payload), length}};
    msghdr message{};
    message.msg_iov = const_cast<iovec *>(parts);
    message.msg_iovlen = 2;
    const ssize_t sent = ::sendmsg(leg.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    // An error is found, and told apart, by the plain write that follows.
    const size_t written = sent < 0 ? 0 : static_cast<size_t>(sent);
    if (written == headerLength + length) return;
    if (written < headerLength) {
      send(leg, header + written, headerLength - written);
      return send(leg, payload, length);
    }
    return send(leg, payload + (written - headerLength), length - (written - headerLength));
  }
  if (length <= 1024) {
    char whole[kHeaderBytesMax + 1024];
    memcpy(whole, header, headerLength);
    memcpy(whole + headerLength, payload, length);
    return send(leg, whole, headerLength + length);
  }
  send(leg, header, headerLength);
  send(leg, payload, length);
}

void Plane::send_control(Leg &leg, uint8_t opcode, const char *payload, size_t length) {
  char header[kHeaderBytesMax];
  send_parts(leg, header, write_header(header, kFin | opcode, length), payload, length);
}

/** Pongs wait while the queue does: a peer that pings and does not read gets one answer, and costs one. */
void Plane::answer_ping(Leg &leg) {
  if (!leg.owesPong || !leg.queue.empty() || leg.outputDone || !is_between_frames(leg)) return;
  leg.owesPong = false;
  send_control(leg, kOpcodePong, leg.pong, leg.pongLength);
}

void Plane::flush(Leg &leg) {
  while (!leg.queue.empty() && !leg.isBroken) {
    const size_t length = leg.queue.size();
    const size_t written = send_now(leg, leg.queue.data(), length);
    leg.queue.consume(written);
    if (written < length) break;
  }
  if (leg.queue.empty()) drained(leg);
  update_poll(leg);
}

void Plane::drained(Leg &leg) {
  answer_ping(leg);
  if (!leg.queue.empty()) return;
  if (leg.finWanted) shut_down(leg);
  if (leg.mode == Mode::spliced) {
    Leg &source = *leg.peer;
    source.isLenient = false;
    if (source.isPaused) {
      source.isPaused = false;
      update_poll(source);
    }
  } else if (leg.needsDrain) {
    schedule(leg, kDueDrain);
  }
}

size_t Plane::waiting(Leg &leg) {
  if (!leg.queue.empty()) leg.needsDrain = true;
  return leg.queue.size();
}

size_t Plane::write_frame(Leg &leg, uint8_t firstByte, const char *payload, size_t length, uint64_t total) {
  if (leg.socket == nullptr || leg.outputDone) return 0;
  leg.outFirstByte = firstByte;
  leg.outRemaining = total;
  const uint64_t fragment = (firstByte & 0x08) != 0 ? total : std::min(total, kFragmentBytesMax);
  char header[kHeaderBytesMax];
  const size_t headerLength = write_header(header, fragment == total ? firstByte : firstByte & ~kFin, fragment);
  const size_t part = std::min<uint64_t>(fragment, length);
  leg.outFragmentLeft = fragment - part;
  leg.outRemaining -= part;
  send_parts(leg, header, headerLength, payload, part);
  return write_more(leg, payload + part, length - part);
}

size_t Plane::write_more(Leg &leg, const char *payload, size_t length) {
  if (leg.socket == nullptr || leg.outputDone) return 0;
  while (length != 0) {
    char header[kHeaderBytesMax];
    size_t headerLength = 0;
    if (leg.outFragmentLeft == 0) {
      const uint64_t fragment = std::min(leg.outRemaining, kFragmentBytesMax);
      headerLength = write_header(header, fragment == leg.outRemaining ? leg.outFirstByte & kFin : 0, fragment);
      leg.outFragmentLeft = fragment;
    }
    const size_t part = std::min<uint64_t>(leg.outFragmentLeft, length);
    leg.outFragmentLeft -= part;
    leg.outRemaining -= part;
    send_parts(leg, header, headerLength, payload, part);
    payload += part;
    length -= part;
  }
  answer_ping(leg);
  return waiting(leg);
}

/** Ready-made frames are sent as they are; only where they end is kept track of. */
size_t Plane::write_raw(Leg &leg, const char *bytes, size_t length) {
  if (leg.socket == nullptr || leg.outputDone) return 0;
  for (size_t i = 0; i < length;) {
    if (leg.rawRemaining != 0) {
      const size_t part = std::min<uint64_t>(leg.rawRemaining, length - i);
      leg.rawRemaining -= part;
      i += part;
      continue;
    }
    leg.rawHeader[leg.rawHave++] = static_cast<uint8_t>(bytes[i++]);
    if (leg.rawHave < 2) continue;
    const uint8_t shortLength = leg.rawHeader[1] & 0x7f;
    if (leg.rawHave < (shortLength < 126 ? 2 : shortLength == 126 ? 4 : 10)) continue;
    leg.rawHave = 0;
    leg.rawRemaining = shortLength;
    if (shortLength == 126) {
      leg.rawRemaining = static_cast<uint64_t>(leg.rawHeader[2]) << 8 | leg.rawHeader[3];
    } else if (shortLength == 127) {
      memcpy(&leg.rawRemaining, leg.rawHeader + 2, 8);
      leg.rawRemaining = __builtin_bswap64(leg.rawRemaining);
    }
  }
  send(leg, bytes, length);
  answer_ping(leg);
  return waiting(leg);
}

// ---- Ends ------------------------------------------------------------------------------------------------------------

void Plane::end_input(Leg &leg, Cause cause) {
  if (leg.inputDone) return;
  leg.inputDone = true;
  leg.cause = cause;
  if (leg.mode == Mode::parked) parkedBytes_ -= leg.held.size();
  if (leg.mode != Mode::delivered) leg.held.clear();
  if (leg.pair != nullptr && leg.pair->first < 0) leg.pair->first = static_cast<int8_t>(leg.side);
  leg.isPaused = false;
  update_poll(leg);
}

/** The last frame of an output: a Close, if it can stand there. */
void Plane::close_output(Leg &leg, int code, const char *reason, size_t length) {
  if (leg.socket == nullptr || leg.outputDone) return;
  if (is_between_frames(leg)) {
    char payload[kControlBytesMax];
    size_t payloadLength = 0;
    if (code != kNoCode) {
      payload[0] = static_cast<char>(code >> 8);
      payload[1] = static_cast<char>(code);
      const size_t kept = std::min(length, sizeof payload - 2);
      if (kept != 0) memcpy(payload + 2, reason, kept);
      payloadLength = 2 + kept;
    }
    send_control(leg, kOpcodeClose, payload, payloadLength);
  }
  leg.outputDone = true;
}

/** The leg's client broke a rule. */
void Plane::fail(Leg &leg, int code) {
  end_input(leg, code == kTooBig ? Cause::tooBig : Cause::protocolError);
  close_output(leg, code, "", 0);
  if (leg.mode == Mode::spliced) {
    Leg &peer = *leg.peer;
    close_output(peer, code, "", 0);
    end_input(peer, Cause::pairEnded);
    finish(peer);
  }
  finish(leg);
  if (leg.mode == Mode::delivered) host_->error(leg, code);
}

/** The leg's client is gone, or as good as gone. */
void Plane::lose(Leg &leg, Cause cause) {
  end_input(leg, cause);
  if (leg.mode == Mode::spliced) {
    Leg &peer = *leg.peer;
    if (!peer.finWanted) {
      // A client that has sent Close waits for one: it gets its own code back, for the other's can no longer come.
      close_output(peer, peer.cause == Cause::close ? peer.closeCode : options.lostCode, nullptr, 0);
      end_input(peer, Cause::pairEnded);
      finish(peer);
    }
  }
  finish(leg);
}

/** Nothing more goes in or out but what is queued; then FIN, and the wait for FIN. */
void Plane::finish(Leg &leg) {
  if (leg.socket == nullptr || leg.finWanted) return;
  leg.outputDone = true;
  leg.finWanted = true;
  leg.stillSince = -1;
  if (leg.queue.empty() && leg.isReady) shut_down(leg);
  update_poll(leg);
}

void Plane::shut_down(Leg &leg) {
  if (leg.finSent || leg.socket == nullptr) return;
  leg.finSent = true;
  us.socket_shutdown(0, leg.socket);
  // uSockets closes a socket that was shut down when FIN comes. When FIN was first, we do.
  if (leg.gotEnd) schedule(leg, kDueCut);
}

/** Closes the socket at once. on_close runs inside, and with it JavaScript's close handler of the route. */
void Plane::cut(Leg &leg) {
  if (leg.socket != nullptr) us.socket_close(0, leg.socket, 0, nullptr);
}

// ---- What JavaScript asks for ----------------------------------------------------------------------------------------

Leg *Plane::attach(us_socket_t *socket, uint64_t frameBytesMax, uint64_t messageBytesMax) {
  if (socket == nullptr || us.socket_is_closed(0, socket) != 0 || leg_of(socket) != nullptr) return nullptr;
  us_socket_context_t *context = us.socket_context(0, socket);
  if (hook_of(context) == nullptr) return nullptr;

  const int fd = us.poll_fd(poll_of(socket));
  if (fd < 0 || !has_free_slot()) return nullptr;
  Leg *leg = add_leg(socket, fd);
  leg->reader.frameBytesMax = frameBytesMax;
  leg->reader.messageBytesMax = messageBytesMax;
  us.socket_timeout(0, socket, 0);
  us.socket_long_timeout(0, socket, 0);
  // `open` may run while the 101 answer is still in uWebSockets.js's cork buffer; writing now would overtake it.
  schedule(*leg, kDueReady);
  return leg;
}

Leg *Plane::adopt(int fd, const char *head, size_t length) {
  if (!can_take(fd, length) || !has_free_slot()) return nullptr;
  const int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (own < 0) return nullptr;
  Leg *leg = add_own(own, head, length);
  if (leg == nullptr) return nullptr;
  leg->isRaw = true;
  leg->reader.isMasked = false;
  totals.adopted += 1;
  return leg;
}

Leg *Plane::take_over(int fd, const char *held, size_t length, uint64_t messageBytesMax) {
  if (!can_take(fd, length) || !has_free_slot()) {
    ::close(fd);
    return nullptr;
  }
  Leg *leg = add_own(fd, held, length);
  if (leg == nullptr) return nullptr;
  leg->reader.messageBytesMax = messageBytesMax;
  totals.taken += 1;
  return leg;
}

int Plane::hand_over(Leg &leg, const char *name, size_t nameLength, const char *record, size_t recordLength) {
  if (!can_pair(&leg) || leg.gotEnd || !leg.queue.empty()) return EINVAL;
  if (domain_of(leg.fd) == AF_UNIX) return EOPNOTSUPP;
  if (!leg.isReady) return EAGAIN;
  const int fault = send_hand_over(name, nameLength, leg.fd, record, recordLength, leg.held.data(), leg.held.size());
  if (fault != 0) return fault;
  // At once: from here on another process reads it. Closing a descriptor that somebody else has says nothing to the client.
  totals.given += 1;
  destroy(leg);
  return 0;
}

/** Whether it is a connected stream socket, there is a loop for it, and room for what was read of it. */
bool Plane::can_take(int fd, size_t length) const {
  int type = 0, isListening = 0;
  socklen_t size = sizeof type, listeningSize = sizeof isListening;
  if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_STREAM) return false;
  if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &isListening, &listeningSize) != 0 || isListening != 0) return false;
  return loop_ != nullptr && static_cast<double>(parkedBytes_ + length) <= options.parkedBytesMax;
}

/** A parked leg on a descriptor that is ours from here on. `can_take` and `has_free_slot` have said yes. */
Leg *Plane::add_own(int fd, const char *held, size_t length) {
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
    ::close(fd);
    return nullptr;
  }
  if (domain_of(fd) == AF_UNIX) setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &kLocalSendBytes, sizeof kLocalSendBytes);
  // Sets TCP_NODELAY, too.
  us_socket_t *socket = us.adopt_socket(0, own_context(), fd, 0, nullptr, 0);
  Leg *leg = add_leg(socket, fd);
  leg->isReady = true;
  if (length != 0) {
    parkedBytes_ += length;
    hold(*leg, held, length);
  }
  return leg;
}

int Plane::gather(us_socket_t *socket) const {
  if (socket == nullptr || us.socket_is_closed(0, socket) != 0) return -1;
  const int fd = us.poll_fd(poll_of(socket)), on = 1;
  return setsockopt(fd, IPPROTO_TCP, TCP_CORK, &on, sizeof on) == 0 ? fd : -1;
}

void Plane::release_gathered(int fd) {
  const int off = 0;
  setsockopt(fd, IPPROTO_TCP, TCP_CORK, &off, sizeof off);
}

us_socket_context_t *Plane::own_context() {
  if (ownContext_ != nullptr) return ownContext_;
  ownContext_ = us.create_context(0, loop_, 0, ContextOptions{});
  us.context_on_open(0, ownContext_, ignore_open);
  us.context_on_data(0, ownContext_, on_data);
  us.context_on_writable(0, ownContext_, on_writable);
  us.context_on_end(0, ownContext_, on_end);
  us.context_on_close(0, ownContext_, on_close);
  us.context_on_timeout(0, ownContext_, ignore_event);
  us.context_on_long_timeout(0, ownContext_, ignore_event);
  Hook hook{};
  hook.context = ownContext_;
  hook.data = ignore_data;
  hook.writable = ignore_event;
  hook.end = ignore_event;
  hook.close = ignore_close;
  hooks_.push_back(hook);
  return ownContext_;
}

/** Sees to it that `add_leg` finds one. */
bool Plane::has_free_slot() {
  if (!freeSlots_.empty()) return true;
  if (slots_.size() >= static_cast<size_t>(kSlots)) return false;
  freeSlots_.push_back(static_cast<uint32_t>(slots_.size()));
  slots_.emplace_back();
  return true;
}

Leg *Plane::add_leg(us_socket_t *socket, int fd) {
  Leg *leg = new Leg{};
  leg->socket = socket;
  leg->loop = us.context_loop(0, us.socket_context(0, socket));
  leg->fd = fd;
  leg->slot = freeSlots_.back();
  freeSlots_.pop_back();
  slots_[leg->slot].leg = leg;
  slots_[leg->slot].generation += 1;

  const auto index = static_cast<size_t>(fd);
  if (index >= byFd_.size()) byFd_.resize(std::max(index + 1, byFd_.size() * 2), nullptr);
  byFd_[index] = leg;
  totals.attached += 1;

  if (options.keepAliveSeconds > 0) {
    // A client that vanished without a word is found by TCP, for the relay sends no frames of its own. Fails on Unix
    // sockets, where nobody can vanish.
    const int on = 1, probes = 4, interval = std::max(1, options.keepAliveSeconds / probes);
    if (setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &options.keepAliveSeconds, sizeof(int)) == 0) {
      setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
      setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
      setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    }
  }
  return leg;
}

Leg *Plane::find(double handle) const {
  if (!(handle >= kSlots && handle < 9007199254740992.0)) return nullptr;
  const auto whole = static_cast<uint64_t>(handle);
  const uint64_t slot = whole % static_cast<uint64_t>(kSlots), generation = whole / static_cast<uint64_t>(kSlots);
  if (slot >= slots_.size() || slots_[slot].generation != generation) return nullptr;
  return slots_[slot].leg;
}

double Plane::handle_of(const Leg &leg) const {
  return static_cast<double>(slots_[leg.slot].generation) * kSlots + leg.slot;
}

void Plane::splice(Leg &a, Leg &b, double *counters, void *owner) {
  Pair *pair = new Pair{{&a, &b}, counters, owner};
  uint8_t side = 0;
  for (Leg *leg : pair->legs) {
    parkedBytes_ -= leg->held.size();
    leg->mode = Mode::spliced;
    leg->pair = pair;
    leg->side = side++;
    leg->peer = pair->legs[side % 2];
    if (leg->held.empty()) update_poll(*leg);
    else schedule(*leg, kDueHeld);
  }
  totals.spliced += 1;
}

void Plane::deliver(Leg &leg, void *receiver) {
  parkedBytes_ -= leg.held.size();
  leg.mode = Mode::delivered;
  leg.receiver = receiver;
  leg.isPaused = true;
}

/** Takes effect at once for JavaScript; what the socket still gives is held. */
void Plane::pause(Leg &leg) {
  if (leg.mode != Mode::delivered || leg.isPaused || leg.inputDone) return;
  leg.isPaused = true;
  totals.pauses += 1;
}

void Plane::resume(Leg &leg) {
  if (leg.mode != Mode::delivered || !leg.isPaused) return;
  leg.isPaused = false;
  if (!leg.held.empty() || leg.socket == nullptr) schedule(leg, kDueHeld);
}

void Plane::close(Leg &leg, int code, const char *reason, size_t length, bool isPassedOn) {
  const bool betweenFrames = is_between_frames(leg);
  close_output(leg, code, reason, length);
  if (leg.mode == Mode::spliced) close_output(*leg.peer, code, reason, length);
  if (leg.mode == Mode::delivered && betweenFrames && !leg.inputDone) {
    if (isPassedOn || leg.isAwaited) return;
    leg.isAwaited = true;
    leg.stillSince = -1;
    return;
  }
  end(leg);
}

void Plane::end(Leg &leg) {
  end_input(leg, Cause::closedByUs);
  if (leg.mode == Mode::spliced) {
    end_input(*leg.peer, Cause::closedByUs);
    finish(*leg.peer);
  }
  finish(leg);
}

void Plane::destroy(Leg &leg) {
  end_input(leg, Cause::closedByUs);
  cut(leg);
  schedule(leg, kDueGone);
}

// ---- The loop --------------------------------------------------------------------------------------------------------

bool Plane::wants_read(const Leg &leg) const {
  if (leg.gotEnd) return false;
  if (leg.inputDone) return true; // thrown away, to see FIN
  // A leg that JavaScript has paused is read once more: an idle one then still reports that its client has left, and a
  // short pause costs no system call.
  return leg.held.empty() && (leg.mode != Mode::spliced || !leg.isPaused);
}

/** The one place that says what a socket is polled for. A short uSockets write says something else: call it after. */
void Plane::update_poll(Leg &leg) {
  if (leg.socket == nullptr) return;
  const int wanted = (wants_read(leg) ? kReadable : 0) | (!leg.queue.empty() && leg.isReady ? kWritable : 0);
  us.poll_change(poll_of(leg.socket), leg.loop, wanted);
}

void Plane::schedule(Leg &leg, uint8_t due) {
  leg.due |= due;
  if (leg.isListed) return;
  leg.isListed = true;
  if (due_.empty()) host_->wake();
  due_.push_back(&leg);
}

void Plane::run_due_work() {
  // What is scheduled meanwhile waits for the next iteration: no leg can keep the loop here.
  running_.swap(due_);
  for (Leg *leg : running_) {
    leg->isListed = false;
    if (leg->isReleased) delete leg;
    else run(*leg);
  }
  running_.clear();
}

void Plane::run(Leg &leg) {
  const uint8_t due = leg.due;
  leg.due = 0;
  if ((due & kDueReady) != 0 && leg.socket != nullptr) {
    leg.isReady = true;
    flush(leg);
  }
  if ((due & kDueHeld) != 0 && !leg.inputDone) {
    if (leg.mode == Mode::spliced) relay_held(leg);
    else if (leg.mode == Mode::delivered) deliver_held(leg);
    update_poll(leg);
  }
  if ((due & kDueDrain) != 0 && leg.needsDrain && leg.queue.empty() && leg.socket != nullptr) {
    leg.needsDrain = false;
    host_->drain(leg);
  }
  if ((due & kDueCut) != 0) cut(leg);
  if (leg.socket == nullptr && !leg.isReleased) release(leg);
}

/** Tells the end of a leg or pair, and frees it; or does nothing while something of it is still to come. */
void Plane::release(Leg &leg) {
  if (leg.mode == Mode::delivered && !leg.held.empty() && !leg.inputDone) return; // paused: told after `resume`
  if (leg.pair != nullptr && leg.peer->socket != nullptr) return;
  end_input(leg, Cause::lost);

  Pair *pair = leg.pair;
  Leg *const legs[2] = {&leg, leg.peer};
  for (Leg *one : legs) {
    if (one == nullptr) continue;
    one->isReleased = true;
    totals.ends[static_cast<size_t>(one->cause)] += 1;
    slots_[one->slot].leg = nullptr;
    freeSlots_.push_back(one->slot);
  }
  if (pair != nullptr) host_->pair_gone(*pair);
  else if (leg.receiver != nullptr) host_->gone(leg);
  for (Leg *one : legs) {
    if (one != nullptr && !one->isListed) delete one; // else its turn in the list frees it
  }
  delete pair;
}

/**
 * Whether nothing has moved for `limitMs`, by the sweeps that asked. What the kernel has not got rid of counts as
 * waiting: a slow reader can take minutes for it without a single event here.
 */
bool Plane::has_stood_still(Leg &leg, double nowMs, double limitMs) {
  int inKernel = 0;
  ioctl(leg.fd, TIOCOUTQ, &inKernel);
  const uint64_t waiting = leg.queue.size() + static_cast<uint64_t>(inKernel);
  const bool moved = leg.stillSince < 0 || waiting < leg.sweepWaiting || leg.activity != leg.sweepActivity;
  leg.sweepWaiting = waiting;
  leg.sweepActivity = leg.activity;
  if (moved) leg.stillSince = nowMs;
  return nowMs - leg.stillSince >= limitMs;
}

double Plane::linger_limit(const Leg &leg) const {
  if (!leg.isRaw) return options.lingerMs;
  return leg.finWanted ? options.stallMs * kNodePatience : options.stallMs;
}

void Plane::sweep(double nowMs) {
  std::vector<Leg *> unread; // the loop does not report the end of a socket that it does not read
  std::vector<pollfd> looks;
  std::vector<Leg *> legs;
  for (const Slot &slot : slots_) {
    if (slot.leg != nullptr && slot.leg->socket != nullptr) legs.push_back(slot.leg);
  }
  // Legs are freed by run_due_work only, so these pointers hold, whatever closes meanwhile.
  for (Leg *leg : legs) {
    if (leg->socket == nullptr) continue;
    if (!wants_read(*leg)) {
      unread.push_back(leg);
      looks.push_back({leg->fd, static_cast<short>(leg->mode == Mode::parked ? POLLRDHUP : 0), 0});
    }
  }
  if (!looks.empty() && ::poll(looks.data(), looks.size(), 0) > 0) {
    for (size_t i = 0; i < looks.size(); i += 1) {
      if (looks[i].revents != 0) cut(*unread[i]);
    }
  }
  for (Leg *leg : legs) {
    if (leg->socket == nullptr) continue;
    if (leg->finWanted || (leg->is_delivered_closing() && !leg->isPaused)) {
      if (!has_stood_still(*leg, nowMs, linger_limit(*leg))) continue;
      leg->lingered = true;
      totals.lingered += 1;
      cut(*leg);
    } else if (!leg->queue.empty() && leg->isReady) {
      if (!has_stood_still(*leg, nowMs, options.stallMs * (leg->isRaw ? kNodePatience : 1))) continue;
      end_input(*leg, Cause::stalled);
      leg->cause = Cause::stalled;
      cut(*leg);
    } else {
      leg->stillSince = -1;
    }
  }
}

Gauges Plane::gauges() const {
  Gauges gauges;
  for (const Slot &slot : slots_) {
    const Leg *leg = slot.leg;
    if (leg == nullptr) continue;
    gauges.legs += 1;
    gauges.raw += leg->isRaw;
    gauges.parked += leg->mode == Mode::parked;
    gauges.splices += leg->mode == Mode::spliced && leg->side == 0;
    gauges.paused += leg->mode != Mode::parked && leg->isPaused;
    gauges.queuedBytes += leg->queue.size();
    gauges.heldBytes += leg->held.size();
  }
  return gauges;
}

} // namespace halfway
