// The data plane as a Node addon: arguments in, events out. Its typed face is src/transports/native-plane.ts.
//
// V8's own API and not Node-API, because uWebSockets.js keeps its sockets in internal fields of its objects, which
// Node-API cannot read. So there is one build for each Node ABI, as for uWebSockets.js itself.

#include "handover.h"
#include "plane.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <node.h>
#include <unistd.h>
#include <uv.h>

namespace halfway {

namespace {

using v8::Array;
using v8::ArrayBuffer;
using v8::BackingStore;
using v8::Context;
using v8::External;
using v8::Float64Array;
using v8::Function;
using v8::FunctionCallbackInfo;
using v8::Global;
using v8::HandleScope;
using v8::Isolate;
using v8::Local;
using v8::NewStringType;
using v8::Number;
using v8::Object;
using v8::String;
using v8::TryCatch;
using v8::Uint8Array;
using v8::Value;

/** Events of a delivered leg. In the order of EVENTS in native-plane.ts. */
enum class Event : int { chunk, drain, closeFrame, error, gone };

struct Receiver {
  Global<Function> event;
};

struct Owner {
  Global<Function> onEnd;
  /** Keeps the memory of the counters, whatever becomes of the array. */
  std::shared_ptr<BackingStore> counters;
};

class ScriptHost final : public Host {
public:
  ScriptHost(Isolate *isolate, Local<Context> context) : isolate_(isolate), context_(isolate, context) {
    resource_.Reset(isolate, Object::New(isolate));
    uv_loop_t *loop = node::GetCurrentEventLoop(isolate);
    // The check handle runs the due work behind the events of each iteration; while there is some, the idle handle
    // keeps the loop from sleeping and the process from ending.
    uv_check_init(loop, &check_);
    uv_idle_init(loop, &idle_);
    check_.data = this;
    uv_check_start(&check_, [](uv_check_t *handle) { static_cast<ScriptHost *>(handle->data)->run(); });
    uv_unref(reinterpret_cast<uv_handle_t *>(&check_));
  }

  void stop() {
    isStopped_ = true;
    while (!doors_.empty()) close_door(doors_.back()->number);
    uv_close(reinterpret_cast<uv_handle_t *>(&check_), nullptr);
    uv_close(reinterpret_cast<uv_handle_t *>(&idle_), nullptr);
  }

  void wake() override {
    if (isAwake_ || isStopped_) return;
    isAwake_ = true;
    uv_idle_start(&idle_, [](uv_idle_t *) {});
  }

  /** Takes connections from other processes; 0 when the name cannot be had, else what `close_door` wants. */
  uint32_t open_door(const char *name, size_t length, uint64_t messageBytesMax, Local<Function> onTaken) {
    const int fd = isStopped_ ? -1 : open_hand_over_door(name, length);
    if (fd < 0) return 0;
    Door *door = new Door{{}, fd, ++lastDoor_, messageBytesMax, Global<Function>(isolate_, onTaken)};
    uv_poll_init(node::GetCurrentEventLoop(isolate_), &door->poll, fd);
    door->poll.data = door;
    uv_poll_start(&door->poll, UV_READABLE, [](uv_poll_t *poll, int, int) { host_of_doors()->take(static_cast<Door *>(poll->data)); });
    uv_unref(reinterpret_cast<uv_handle_t *>(&door->poll));
    doors_.push_back(door);
    return door->number;
  }

  void close_door(uint32_t number) {
    const auto found = std::find_if(doors_.begin(), doors_.end(), [&](const Door *door) { return door->number == number; });
    if (found == doors_.end()) return;
    Door *door = *found;
    doors_.erase(found);
    door->isClosed = true;
    uv_close(reinterpret_cast<uv_handle_t *>(&door->poll), [](uv_handle_t *handle) {
      Door *closed = static_cast<Door *>(handle->data);
      close(closed->fd);
      delete closed;
    });
  }

  size_t deliver(Leg &leg, char *base, char *data, size_t length) override {
    if (isStopped_) return length;
    HandleScope handles(isolate_);
    const Local<Context> context = context_.Get(isolate_);
    const Context::Scope entered(context);
    const node::CallbackScope callback(isolate_, resource_.Get(isolate_), {0, 0});
    base_ = base;
    return Plane::instance().deliver_frames(leg, data, length);
  }

  void chunk(Leg &leg, uint8_t firstByte, bool isFirst, bool isLast, char *payload, size_t length) override {
    HandleScope handles(isolate_);
    const Local<Uint8Array> bytes =
        Uint8Array::New(buffer(), length == 0 ? 0 : static_cast<size_t>(payload - base_), length);
    tell(leg, Event::chunk, firstByte, (isFirst ? 1 : 0) | (isLast ? 2 : 0), bytes);
  }

  void close_frame(Leg &leg, int code, const char *reason, size_t length) override {
    HandleScope handles(isolate_);
    const Local<String> text =
        String::NewFromUtf8(isolate_, reason, NewStringType::kNormal, static_cast<int>(length)).FromMaybe(String::Empty(isolate_));
    tell(leg, Event::closeFrame, code, 0, text);
  }

  void error(Leg &leg, int code) override { tell(leg, Event::error, code); }
  void drain(Leg &leg) override { tell(leg, Event::drain); }

  void gone(Leg &leg) override {
    tell(leg, Event::gone);
    delete static_cast<Receiver *>(leg.receiver);
    leg.receiver = nullptr;
  }

  void pair_gone(Pair &pair) override {
    HandleScope handles(isolate_);
    const std::unique_ptr<Owner> owner(static_cast<Owner *>(pair.owner));
    const auto number = [&](double value) { return Number::New(isolate_, value).As<Value>(); };
    Local<Value> values[11];
    size_t at = 0;
    for (const Leg *leg : pair.legs) {
      values[at++] = number(leg->closeCode);
      values[at++] = number(static_cast<double>(leg->cause));
      values[at++] = number(leg->lingered ? 1 : 0);
    }
    values[at++] = number(pair.first);
    for (size_t side = 0; side < 2; side += 1) {
      values[at++] = number(static_cast<double>(pair.bytes[side]));
      values[at++] = number(static_cast<double>(pair.frames[side]));
    }
    Local<Value> argument = Array::New(isolate_, values, at);
    call(owner->onEnd.Get(isolate_), 1, &argument);
  }

private:
  Isolate *isolate_;
  Global<Context> context_;
  Global<Object> resource_;
  uv_check_t check_;
  uv_idle_t idle_;
  bool isAwake_ = false;
  bool isStopped_ = false;
  char *base_ = nullptr; // of the memory that is being delivered from
  /** One ArrayBuffer for each memory that chunks lie in: the loop's receive buffer and the plane's own. */
  struct Buffer {
    char *base;
    Global<ArrayBuffer> array;
  };
  std::vector<Buffer> buffers_;
  struct Door {
    uv_poll_t poll;
    int fd;
    uint32_t number;
    uint64_t messageBytesMax;
    Global<Function> onTaken;
    bool isClosed = false; // freed behind this iteration
  };
  std::vector<Door *> doors_;
  uint32_t lastDoor_ = 0;
  static ScriptHost *host_of_doors();

  /** So many connections are taken at once; then others have their turn. */
  static constexpr int kTakenAtOnce = 64;

  void take(Door *door) {
    HandleScope handles(isolate_);
    const Local<Context> context = context_.Get(isolate_);
    const Context::Scope entered(context);
    for (int i = 0; i < kTakenAtOnce && !door->isClosed; i += 1) {
      HandedOver handed;
      const Received received = receive_hand_over(door->fd, handed);
      if (received == Received::nothing) return;
      if (received == Received::junk) continue;
      Plane &plane = Plane::instance();
      const Leg *leg = plane.take_over(handed.fd, handed.held, handed.heldLength, door->messageBytesMax);
      if (leg == nullptr) continue;
      const HandleScope inner(isolate_);
      Local<Value> arguments[] = {Number::New(isolate_, plane.handle_of(*leg)), copy_of(handed.record, handed.recordLength)};
      const node::CallbackScope callback(isolate_, resource_.Get(isolate_), {0, 0});
      call(door->onTaken.Get(isolate_), 2, arguments);
    }
  }

  void run() {
    if (!isAwake_) return;
    isAwake_ = false;
    HandleScope handles(isolate_);
    const Local<Context> context = context_.Get(isolate_);
    const Context::Scope entered(context);
    {
      const node::CallbackScope callback(isolate_, resource_.Get(isolate_), {0, 0});
      Plane::instance().run_due_work();
    }
    if (!isAwake_ && !isStopped_) uv_idle_stop(&idle_);
  }

  Local<Value> copy_of(const char *bytes, size_t length) {
    const Local<ArrayBuffer> memory = ArrayBuffer::New(isolate_, length);
    if (length != 0) memcpy(memory->GetBackingStore()->Data(), bytes, length);
    return Uint8Array::New(memory, 0, length);
  }

  Local<ArrayBuffer> buffer() {
    for (Buffer &known : buffers_) {
      if (known.base != base_) continue;
      const Local<ArrayBuffer> array = known.array.Get(isolate_);
      if (!array->WasDetached()) return array;
      known.array.Reset(isolate_, make_buffer());
      return known.array.Get(isolate_);
    }
    buffers_.push_back({base_, Global<ArrayBuffer>(isolate_, make_buffer())});
    return buffers_.back().array.Get(isolate_);
  }

  Local<ArrayBuffer> make_buffer() {
    return ArrayBuffer::New(isolate_, ArrayBuffer::NewBackingStore(
                                          base_, kReceiveBytesMax, [](void *, size_t, void *) {}, nullptr));
  }

  void tell(Leg &leg, Event event, int number = 0, int flags = 0, Local<Value> payload = {}) {
    if (leg.receiver == nullptr) return;
    HandleScope handles(isolate_);
    Local<Value> arguments[] = {Number::New(isolate_, static_cast<int>(event)), Number::New(isolate_, number),
                                Number::New(isolate_, flags),
                                payload.IsEmpty() ? v8::Undefined(isolate_).As<Value>() : payload};
    call(static_cast<Receiver *>(leg.receiver)->event.Get(isolate_), 4, arguments);
  }

  /** What a callback throws is an uncaught exception, as from any event handler; the plane goes on. */
  void call(Local<Function> function, int count, Local<Value> *arguments) {
    if (isStopped_) return;
    TryCatch attempt(isolate_);
    const Local<Context> context = context_.Get(isolate_);
    if (function->Call(context, v8::Undefined(isolate_), count, arguments).IsEmpty() && attempt.HasCaught() &&
        !attempt.HasTerminated()) {
      node::FatalException(isolate_, attempt);
    }
  }
};

ScriptHost *host = nullptr;

ScriptHost *ScriptHost::host_of_doors() { return host; }

// ---- Arguments -------------------------------------------------------------------------------------------------------

using Info = const FunctionCallbackInfo<Value> &;

void fail(Info info, const char *message) {
  Isolate *isolate = info.GetIsolate();
  isolate->ThrowException(v8::Exception::TypeError(String::NewFromUtf8(isolate, message).ToLocalChecked()));
}

double number_at(Info info, int index) {
  return info[index]->IsNumber() ? info[index].As<Number>()->Value() : 0;
}

/** A size in JavaScript: anything below 1, and NaN, is 0. */
uint64_t size_at(Info info, int index) {
  const double value = number_at(info, index);
  return value >= 1 && value <= 9007199254740991.0 ? static_cast<uint64_t>(value) : 0;
}

Leg *leg_at(Info info, int index) {
  return info[index]->IsNumber() ? Plane::instance().find(info[index].As<Number>()->Value()) : nullptr;
}

/** The uSockets socket in an object of uWebSockets.js; null when it is closed, or no such object. */
us_socket_t *socket_at(Info info, int index) {
  if (!info[index]->IsObject()) return nullptr;
  const Local<Object> object = info[index].As<Object>();
  if (object->InternalFieldCount() < 1) return nullptr;
  return static_cast<us_socket_t *>(object->GetAlignedPointerFromInternalField(0));
}

/** The bytes of a Uint8Array, for the length of a call. Short ones can lie inside V8's heap and are copied. */
class Bytes {
public:
  explicit Bytes(Local<Value> value) {
    if (!value->IsUint8Array()) return;
    const Local<Uint8Array> view = value.As<Uint8Array>();
    length = view->ByteLength();
    if (view->HasBuffer()) {
      data = static_cast<const char *>(view->Buffer()->Data()) + view->ByteOffset();
    } else {
      view->CopyContents(copy_, sizeof copy_);
      data = copy_;
    }
  }
  Bytes(const Bytes &) = delete;
  Bytes &operator=(const Bytes &) = delete;
  const char *data = copy_;
  size_t length = 0;

private:
  char copy_[256];
};

// ---- Functions -------------------------------------------------------------------------------------------------------

/** (binaryPath) → what is missing, undefined when the plane is ready. */
void load(Info info) {
  Isolate *isolate = info.GetIsolate();
  const auto answer = [&](const char *text) { info.GetReturnValue().Set(String::NewFromUtf8(isolate, text).ToLocalChecked()); };
  if (host != nullptr) return answer("this process has loaded it in another thread");
  const String::Utf8Value path(isolate, info[0]);
  const char *missing = *path == nullptr ? "a path" : Plane::instance().us.load(*path);
  if (missing != nullptr) return answer(missing);
  host = new ScriptHost(isolate, isolate->GetCurrentContext());
  Plane::instance().set_host(host);
  node::AddEnvironmentCleanupHook(isolate, [](void *) { host->stop(); }, nullptr);
}

void hook(Info info) {
  if (!info[0]->IsExternal()) return info.GetReturnValue().Set(-1);
  auto *context = static_cast<us_socket_context_t *>(info[0].As<External>()->Value());
  info.GetReturnValue().Set(context == nullptr ? -1 : Plane::instance().hook(context));
}

void attach(Info info) {
  Plane &plane = Plane::instance();
  const Leg *leg = plane.attach(socket_at(info, 0), size_at(info, 1), size_at(info, 2));
  info.GetReturnValue().Set(leg == nullptr ? 0 : plane.handle_of(*leg));
}

/** (fd, head) */
void adopt(Info info) {
  Plane &plane = Plane::instance();
  if (!info[0]->IsInt32() || !info[1]->IsUint8Array()) {
    return fail(info, "Cannot adopt: it takes a descriptor, and the bytes that were read of it");
  }
  const Bytes head(info[1]);
  const Leg *leg = plane.adopt(info[0].As<v8::Int32>()->Value(), head.data, head.length);
  info.GetReturnValue().Set(leg == nullptr ? 0 : plane.handle_of(*leg));
}

/** (leg, name, record) → 0 or errno */
void hand_over(Info info) {
  Leg *leg = leg_at(info, 0);
  if (leg == nullptr) return info.GetReturnValue().Set(EINVAL);
  const String::Utf8Value name(info.GetIsolate(), info[1]);
  const Bytes record(info[2]);
  const auto length = static_cast<size_t>(name.length());
  info.GetReturnValue().Set(Plane::instance().hand_over(*leg, *name, length, record.data, record.length));
}

/** (name, messageBytesMax, onTaken) → its number, 0 when the name cannot be had */
void open_door(Info info) {
  if (!info[2]->IsFunction()) return fail(info, "Cannot take connections: the receiver must be a function");
  const String::Utf8Value name(info.GetIsolate(), info[0]);
  const auto length = static_cast<size_t>(name.length());
  info.GetReturnValue().Set(host->open_door(*name, length, size_at(info, 1), info[2].As<Function>()));
}

/** (number) */
void close_door(Info info) { host->close_door(static_cast<uint32_t>(size_at(info, 0))); }

/** (response) → what `releaseGathered` takes; -1: nothing is gathered */
void gather(Info info) { info.GetReturnValue().Set(Plane::instance().gather(socket_at(info, 0))); }

/** (what `gather` returned) */
void release_gathered(Info info) {
  if (info[0]->IsInt32()) Plane::release_gathered(info[0].As<v8::Int32>()->Value());
}

void splice(Info info) {
  Plane &plane = Plane::instance();
  if (!info[2]->IsFloat64Array() || info[2].As<Float64Array>()->Length() < 4 || !info[3]->IsFunction()) {
    return fail(info, "Cannot splice: counters must be a Float64Array of 4, and onEnd a function");
  }
  Leg *a = leg_at(info, 0), *b = leg_at(info, 1);
  if (a == b || !plane.can_pair(a) || !plane.can_pair(b)) return info.GetReturnValue().Set(false);
  const Local<Float64Array> counters = info[2].As<Float64Array>();
  auto *owner = new Owner{Global<Function>(info.GetIsolate(), info[3].As<Function>()), counters->Buffer()->GetBackingStore()};
  char *memory = static_cast<char *>(owner->counters->Data()) + counters->ByteOffset();
  plane.splice(*a, *b, reinterpret_cast<double *>(memory), owner);
  info.GetReturnValue().Set(true);
}

void deliver(Info info) {
  Plane &plane = Plane::instance();
  if (!info[1]->IsFunction()) return fail(info, "Cannot deliver: the receiver must be a function");
  Leg *leg = leg_at(info, 0);
  if (!plane.can_pair(leg)) return info.GetReturnValue().Set(false);
  plane.deliver(*leg, new Receiver{Global<Function>(info.GetIsolate(), info[1].As<Function>())});
  info.GetReturnValue().Set(true);
}

void pause(Info info) {
  if (Leg *leg = leg_at(info, 0)) Plane::instance().pause(*leg);
}

void resume(Info info) {
  if (Leg *leg = leg_at(info, 0)) Plane::instance().resume(*leg);
}

Leg *writable_at(Info info, int index) {
  Leg *leg = leg_at(info, index);
  return leg == nullptr || leg->mode == Mode::spliced ? nullptr : leg;
}

/** (leg, firstByte, payload, totalBytes) */
void write_frame(Info info) {
  Leg *leg = writable_at(info, 0);
  if (leg == nullptr) return info.GetReturnValue().Set(0);
  const Bytes payload(info[2]);
  const uint64_t total = info[3]->IsNumber() ? size_at(info, 3) : payload.length;
  const auto firstByte = static_cast<uint8_t>(size_at(info, 1) & 0xff);
  if (leg->outRemaining != 0 && (firstByte & 0x08) == 0) return fail(info, "Cannot write a frame: the last one has not ended");
  if (total < payload.length) return fail(info, "Cannot write a frame: totalBytes is less than its payload");
  if ((firstByte & 0x08) != 0 && (total > kControlBytesMax || total != payload.length || leg->outRemaining != 0)) {
    return fail(info, "Cannot write a control frame: it must be whole, between frames, and of at most 125 bytes");
  }
  info.GetReturnValue().Set(
      static_cast<double>(Plane::instance().write_frame(*leg, firstByte, payload.data, payload.length, total)));
}

void write_more(Info info) {
  Leg *leg = writable_at(info, 0);
  if (leg == nullptr) return info.GetReturnValue().Set(0);
  const Bytes payload(info[1]);
  if (leg->socket != nullptr && !leg->outputDone && payload.length > leg->outRemaining) {
    return fail(info, "Cannot write more: the frame has fewer bytes left");
  }
  info.GetReturnValue().Set(static_cast<double>(Plane::instance().write_more(*leg, payload.data, payload.length)));
}

void write_raw(Info info) {
  Leg *leg = writable_at(info, 0);
  if (leg == nullptr) return info.GetReturnValue().Set(0);
  const Bytes bytes(info[1]);
  info.GetReturnValue().Set(static_cast<double>(Plane::instance().write_raw(*leg, bytes.data, bytes.length)));
}

/** (leg, code, reason as UTF-8 of at most 123 bytes, whether it is passed on) */
void close(Info info) {
  Leg *leg = leg_at(info, 0);
  if (leg == nullptr) return;
  const Bytes reason(info[2]);
  Plane::instance().close(*leg, static_cast<int>(size_at(info, 1) & 0xffff), reason.data, reason.length, info[3]->IsTrue());
}

void end(Info info) {
  if (Leg *leg = leg_at(info, 0)) Plane::instance().end(*leg);
}

void destroy(Info info) {
  if (Leg *leg = leg_at(info, 0)) Plane::instance().destroy(*leg);
}

void return_numbers(Info info, std::initializer_list<double> values) {
  Isolate *isolate = info.GetIsolate();
  std::vector<Local<Value>> numbers;
  for (const double value : values) numbers.push_back(Number::New(isolate, value));
  info.GetReturnValue().Set(Array::New(isolate, numbers.data(), numbers.size()));
}

/** → gauges, totals, then ends by cause: see `stats` in native-plane.ts. */
void stats(Info info) {
  const Plane &plane = Plane::instance();
  const Gauges now = plane.gauges();
  const Totals &total = plane.totals;
  const auto d = [](uint64_t value) { return static_cast<double>(value); };
  const auto cause = [&](Cause which) { return d(total.ends[static_cast<size_t>(which)]); };
  return_numbers(info, {d(now.legs), d(now.raw), d(now.parked), d(now.splices), d(now.paused), d(now.queuedBytes), d(now.heldBytes),
                        d(total.attached), d(total.adopted), d(total.taken), d(total.given), d(total.spliced), d(total.pauses), d(total.lingered),
                        cause(Cause::close), cause(Cause::lost), cause(Cause::protocolError), cause(Cause::tooBig),
                        cause(Cause::stalled), cause(Cause::closedByUs), cause(Cause::pairEnded)});
}

/** (leg) → state, paused, queued, held, bytes, frames; undefined when it is gone. */
void leg_stats(Info info) {
  const Leg *leg = leg_at(info, 0);
  if (leg == nullptr) return;
  const double state = leg->socket == nullptr ? 4 : leg->finWanted ? 3 : static_cast<double>(leg->mode);
  const Pair *pair = leg->pair;
  const double bytes = static_cast<double>(pair == nullptr ? leg->bytesReceived : pair->bytes[leg->side]);
  const double frames = static_cast<double>(pair == nullptr ? leg->framesReceived : pair->frames[leg->side]);
  return_numbers(info, {state, leg->isPaused ? 1.0 : 0.0, static_cast<double>(leg->queue.size()),
                        static_cast<double>(leg->held.size()), bytes, frames});
}

/** (lingerMs, stallMs, parkedBytesMax, lostCode, keepAliveSeconds) */
void configure(Info info) {
  Options &options = Plane::instance().options;
  options.lingerMs = number_at(info, 0);
  options.stallMs = number_at(info, 1);
  options.parkedBytesMax = number_at(info, 2);
  options.lostCode = static_cast<int>(size_at(info, 3) & 0xffff);
  options.keepAliveSeconds = static_cast<int>(std::min<uint64_t>(size_at(info, 4), 32'767)); // TCP's own limit
}

/** (nowMs) */
void sweep(Info info) { Plane::instance().sweep(number_at(info, 0)); }

void remote_port(Info info) {
  us_socket_t *socket = socket_at(info, 0);
  const int port = socket == nullptr ? 0 : Plane::instance().us.socket_remote_port(0, socket);
  info.GetReturnValue().Set(port < 0 ? 0 : port);
}

void set_timeout_seconds(Info info) {
  us_socket_t *socket = socket_at(info, 0);
  if (socket != nullptr) Plane::instance().us.socket_timeout(0, socket, static_cast<unsigned>(size_at(info, 1)));
}

} // namespace

} // namespace halfway

// The macro itself casts between function types.
#pragma GCC diagnostic ignored "-Wcast-function-type"
NODE_MODULE_INIT(/* exports, module, context */) {
  (void)module;
  (void)context;
  NODE_SET_METHOD(exports, "load", halfway::load);
  NODE_SET_METHOD(exports, "hook", halfway::hook);
  NODE_SET_METHOD(exports, "attach", halfway::attach);
  NODE_SET_METHOD(exports, "adopt", halfway::adopt);
  NODE_SET_METHOD(exports, "handOver", halfway::hand_over);
  NODE_SET_METHOD(exports, "openDoor", halfway::open_door);
  NODE_SET_METHOD(exports, "closeDoor", halfway::close_door);
  NODE_SET_METHOD(exports, "gather", halfway::gather);
  NODE_SET_METHOD(exports, "releaseGathered", halfway::release_gathered);
  NODE_SET_METHOD(exports, "splice", halfway::splice);
  NODE_SET_METHOD(exports, "deliver", halfway::deliver);
  NODE_SET_METHOD(exports, "pause", halfway::pause);
  NODE_SET_METHOD(exports, "resume", halfway::resume);
  NODE_SET_METHOD(exports, "writeFrame", halfway::write_frame);
  NODE_SET_METHOD(exports, "writeMore", halfway::write_more);
  NODE_SET_METHOD(exports, "writeRaw", halfway::write_raw);
  NODE_SET_METHOD(exports, "close", halfway::close);
  NODE_SET_METHOD(exports, "end", halfway::end);
  NODE_SET_METHOD(exports, "destroy", halfway::destroy);
  NODE_SET_METHOD(exports, "stats", halfway::stats);
  NODE_SET_METHOD(exports, "legStats", halfway::leg_stats);
  NODE_SET_METHOD(exports, "configure", halfway::configure);
  NODE_SET_METHOD(exports, "sweep", halfway::sweep);
  NODE_SET_METHOD(exports, "remotePort", halfway::remote_port);
  NODE_SET_METHOD(exports, "setTimeoutSeconds", halfway::set_timeout_seconds);
}
