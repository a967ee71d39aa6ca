// Load generator for WebSocket relays: many raw sockets, one thread, one epoll.
//
// It must cost less than what it measures, so frames are made and masked beforehand, payloads are
// not looked at unless asked, and each wake-up of a socket costs one recv and at most one send. It
// knows no relay's protocol: it dials the paths it is told, plays both ends of each pair, and counts.
//
// Commands come on standard input, one a line; answers go to standard output as JSON, one a line.
//
//   dial ID PORT PATH            a WebSocket client; answers open or refused
//   listen                       a WebSocket server; the ID of each client is the number ending its path
//   pair A B                     B sends back each message of A (A B the same: the server echoes)
//   start A1 A2 MODE SIZE WINDOW CHECK
//        pingpong                each A from A1 to A2 keeps WINDOW messages of SIZE bytes in flight
//        stream                  each A sends as fast as its socket takes it, B only counts
//        once                    one message there and back, then Close; answers done
//        CHECK 1                 messages are numbered, and compared byte by byte on arrival
//   mark                         counters now
//   stop                         A's stop; answers drained once every message sent has arrived
//   stall ID, unstall ID         stops and resumes reading
//   drop ID                      closes the socket without a word
//   quit
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

constexpr size_t kReceiveBytes = 512 * 1024;
/** Longest write: a few of the largest messages, and enough small ones for one system call to pay. */
constexpr size_t kBlockBytes = 256 * 1024;
constexpr uint64_t kDrainNs = 10'000'000'000;
constexpr uint8_t kMask[4] = {0x37, 0xfa, 0x21, 0x3d};
/** The key of RFC 6455's example, and the answer to it: no need to compute one. */
constexpr const char *kKey = "dGhlIHNhbXBsZSBub25jZQ==";
constexpr const char *kAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

[[noreturn]] void fail(const char *what) {
  fprintf(stderr, "generator: %s: %s\n", what, strerror(errno));
  exit(1);
}

uint64_t nowNs() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return uint64_t(time.tv_sec) * 1'000'000'000 + uint64_t(time.tv_nsec);
}

uint8_t patternAt(size_t at) { return uint8_t(at * 31 + 7); }

/** Times in steps of at most 1/64 of their size. */
class Histogram {
 public:
  void add(uint64_t ns) { counts_[indexOf(ns)] += 1; }
  void clear() { counts_.clear(); }
  void print() const {
    bool first = true;
    for (const auto &[index, count] : counts_) {
      printf("%s[%llu,%llu]", first ? "" : ",", (unsigned long long)nsOf(index), (unsigned long long)count);
      first = false;
    }
  }

 private:
  static uint32_t indexOf(uint64_t ns) {
    if (ns < 64) return uint32_t(ns);
    const int shift = 63 - __builtin_clzll(ns) - 6;
    return uint32_t((shift + 1) * 64 + ((ns >> shift) - 64));
  }
  static uint64_t nsOf(uint32_t index) {
    if (index < 64) return index;
    return uint64_t(64 + index % 64) << (index / 64 - 1);
  }
  std::map<uint32_t, uint64_t> counts_;
};

/** Frames of one size, one behind the other, ready to send. */
struct Block {
  size_t size = 0;
  size_t frameBytes = 0;
  size_t headerBytes = 0;
  std::string bytes;
};

std::string frameHeader(uint8_t firstByte, size_t size, bool masked) {
  std::string header(1, char(firstByte));
  const uint8_t maskBit = masked ? 0x80 : 0;
  if (size <= 125) {
    header += char(maskBit | size);
  } else if (size <= 0xffff) {
    header += char(maskBit | 126);
    for (int shift = 8; shift >= 0; shift -= 8) header += char(size >> shift);
  } else {
    header += char(maskBit | 127);
    for (int shift = 56; shift >= 0; shift -= 8) header += char(uint64_t(size) >> shift);
  }
  if (masked) header.append(reinterpret_cast<const char *>(kMask), 4);
  return header;
}

std::string frame(uint8_t firstByte, std::string payload, bool masked) {
  if (masked) {
    for (size_t at = 0; at < payload.size(); at += 1) payload[at] = char(payload[at] ^ kMask[at & 3]);
  }
  return frameHeader(firstByte, payload.size(), masked) + payload;
}

const Block *blockOf(size_t size, bool masked) {
  static std::map<std::pair<size_t, bool>, Block> blocks;
  Block &block = blocks[{size, masked}];
  if (!block.bytes.empty()) return &block;
  std::string payload(size, 0);
  for (size_t at = 0; at < size; at += 1) payload[at] = char(patternAt(at));
  const std::string one = frame(0x82, payload, masked);
  block.size = size;
  block.frameBytes = one.size();
  block.headerBytes = one.size() - size;
  do block.bytes += one;
  while (block.bytes.size() + one.size() <= kBlockBytes);
  return &block;
}

enum class State { dialing, answering, open, closing, closed };
enum class Mode { idle, pingpong, stream, once };

struct Conn {
  int id = -1;
  int fd = -1;
  bool isServer = false;
  State state = State::dialing;
  uint32_t events = 0;
  bool stalled = false;
  std::string path;
  std::string handshake;
  Conn *peer = nullptr;

  // What it sends.
  Mode mode = Mode::idle;
  bool running = false;
  bool echoes = false;
  bool check = false;
  const Block *block = nullptr;
  /** Bytes still to be written, from `phase` on in the block repeated without end. */
  uint64_t owed = 0;
  size_t phase = 0;
  /** Bytes that stand before those: whole frames made one by one. */
  std::string single;
  uint64_t sent = 0;
  uint64_t sentAtNs = 0;

  // What it receives.
  uint8_t header[14];
  size_t headerHave = 0;
  uint64_t payloadLeft = 0;
  uint64_t messageAt = 0;
  uint8_t opcode = 0;
  bool isFinal = false;
  bool inFrame = false;
  bool masked = false;
  std::string control;
  uint64_t received = 0;
  uint64_t checkSequence = 0;
};

int epollFd = -1;
int listenFd = -1;
std::unordered_map<int, std::unique_ptr<Conn>> conns;
std::vector<std::unique_ptr<Conn>> graveyard;
Histogram latencies;
uint64_t receivedMessages = 0;
uint64_t receivedBytes = 0;
uint64_t badMessages = 0;
uint64_t lostConns = 0;
uint64_t stopAtNs = 0;
char receiveBuffer[kReceiveBytes];

void watch(Conn &conn) {
  uint32_t events = 0;
  if (!conn.stalled) events |= EPOLLIN;
  const bool wantsOut = conn.state == State::dialing || conn.owed > 0 || !conn.single.empty();
  if (wantsOut) events |= EPOLLOUT;
  if (events == conn.events) return;
  epoll_event event{};
  event.events = events;
  event.data.ptr = &conn;
  if (epoll_ctl(epollFd, EPOLL_CTL_MOD, conn.fd, &event) != 0) fail("epoll_ctl");
  conn.events = events;
}

void add(Conn &conn, uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = &conn;
  if (epoll_ctl(epollFd, EPOLL_CTL_ADD, conn.fd, &event) != 0) fail("epoll_ctl");
  conn.events = events;
}

void reportDone(Conn &conn) {
  Conn &origin = conn.mode == Mode::once ? conn : *conn.peer;
  if (origin.state == State::closed && origin.peer->state == State::closed) {
    printf("{\"event\":\"done\",\"id\":%d,\"messages\":%llu}\n", origin.id, (unsigned long long)origin.received);
  }
}

void close(Conn &conn, const char *why) {
  if (conn.state == State::closed) return;
  const State was = conn.state;
  conn.state = State::closed;
  ::close(conn.fd);
  const bool isOnce = conn.mode == Mode::once || (conn.peer != nullptr && conn.peer->mode == Mode::once);
  if (isOnce && was == State::closing) {
    reportDone(conn);
    return;
  }
  lostConns += 1;
  printf("{\"event\":\"closed\",\"id\":%d,\"why\":\"%s\"}\n", conn.id, why);
  if (isOnce) reportDone(conn);
}

/** Writes what is owed until the socket takes no more. */
void flush(Conn &conn) {
  while (!conn.single.empty()) {
    const ssize_t wrote = send(conn.fd, conn.single.data(), conn.single.size(), MSG_NOSIGNAL);
    if (wrote < 0) {
      if (errno != EAGAIN) return close(conn, "send failed");
      return watch(conn);
    }
    conn.single.erase(0, size_t(wrote));
  }
  while (conn.owed > 0) {
    const std::string &bytes = conn.block->bytes;
    size_t length = bytes.size() - conn.phase;
    if (length > conn.owed) length = size_t(conn.owed);
    const ssize_t wrote = send(conn.fd, bytes.data() + conn.phase, length, MSG_NOSIGNAL);
    if (wrote < 0) {
      if (errno != EAGAIN) return close(conn, "send failed");
      break;
    }
    conn.owed -= uint64_t(wrote);
    conn.phase = (conn.phase + size_t(wrote)) % bytes.size();
    // A short write means a full socket: the next attempt would only say so again.
    if (size_t(wrote) < length) break;
    // A stream never ends: let the other sockets have their turn.
    if (conn.mode == Mode::stream) break;
  }
  if (conn.mode == Mode::stream && conn.running && conn.owed < conn.block->bytes.size()) {
    const uint64_t frames = conn.block->bytes.size() / conn.block->frameBytes;
    conn.owed += frames * conn.block->frameBytes;
    conn.sent += frames;
  }
  watch(conn);
}

void sendMessages(Conn &conn, uint64_t count) {
  if (conn.check) {
    for (uint64_t i = 0; i < count; i += 1) {
      std::string one = conn.block->bytes.substr(0, conn.block->frameBytes);
      const uint64_t sequence = conn.sent + i;
      for (size_t at = 0; at < 8 && at < conn.block->size; at += 1) {
        one[conn.block->headerBytes + at] = char(one[conn.block->headerBytes + at] ^ uint8_t(sequence >> (8 * at)));
      }
      conn.single += one;
    }
  } else {
    conn.owed += count * conn.block->frameBytes;
  }
  conn.sent += count;
  flush(conn);
}

void sendClose(Conn &conn) {
  conn.state = State::closing;
  conn.single += frame(0x88, std::string("\x03\xe8", 2), !conn.isServer);
  flush(conn);
}

/** One or more whole messages came in one read. */
void onMessages(Conn &conn, uint64_t count) {
  conn.received += count;
  receivedMessages += count;
  if (conn.echoes) return sendMessages(conn, count);
  if (conn.mode == Mode::once) return sendClose(conn);
  if (conn.mode != Mode::pingpong) return;
  if (conn.sentAtNs != 0) {
    const uint64_t now = nowNs();
    latencies.add(now - conn.sentAtNs);
    conn.sentAtNs = now;
  }
  if (conn.running) sendMessages(conn, count);
}

void checkPayload(Conn &conn, const uint8_t *bytes, size_t length) {
  for (size_t i = 0; i < length; i += 1) {
    const size_t at = size_t(conn.messageAt) + i;
    uint8_t expected = patternAt(at);
    if (at < 8) expected = uint8_t(expected ^ uint8_t(conn.checkSequence >> (8 * at)));
    // Masks are per frame and our relays may cut frames, but only the server side of a proxy gets
    // masked frames, and proxies cut none: the phase of the mask is the place in the message.
    const uint8_t got = conn.masked ? uint8_t(bytes[i] ^ kMask[at & 3]) : bytes[i];
    if (got != expected) {
      badMessages += 1;
      return;
    }
  }
}

void onControl(Conn &conn) {
  if (conn.opcode == 9) {
    conn.single += frame(0x8a, conn.control, !conn.isServer);
    if (conn.phase % (conn.block == nullptr ? 1 : conn.block->frameBytes) == 0) flush(conn);
  } else if (conn.opcode == 8) {
    if (conn.state == State::open) sendClose(conn);
    if (conn.isServer && conn.state == State::closing) shutdown(conn.fd, SHUT_WR);
  }
}

/** Frames as they arrive. Payloads are passed over unless they are to be checked. */
void parse(Conn &conn, const uint8_t *bytes, size_t length) {
  uint64_t messages = 0;
  size_t at = 0;
  for (;;) {
    if (!conn.inFrame) {
      size_t need = 2;
      for (;;) {
        while (conn.headerHave < need && at < length) conn.header[conn.headerHave++] = bytes[at++];
        if (conn.headerHave < need) goto out;
        const uint8_t second = conn.header[1];
        const size_t whole = 2 + ((second & 127) == 126 ? 2 : (second & 127) == 127 ? 8 : 0) + (second & 128 ? 4 : 0);
        if (need == whole) break;
        need = whole;
      }
      const uint8_t second = conn.header[1];
      uint64_t size = second & 127;
      if (size == 126) size = uint64_t(conn.header[2]) << 8 | conn.header[3];
      else if (size == 127) {
        size = 0;
        for (int i = 2; i < 10; i += 1) size = size << 8 | conn.header[i];
      }
      conn.headerHave = 0;
      conn.inFrame = true;
      conn.masked = second & 128;
      conn.isFinal = conn.header[0] & 128;
      conn.opcode = conn.header[0] & 15;
      conn.payloadLeft = size;
      if (conn.header[0] & 0x70 || conn.masked != conn.isServer || (conn.opcode > 2 && conn.opcode < 8) || conn.opcode > 10) badMessages += 1;
      conn.control.clear();
    }
    size_t part = length - at;
    if (part > conn.payloadLeft) part = size_t(conn.payloadLeft);
    if (conn.opcode >= 8) {
      conn.control.append(reinterpret_cast<const char *>(bytes + at), part);
    } else {
      if (conn.check) checkPayload(conn, bytes + at, part);
      conn.messageAt += part;
    }
    at += part;
    conn.payloadLeft -= part;
    if (conn.payloadLeft > 0) break;
    conn.inFrame = false;
    if (conn.opcode >= 8) {
      onControl(conn);
      if (conn.state == State::closed) return;
    } else if (conn.isFinal) {
      if (conn.block == nullptr || conn.messageAt != conn.block->size) badMessages += 1;
      conn.messageAt = 0;
      conn.checkSequence += 1;
      messages += 1;
    }
  }
out:
  if (messages > 0) onMessages(conn, messages);
}

void onHandshake(Conn &conn, const char *bytes, size_t length) {
  conn.handshake.append(bytes, length);
  const size_t end = conn.handshake.find("\r\n\r\n");
  if (end == std::string::npos) return;
  const std::string rest = conn.handshake.substr(end + 4);
  if (conn.isServer) {
    // GET /…/ID HTTP/1.1
    const size_t space = conn.handshake.find(' ', 4);
    const size_t slash = conn.handshake.rfind('/', space);
    const int id = atoi(conn.handshake.c_str() + slash + 1);
    // An earlier one of this name is closed by now.
    auto earlier = conns.extract(id);
    if (!earlier.empty()) graveyard.push_back(std::move(earlier.mapped()));
    auto owner = conns.extract(conn.id);
    conn.id = id;
    owner.key() = id;
    conns.insert(std::move(owner));
    conn.single = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + std::string(kAccept) + "\r\n\r\n";
    conn.state = State::open;
    flush(conn);
  } else if (conn.handshake.compare(0, 12, "HTTP/1.1 101") != 0) {
    std::string status = conn.handshake.substr(0, conn.handshake.find('\r'));
    for (char &c : status) if (c == '"' || c == '\\') c = '\'';
    printf("{\"event\":\"refused\",\"id\":%d,\"status\":\"%s\"}\n", conn.id, status.c_str());
    conn.state = State::closed;
    ::close(conn.fd);
    return;
  } else {
    conn.state = State::open;
  }
  printf("{\"event\":\"open\",\"id\":%d}\n", conn.id);
  if (!rest.empty()) {
    // Frames directly behind the handshake (a control channel greets at once) are parsed as any other.
    parse(conn, reinterpret_cast<const uint8_t *>(rest.data()), rest.size());
  }
  conn.handshake.clear();
}

void onReadable(Conn &conn) {
  const ssize_t got = recv(conn.fd, receiveBuffer, sizeof receiveBuffer, 0);
  if (got < 0) {
    if (errno != EAGAIN) close(conn, "reset");
    return;
  }
  if (got == 0) return close(conn, "end");
  receivedBytes += uint64_t(got);
  if (conn.state == State::dialing || conn.state == State::answering) onHandshake(conn, receiveBuffer, size_t(got));
  else parse(conn, reinterpret_cast<const uint8_t *>(receiveBuffer), size_t(got));
}

void onWritable(Conn &conn) {
  if (conn.state == State::dialing) {
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(conn.fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) return close(conn, strerror(error));
    conn.state = State::answering;
    conn.single = "GET " + conn.path + " HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + kKey + "\r\n\r\n";
  }
  flush(conn);
}

void setOptions(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  fcntl(fd, F_SETFL, O_NONBLOCK);
}

sockaddr_in loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(uint16_t(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

Conn &create(int id, int fd) {
  auto &slot = conns[id];
  // Events of this round may still point to the old one.
  if (slot != nullptr) graveyard.push_back(std::move(slot));
  slot = std::make_unique<Conn>();
  slot->id = id;
  slot->fd = fd;
  return *slot;
}

void dial(int id, int port, const char *path) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket");
  setOptions(fd);
  const sockaddr_in address = loopback(port);
  if (connect(fd, reinterpret_cast<const sockaddr *>(&address), sizeof address) != 0 && errno != EINPROGRESS) fail("connect");
  Conn &conn = create(id, fd);
  conn.path = path;
  add(conn, EPOLLIN | EPOLLOUT);
}

void listenOnLoopback() {
  listenFd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  sockaddr_in address = loopback(0);
  if (bind(listenFd, reinterpret_cast<const sockaddr *>(&address), sizeof address) != 0) fail("bind");
  if (listen(listenFd, 1024) != 0) fail("listen");
  socklen_t length = sizeof address;
  getsockname(listenFd, reinterpret_cast<sockaddr *>(&address), &length);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = &listenFd;
  if (epoll_ctl(epollFd, EPOLL_CTL_ADD, listenFd, &event) != 0) fail("epoll_ctl");
  printf("{\"event\":\"listening\",\"port\":%d}\n", ntohs(address.sin_port));
}

void acceptClients() {
  static int provisionalId = -2;
  for (;;) {
    const int fd = accept4(listenFd, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) return;
    setOptions(fd);
    Conn &conn = create(provisionalId--, fd);
    conn.isServer = true;
    conn.state = State::answering;
    add(conn, EPOLLIN);
  }
}

Conn *find(int id) {
  const auto found = conns.find(id);
  return found == conns.end() ? nullptr : found->second.get();
}

void start(int first, int last, const std::string &mode, size_t size, uint64_t window, bool check) {
  latencies.clear();
  stopAtNs = 0;
  for (int id = first; id <= last; id += 1) {
    Conn *conn = find(id);
    if (conn == nullptr || conn->peer == nullptr || conn->state != State::open) continue;
    Conn &peer = *conn->peer;
    conn->mode = mode == "pingpong" ? Mode::pingpong : mode == "once" ? Mode::once : Mode::stream;
    conn->running = true;
    for (Conn *each : {conn, &peer}) {
      each->block = blockOf(size, !each->isServer);
      each->phase = 0;
      each->check = check;
      each->sent = each->received = each->checkSequence = 0;
    }
    peer.echoes = &peer != conn && conn->mode != Mode::stream;
    conn->sentAtNs = window == 1 && conn->mode == Mode::pingpong ? nowNs() : 0;
    sendMessages(*conn, window);
  }
}

void printCounters(const char *event) {
  uint64_t sent = 0, back = 0, missing = 0;
  for (const auto &[id, conn] : conns) {
    sent += conn->sent;
    if (conn->mode == Mode::idle || conn->peer == nullptr) continue;
    back += conn->received;
    const uint64_t expected = conn->sent;
    const uint64_t arrived = conn->mode == Mode::stream ? conn->peer->received : conn->received;
    missing += expected > arrived ? expected - arrived : arrived - expected;
  }
  printf("{\"event\":\"%s\",\"messages\":%llu,\"bytes\":%llu,\"sent\":%llu,\"back\":%llu,\"missing\":%llu,\"bad\":%llu,\"lost\":%llu,\"atNs\":%llu,\"latencies\":[",
         event, (unsigned long long)receivedMessages, (unsigned long long)receivedBytes, (unsigned long long)sent,
         (unsigned long long)back, (unsigned long long)missing, (unsigned long long)badMessages,
         (unsigned long long)lostConns, (unsigned long long)nowNs());
  latencies.print();
  printf("]}\n");
}

bool isDrained() {
  for (const auto &[id, conn] : conns) {
    if (conn->mode == Mode::idle || conn->peer == nullptr) continue;
    if (conn->state == State::closed || conn->peer->state == State::closed || conn->peer->stalled) continue;
    const uint64_t arrived = conn->mode == Mode::stream ? conn->peer->received : conn->received;
    if (arrived != conn->sent || conn->owed > 0) return false;
  }
  return true;
}

void stop() {
  for (const auto &[id, conn] : conns) conn->running = false;
  stopAtNs = nowNs();
}

bool obey(char *line) {
  const std::string command = strtok(line, " ");
  const auto text = [] { const char *word = strtok(nullptr, " "); return word == nullptr ? "" : word; };
  const auto number = [&] { return atoi(text()); };
  if (command == "quit") return false;
  if (command == "dial") {
    const int id = number(), port = number();
    dial(id, port, text());
  } else if (command == "listen") {
    listenOnLoopback();
  } else if (command == "pair") {
    Conn *a = find(number()), *b = find(number());
    if (a != nullptr && b != nullptr) {
      a->peer = b;
      b->peer = a;
    }
  } else if (command == "start") {
    const int first = number(), last = number();
    const std::string mode = text();
    const size_t size = size_t(number());
    const uint64_t window = uint64_t(number());
    start(first, last, mode, size, window, number() == 1);
  } else if (command == "mark") {
    printCounters("mark");
    latencies.clear();
  } else if (command == "stop") {
    stop();
  } else if (command == "stall" || command == "unstall") {
    Conn *conn = find(number());
    if (conn != nullptr && conn->state != State::closed) {
      conn->stalled = command == "stall";
      watch(*conn);
    }
  } else if (command == "drop") {
    Conn *conn = find(number());
    if (conn != nullptr && conn->state != State::closed) {
      conn->state = State::closed;
      ::close(conn->fd);
    }
  } else {
    fprintf(stderr, "generator: unknown command %s\n", command.c_str());
  }
  return true;
}

/** Reads what has come on standard input; false when there is no more to do. */
bool obeyInput() {
  static std::string input;
  char bytes[65536];
  const ssize_t got = read(STDIN_FILENO, bytes, sizeof bytes);
  if (got <= 0) return false;
  input.append(bytes, size_t(got));
  size_t from = 0;
  for (size_t end; (end = input.find('\n', from)) != std::string::npos; from = end + 1) {
    input[end] = 0;
    if (end > from && !obey(&input[from])) return false;
  }
  input.erase(0, from);
  return true;
}

}  // namespace

int main() {
  signal(SIGPIPE, SIG_IGN);
  static char outputBuffer[1 << 16];
  setvbuf(stdout, outputBuffer, _IOFBF, sizeof outputBuffer);
  epollFd = epoll_create1(EPOLL_CLOEXEC);
  int inputTag = 0;
  epoll_event inputEvent{};
  inputEvent.events = EPOLLIN;
  inputEvent.data.ptr = &inputTag;
  if (epoll_ctl(epollFd, EPOLL_CTL_ADD, STDIN_FILENO, &inputEvent) != 0) fail("standard input must be a pipe");
  std::vector<epoll_event> events(1024);
  for (;;) {
    const int count = epoll_wait(epollFd, events.data(), int(events.size()), stopAtNs == 0 ? -1 : 20);
    if (count < 0 && errno != EINTR) fail("epoll_wait");
    for (int i = 0; i < count; i += 1) {
      if (events[i].data.ptr == &inputTag) {
        if (!obeyInput()) return 0;
        continue;
      }
      if (events[i].data.ptr == &listenFd) {
        acceptClients();
        continue;
      }
      Conn &conn = *static_cast<Conn *>(events[i].data.ptr);
      if (conn.state == State::closed) continue;
      const uint32_t happened = events[i].events;
      if (happened & EPOLLOUT) onWritable(conn);
      if (conn.state != State::closed && happened & (EPOLLIN | EPOLLHUP | EPOLLERR)) onReadable(conn);
    }
    graveyard.clear();
    if (stopAtNs != 0 && (isDrained() || nowNs() - stopAtNs > kDrainNs)) {
      stopAtNs = 0;
      printCounters("drained");
    }
    fflush(stdout);
  }
}
