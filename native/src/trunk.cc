// The part of the plane that knows trunks. A leg of a trunk has no socket: it is open while it has its trunk.
#include "plane.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

namespace halfway {

namespace {

void put_u32(char *to, uint32_t value) {
  value = __builtin_bswap32(value);
  memcpy(to, &value, sizeof value);
}

uint32_t get_u32(const void *from) {
  uint32_t value;
  memcpy(&value, from, sizeof value);
  return __builtin_bswap32(value);
}

void put_trunk_header(char *to, uint32_t stream, TrunkFrame type, size_t length) {
  put_u32(to, stream);
  put_u32(to + 4, static_cast<uint32_t>(type) << 24 | static_cast<uint32_t>(length));
}

void append_frame(Trunk &trunk, uint32_t stream, TrunkFrame type, const char *payload, size_t length) {
  char header[kTrunkHeaderBytes];
  put_trunk_header(header, stream, type, length);
  trunk.out.append(header, sizeof header);
  trunk.out.append(payload, length);
}

} // namespace

// ---- A trunk's life --------------------------------------------------------------------------------------------------

Trunk *Plane::make_trunk(int fd, const char *head, size_t length, bool opens, void *owner) {
  if (uvLoop_ == nullptr || !can_take(fd, 0)) return nullptr;
  const int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (own < 0) return nullptr;
  const int flags = fcntl(own, F_GETFL);
  if (flags < 0 || fcntl(own, F_SETFL, flags | O_NONBLOCK) != 0) {
    ::close(own);
    return nullptr;
  }
  Trunk *trunk = new Trunk{};
  trunk->fd = own;
  trunk->poll = new uv_poll_t;
  uv_poll_init(uvLoop_, trunk->poll, own);
  trunk->poll->data = trunk;
  uv_unref(reinterpret_cast<uv_handle_t *>(trunk->poll));
  update_trunk_poll(*trunk);
  trunk->number = ++lastTrunk_;
  trunk->opens = opens;
  trunk->owner = owner;
  trunks_[trunk->number] = trunk;
  totals.trunks += 1;
  if (length != 0) {
    // No leg is joined yet, so nothing is sent on from here; but what is in front of the bytes may be written to.
    const std::unique_ptr<char[]> copy(new char[kReceivePadding + length]);
    memcpy(copy.get() + kReceivePadding, head, length);
    receive_trunk(*trunk, copy.get() + kReceivePadding, length);
  }
  return trunk;
}

void Plane::update_trunk_poll(Trunk &trunk) {
  uv_poll_start(trunk.poll, UV_READABLE | (trunk.isBlocked ? UV_WRITABLE : 0), [](uv_poll_t *poll, int status, int events) {
    Trunk *trunk = static_cast<Trunk *>(poll->data);
    // An error is told by the read or write that it breaks.
    instance().trunk_event(*trunk, status < 0 || (events & UV_READABLE) != 0, (events & UV_WRITABLE) != 0);
  });
}

Trunk *Plane::find_trunk(uint32_t number) const {
  const auto found = trunks_.find(number);
  return found == trunks_.end() ? nullptr : found->second;
}

void Plane::destroy_trunk(Trunk &trunk) {
  if (trunk.poll == nullptr) return;
  trunk.poll->data = reinterpret_cast<void *>(static_cast<intptr_t>(trunk.fd));
  uv_poll_stop(trunk.poll);
  uv_close(reinterpret_cast<uv_handle_t *>(trunk.poll), [](uv_handle_t *handle) {
    ::close(static_cast<int>(reinterpret_cast<intptr_t>(handle->data)));
    delete reinterpret_cast<uv_poll_t *>(handle);
  });
  trunk.poll = nullptr;
  trunk.out.clear();
  while (!trunk.legs.empty()) closed(*trunk.legs.begin()->second);
  schedule_trunk(trunk);
}

/** Closed behind the events of this iteration: its streams may be in use up the stack. */
void Plane::break_trunk(Trunk &trunk) {
  trunk.isBroken = true;
  schedule_trunk(trunk);
}

void Plane::schedule_trunk(Trunk &trunk) {
  if (trunk.isListed) return;
  trunk.isListed = true;
  host_->wake();
  dueTrunks_.push_back(&trunk);
}

void Plane::run_due_trunks() {
  runningTrunks_.swap(dueTrunks_);
  for (Trunk *trunk : runningTrunks_) {
    // Listed until its turn is over: what happens within is part of it.
    if (trunk->isBroken) destroy_trunk(*trunk);
    else if (trunk->poll != nullptr) {
      if (!trunk->isBlocked) serve_waiting(*trunk);
      flush_trunk(*trunk);
      // TCP sends what it keeps whenever this is set, also when it was.
      const int on = 1;
      if (trunk->isHolding) setsockopt(trunk->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      trunk->isHolding = false;
    }
    if (trunk->poll == nullptr) {
      trunks_.erase(trunk->number);
      host_->trunk_gone(*trunk);
      delete trunk;
      continue;
    }
    trunk->isListed = false;
    if (trunk->isBroken) schedule_trunk(*trunk);
  }
  runningTrunks_.clear();
}

void Plane::trunk_event(Trunk &trunk, bool isReadable, bool isWritable) {
  if (isWritable && trunk.isBlocked) {
    trunk.isBlocked = false;
    update_trunk_poll(trunk);
    schedule_trunk(trunk); // whoever waits has its turn behind the events
  }
  if (!isReadable) return;
  static char *const buffer = new char[kReceivePadding + kTrunkReceiveBytesMax];
  for (size_t turn = 0; turn < kTrunkTurnBytesMax && trunk.poll != nullptr && !trunk.isBroken;) {
    // The rest of a long frame and the header of the next, which says how to go on.
    const bool isLong = trunk.isInFrame && trunk.remaining > kTrunkLongFrameBytes;
    const size_t most = isLong ? trunk.remaining + kTrunkHeaderBytes : kTrunkReceiveBytesMax;
    const size_t wanted = std::min(most, kTrunkReceiveBytesMax);
    const ssize_t received = ::recv(trunk.fd, buffer + kReceivePadding, wanted, MSG_DONTWAIT);
    if (received < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
    // A node that ends its direction has ended: no stream of it can go on.
    if (received <= 0) return break_trunk(trunk);
    receive_trunk(trunk, buffer + kReceivePadding, static_cast<size_t>(received));
    if (static_cast<size_t>(received) < wanted) return;
    turn += static_cast<size_t>(received);
  }
}

// ---- Streams ---------------------------------------------------------------------------------------------------------

Leg *Plane::add_stream(Trunk &trunk, uint32_t stream) {
  if (!has_free_slot()) return nullptr;
  Leg *leg = add_slot();
  leg->loop = loop_;
  leg->fd = -1;
  leg->trunk = &trunk;
  leg->stream = stream;
  leg->isRaw = true;
  leg->isReady = true;
  leg->reader.isMasked = false;
  trunk.legs[stream] = leg;
  trunk.lastStream = stream;
  totals.streams += 1;
  return leg;
}

Leg *Plane::open_stream(Trunk &trunk, const char *record, size_t length) {
  if (!trunk.opens || trunk.poll == nullptr || trunk.isBroken || length > kTrunkRecordBytesMax) return nullptr;
  Leg *leg = add_stream(trunk, trunk.lastStream + 1);
  if (leg != nullptr) say(*leg, TrunkFrame::open, record, length);
  return leg;
}

void Plane::say(Leg &leg, TrunkFrame type, const char *payload, size_t length) {
  append_frame(*leg.trunk, leg.stream, type, payload, length);
  schedule_trunk(*leg.trunk);
}

/** Takes what the stream may send and the trunk has room for, and returns how much that is. */
size_t Plane::send_on_trunk(Leg &leg, const char *data, size_t length) {
  Trunk &trunk = *leg.trunk;
  if (trunk.isBroken) return 0;
  const size_t allowed = std::min<size_t>(length, leg.credit);
  const size_t room = !trunk.isBlocked ? allowed : kTrunkQueueBytesMax - std::min(trunk.out.size(), kTrunkQueueBytesMax);
  const size_t count = std::min(allowed, room);
  if (count < allowed && !leg.isWaiting) {
    leg.isWaiting = true;
    trunk.waiting.push_back(leg.stream);
  }
  if (count == 0) return 0;
  leg.credit -= static_cast<uint32_t>(count);
  if (count > kTrunkCopyBytesMax && !trunk.isBlocked) {
    send_straight(trunk, leg.stream, data, count);
    return count;
  }
  append_frame(trunk, leg.stream, TrunkFrame::data, data, count);
  if (!trunk.isBlocked && trunk.out.size() >= kTrunkGatherBytes) flush_trunk(trunk);
  else schedule_trunk(trunk);
  return count;
}

/** What has been gathered, and this behind it, without a copy but of what the kernel does not take. */
void Plane::send_straight(Trunk &trunk, uint32_t stream, const char *data, size_t length) {
  char header[kTrunkHeaderBytes];
  put_trunk_header(header, stream, TrunkFrame::data, length);
  const size_t gathered = trunk.out.size();
  const iovec parts[] = {{const_cast<char *>(trunk.out.data()), gathered}, {header, sizeof header}, {const_cast<char *>(data), length}};
  msghdr message{};
  message.msg_iov = const_cast<iovec *>(gathered == 0 ? parts + 1 : parts);
  message.msg_iovlen = gathered == 0 ? 2 : 3;
  // The end of it waits for what follows: on its own it would be a packet of some bytes behind a full one.
  const ssize_t sent = ::sendmsg(trunk.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT | MSG_MORE);
  trunk.isHolding = true;
  schedule_trunk(trunk);
  size_t left = sent < 0 ? 0 : static_cast<size_t>(sent);
  const size_t ofGathered = std::min(left, gathered);
  if (ofGathered != 0) trunk.out.consume(ofGathered);
  left -= ofGathered;
  const size_t ofHeader = std::min(left, sizeof header);
  left -= ofHeader;
  if (ofHeader < sizeof header) trunk.out.append(header + ofHeader, sizeof header - ofHeader);
  if (left < length) {
    trunk.out.append(data + left, length - left);
    flush_trunk(trunk); // finds out why
  }
}

/** Sends what waits; when not all of it goes, the loop says when it may go on. */
void Plane::flush_trunk(Trunk &trunk) {
  if (trunk.poll == nullptr || trunk.isBlocked || trunk.isBroken) return;
  while (!trunk.out.empty()) {
    const ssize_t sent = ::send(trunk.fd, trunk.out.data(), trunk.out.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
      trunk.out.consume(static_cast<size_t>(sent));
      trunk.isHolding = false;
      continue;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR || errno == ENOBUFS || errno == ENOMEM) {
      trunk.isBlocked = true;
      update_trunk_poll(trunk);
    } else {
      break_trunk(trunk);
    }
    return;
  }
}

/** Streams that found no room have their turn, in the order in which they came. */
void Plane::serve_waiting(Trunk &trunk) {
  std::vector<uint32_t> turn;
  turn.swap(trunk.waiting);
  for (const uint32_t stream : turn) {
    const auto found = trunk.legs.find(stream);
    if (found == trunk.legs.end()) continue;
    found->second->isWaiting = false;
    flush(*found->second);
    if (trunk.poll == nullptr) return;
  }
}

/** Lets the other node send more, once enough has been taken and more is wanted. */
void Plane::grant(Leg &leg) {
  if (leg.owed < kCreditStepBytes || !wants_read(leg)) return;
  char bytes[4];
  put_u32(bytes, leg.owed);
  leg.window += leg.owed;
  leg.owed = 0;
  say(leg, TrunkFrame::credit, bytes, sizeof bytes);
}

// ---- Receiving -------------------------------------------------------------------------------------------------------

void Plane::receive_trunk(Trunk &trunk, char *data, size_t length) {
  char *in = data;
  char *const end = data + length;
  while (in < end && trunk.poll != nullptr && !trunk.isBroken) {
    if (!trunk.isInFrame) {
      const size_t part = std::min(sizeof trunk.header - trunk.headerHave, static_cast<size_t>(end - in));
      memcpy(trunk.header + trunk.headerHave, in, part);
      trunk.headerHave += part;
      in += part;
      if (trunk.headerHave < sizeof trunk.header) return;
      trunk.headerHave = 0;
      trunk.isInFrame = true;
      trunk.stream = get_u32(trunk.header);
      trunk.type = static_cast<TrunkFrame>(trunk.header[4]);
      trunk.remaining = get_u32(trunk.header + 4) & 0xffffff;
      if (trunk.type != TrunkFrame::data && trunk.remaining > kTrunkRecordBytesMax) return break_trunk(trunk);
    }
    const size_t part = std::min<size_t>(trunk.remaining, static_cast<size_t>(end - in));
    trunk.remaining -= static_cast<uint32_t>(part);
    if (trunk.type == TrunkFrame::data) {
      // A stream that is over here may not be over there yet.
      const auto found = trunk.legs.find(trunk.stream);
      if (found != trunk.legs.end() && part != 0) receive_stream(*found->second, in, part);
    } else {
      trunk.record.append(in, part);
    }
    in += part;
    if (trunk.remaining != 0) continue;
    trunk.isInFrame = false;
    if (trunk.type != TrunkFrame::data) {
      obey(trunk);
      trunk.record.clear();
    }
  }
}

void Plane::receive_stream(Leg &leg, char *data, size_t length) {
  if (length > leg.window) return break_trunk(*leg.trunk);
  leg.window -= static_cast<uint32_t>(length);
  leg.owed += static_cast<uint32_t>(length);
  receive(leg, data, length);
  if (leg.trunk != nullptr) grant(leg);
}

/** A frame that is whole, and no data. */
void Plane::obey(Trunk &trunk) {
  if (trunk.type == TrunkFrame::open) {
    if (trunk.opens || trunk.stream != trunk.lastStream + 1) return break_trunk(trunk);
    Leg *leg = add_stream(trunk, trunk.stream);
    if (leg == nullptr) return break_trunk(trunk);
    leg->record.reset(new std::string(trunk.record.data(), trunk.record.size()));
    return schedule(*leg, kDueOpened);
  }
  const auto found = trunk.legs.find(trunk.stream);
  Leg *leg = found == trunk.legs.end() ? nullptr : found->second;
  switch (trunk.type) {
  case TrunkFrame::fin:
    if (leg != nullptr && !leg->gotEnd) ended(*leg);
    return;
  case TrunkFrame::reset:
    if (leg != nullptr) closed(*leg);
    return;
  case TrunkFrame::credit: {
    if (trunk.record.size() != 4) return break_trunk(trunk);
    if (leg == nullptr) return;
    const uint32_t more = get_u32(trunk.record.data());
    if (more > kStreamWindowBytes - leg->credit) return break_trunk(trunk);
    leg->credit += more;
    if (!leg->queue.empty()) flush(*leg);
    return;
  }
  default:
    // A frame of a newer build's, which would not send it to this one.
    return break_trunk(trunk);
  }
}

} // namespace halfway
