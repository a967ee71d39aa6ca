// The data plane without JavaScript: legs (sockets that were taken from uWebSockets.js, or adopted), pairs of legs, and
// the four uSockets events. README.md beside this folder tells the rules; addon.cc is the JavaScript side.
//
// When things happen. uSockets calls on_data, on_writable, on_end and on_close. Nothing in here closes a socket of its
// own accord from inside them: that, and every call to JavaScript but `chunk`, waits for `run_due_work`, which the
// loop calls after all events of an iteration. on_close may nevertheless run inside anything, because JavaScript may
// close sockets wherever it runs; so a leg is marked and unlinked there, and freed by `run_due_work` only.
#pragma once

#include "byte_queue.h"
#include "frame_reader.h"
#include "usockets.h"

#include <array>
#include <cstdint>
#include <vector>

namespace halfway {

/** uSockets receives at most this much at once, with 32 writable bytes in front of it. */
constexpr size_t kReceiveBytesMax = 512 * 1024;
constexpr size_t kReceivePadding = 32;

/** How the receiving direction of a leg ended. In the order of LegEndCause in native-plane.ts. */
enum class Cause : uint8_t { none, close, lost, protocolError, tooBig, stalled, closedByUs, pairEnded };
constexpr size_t kCauses = 8;

enum class Mode : uint8_t { parked, spliced, delivered };

struct Leg;

struct Pair {
  Leg *legs[2];
  double *counters; // bytes 0 to 1, bytes 1 to 0, frames 0 to 1, frames 1 to 0
  void *owner;      // JavaScript's part
  uint64_t bytes[2] = {0, 0};
  uint64_t frames[2] = {0, 0};
  int8_t first = -1; // whose end came first
};

/** What `run_due_work` has to do for a leg. */
enum Due : uint8_t {
  kDueReady = 1, // the 101 answer has left uWebSockets.js's buffer: writing may begin
  kDueHeld = 2,  // look at input that was held
  kDueDrain = 4, // tell JavaScript that the queue is empty
  kDueCut = 8,   // close the socket
  kDueGone = 16, // the socket is closed: tell, and free
};

struct Leg {
  us_socket_t *socket; // null once closed
  us_loop_t *loop;
  int fd;
  uint32_t slot;
  Mode mode = Mode::parked;
  uint8_t due = 0;
  bool isListed = false;   // in the list of due work
  bool isReleased = false; // to be freed when its turn in that list comes
  bool isRaw = false;      // leads to another node: frames come unmasked, and FIN only when both directions are over

  // Receiving.
  bool isPaused = false;  // spliced: the other queue is full. Delivered: JavaScript said so
  bool isLenient = false; // spliced: the other queue was not empty, and the leg was not paused for it yet
  bool inputDone = false; // what still comes is thrown away
  bool gotEnd = false;    // FIN received
  Cause cause = Cause::none;
  int closeCode = kLost;

  // Sending.
  bool isReady = false;
  bool outputDone = false; // nothing may be appended: a Close frame or FIN is the last thing queued
  bool finWanted = false;  // FIN when the queue is empty
  bool finSent = false;
  bool isBroken = false; // a write failed for good
  bool lingered = false;
  bool isAwaited = false; // delivered: a Close of our own was sent, and the peer's is waited for no longer than it may linger

  Leg *peer = nullptr;
  Pair *pair = nullptr;
  uint8_t side = 0;
  void *receiver = nullptr; // JavaScript's part of a delivered leg

  FrameReader reader;
  ByteQueue queue; // to be sent
  ByteQueue held;  // received, not looked at

  // Output of a delivered leg: where it stands between frames.
  uint64_t outRemaining = 0;    // payload bytes of the frame that JavaScript is writing
  uint64_t outFragmentLeft = 0; // of them, those in the fragment that has begun
  uint8_t outFirstByte = 0;
  bool needsDrain = false; // a write returned more than 0
  uint8_t rawHeader[kHeaderBytesMax]; // the same for ready-made frames
  uint8_t rawHave = 0;
  uint64_t rawRemaining = 0;
  bool owesPong = false; // the last ping could not be answered at once
  uint8_t pongLength = 0;
  char pong[kControlBytesMax];

  // Totals, and what the sweep saw last.
  uint64_t bytesReceived = 0;
  uint64_t framesReceived = 0;
  uint64_t activity = 0; // counts receives of a delivered leg
  uint64_t sweepActivity = 0;
  uint64_t sweepWaiting = 0;
  double stillSince = -1;

  bool is_delivered_closing() const { return isAwaited && !finWanted; }
};

/** What the JavaScript side does for the plane. */
class Host {
public:
  virtual ~Host() = default;
  /**
   * Calls `Plane::deliver_frames` where JavaScript can be called, and returns what it returns. `data` lies in memory
   * that begins at `base`, has kReceiveBytesMax bytes, and is never freed.
   */
  virtual size_t deliver(Leg &leg, char *base, char *data, size_t length) = 0;
  // Within `deliver`:
  virtual void chunk(Leg &leg, uint8_t firstByte, bool isFirst, bool isLast, char *payload, size_t length) = 0;
  virtual void close_frame(Leg &leg, int code, const char *reason, size_t length) = 0;
  virtual void error(Leg &leg, int code) = 0;
  // Within `Plane::run_due_work`:
  virtual void drain(Leg &leg) = 0;
  /** The last call for this leg: lets go of `leg.receiver`. */
  virtual void gone(Leg &leg) = 0;
  /** The last call for this pair: lets go of `pair.owner`. */
  virtual void pair_gone(Pair &pair) = 0;
  /** Have `run_due_work` called by the loop, soon and once. */
  virtual void wake() = 0;
};

struct Options {
  double lingerMs = 10'000;
  double stallMs = 120'000;
  double parkedBytesMax = 64.0 * 1024 * 1024;
  int lostCode = 1001;
  int keepAliveSeconds = 60;
};

struct Totals {
  uint64_t attached = 0;
  uint64_t adopted = 0; // of those attached
  uint64_t taken = 0;   // of those attached, from another process
  uint64_t given = 0;   // to another process
  uint64_t spliced = 0;
  uint64_t pauses = 0;
  uint64_t lingered = 0;
  std::array<uint64_t, kCauses> ends{};
};

struct Gauges {
  uint64_t legs = 0, raw = 0, parked = 0, splices = 0, paused = 0, queuedBytes = 0, heldBytes = 0;
};

class Plane {
public:
  USockets us{};
  Options options;
  Totals totals;

  /** One per process: uSockets' handlers carry no argument of ours. */
  static Plane &instance();
  void set_host(Host *host) { host_ = host; }

  /** 1 hooked now, 0 hooked already, -1 refused: the handlers are not where they can be found with certainty. */
  int hook(us_socket_context_t *context);
  /** Null when the socket is closed, of another context, or taken already. */
  Leg *attach(us_socket_t *socket, uint64_t frameBytesMax, uint64_t messageBytesMax);
  /**
   * A raw leg on a descriptor of its own for the connection that `fd` leads to; `fd` stays the caller's. `head` is what
   * was read of it already. Null, with nothing taken, when it is no connected stream socket, when there is no loop yet
   * (no route was hooked), or when there is no room.
   */
  Leg *adopt(int fd, const char *head, size_t length);
  /**
   * Gives a parked leg's socket, with what was held of it, to the process that takes connections under `name`, and
   * closes it here without a word to its client. Returns 0, or errno with nothing done: EAGAIN when it may be asked
   * again soon, for the 101 answer has not left yet or the other process has too many waiting; EOPNOTSUPP for a Unix
   * socket, whose other end is in this process.
   */
  int hand_over(Leg &leg, const char *name, size_t nameLength, const char *record, size_t recordLength);
  /** The other side of it: a parked leg on `fd`, which is closed when there is no room. The client's frames are masked. */
  Leg *take_over(int fd, const char *held, size_t length, uint64_t messageBytesMax);
  /**
   * From here on the kernel keeps what is written to this socket, until `release_gathered` is called with what this
   * returns: -1 when it is closed, or no TCP, and nothing is kept.
   */
  int gather(us_socket_t *socket) const;
  /** By descriptor, because an upgrade moves the socket. Does no harm should it be closed by then, and used anew. */
  static void release_gathered(int fd);
  /** Null when the handle is stale. */
  Leg *find(double handle) const;
  double handle_of(const Leg &leg) const;

  bool can_pair(const Leg *leg) const { return leg != nullptr && leg->socket != nullptr && leg->mode == Mode::parked && !leg->inputDone; }
  void splice(Leg &a, Leg &b, double *counters, void *owner);
  void deliver(Leg &leg, void *receiver);
  void pause(Leg &leg);
  void resume(Leg &leg);
  size_t write_frame(Leg &leg, uint8_t firstByte, const char *payload, size_t length, uint64_t total);
  size_t write_more(Leg &leg, const char *payload, size_t length);
  size_t write_raw(Leg &leg, const char *bytes, size_t length);
  /** `isPassedOn`: the Close of somebody else, whose answer may take its time. Until this is called once more without. */
  void close(Leg &leg, int code, const char *reason, size_t length, bool isPassedOn);
  void end(Leg &leg);
  void destroy(Leg &leg);

  void run_due_work();
  /** Hands frames to JavaScript, which may pause, close or destroy anything meanwhile. Returns how much was taken. */
  size_t deliver_frames(Leg &leg, char *data, size_t length);
  void sweep(double nowMs);
  Gauges gauges() const;

private:
  struct Hook {
    us_socket_context_t *context;
    DataHandler data;
    SocketHandler writable;
    SocketHandler end;
    CloseHandler close;
    size_t offset; // where in the context our data handler was found
  };
  struct Slot {
    Leg *leg = nullptr;
    uint32_t generation = 0;
  };

  Host *host_ = nullptr;
  std::vector<Hook> hooks_;
  us_loop_t *loop_ = nullptr;                  // known since the first hook
  us_socket_context_t *ownContext_ = nullptr;  // of all sockets that no route has accepted
  std::vector<Leg *> byFd_;
  std::vector<Slot> slots_;
  std::vector<uint32_t> freeSlots_;
  std::vector<Leg *> due_;
  std::vector<Leg *> running_;
  uint64_t parkedBytes_ = 0;
  bool isInWritable_ = false;

  static us_socket_t *on_data(us_socket_t *, char *, int);
  static us_socket_t *on_writable(us_socket_t *);
  static us_socket_t *on_end(us_socket_t *);
  static us_socket_t *on_close(us_socket_t *, int, void *);

  Hook *hook_of(us_socket_context_t *context);
  const Hook &hook_of(us_socket_t *socket);
  Leg *leg_of(us_socket_t *socket) const;

  us_socket_context_t *own_context();
  bool can_take(int fd, size_t length) const;
  Leg *add_own(int fd, const char *held, size_t length);
  bool has_free_slot();
  Leg *add_leg(us_socket_t *socket, int fd);

  // Receiving.
  void receive(Leg &leg, char *data, size_t length);
  void relay(Leg &leg, char *data, size_t length);
  void deliver_control(Leg &leg);
  void hold(Leg &leg, const char *data, size_t length);
  void relay_held(Leg &leg);
  void deliver_held(Leg &leg);

  // Sending.
  bool is_between_frames(const Leg &leg) const;
  size_t send_now(Leg &leg, const char *data, size_t length);
  void send(Leg &leg, const char *data, size_t length);
  void send_parts(Leg &leg, const char *header, size_t headerLength, const char *payload, size_t length);
  void send_control(Leg &leg, uint8_t opcode, const char *payload, size_t length);
  void answer_ping(Leg &leg);
  size_t waiting(Leg &leg);
  void flush(Leg &leg);
  void drained(Leg &leg);
  void close_output(Leg &leg, int code, const char *reason, size_t length);

  // Ends.
  void end_input(Leg &leg, Cause cause);
  void fail(Leg &leg, int code);
  void lose(Leg &leg, Cause cause);
  void finish(Leg &leg);
  void shut_down(Leg &leg);
  void cut(Leg &leg);

  void update_poll(Leg &leg);
  bool wants_read(const Leg &leg) const;
  void schedule(Leg &leg, uint8_t due);
  void run(Leg &leg);
  void release(Leg &leg);
  bool has_stood_still(Leg &leg, double nowMs, double limitMs);
  double linger_limit(const Leg &leg) const;
};

} // namespace halfway
