// One direction of WebSocket frames as they come from a client, or unmasked from another node: a state machine over
// bytes that may be cut anywhere.
// RFC 6455 section 5; the same rules in TypeScript are in src/protocol/frame-relay.ts, which the tests compare.
#pragma once

#include "unmask.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace halfway {

/** Longest data frame that is sent on; a longer one becomes fragments, for Java's client drops longer ones. */
constexpr uint64_t kFragmentBytesMax = 65'536;
constexpr size_t kControlBytesMax = 125;
constexpr size_t kHeaderBytesMax = 14;
constexpr uint8_t kFin = 0x80;
constexpr uint8_t kOpcodeContinuation = 0, kOpcodeBinary = 2, kOpcodeClose = 8, kOpcodePing = 9, kOpcodePong = 10;

constexpr int kProtocolError = 1002;
constexpr int kTooBig = 1009;
constexpr int kNoCode = 1005;
constexpr int kLost = 1006;

/** Codes that may stand in a Close frame. RFC 6455 section 7.4. */
inline bool is_close_code_on_wire(int code) {
  if (code >= 3000) return code <= 4999;
  return code >= 1000 && code <= 1014 && (code < 1004 || code > 1006);
}

/** Writes an unmasked header and returns its length: 2, 4 or 10. */
inline size_t write_header(char *to, uint8_t firstByte, uint64_t payload) {
  to[0] = static_cast<char>(firstByte);
  if (payload <= kControlBytesMax) {
    to[1] = static_cast<char>(payload);
    return 2;
  }
  if (payload <= 0xffff) {
    to[1] = 126;
    const uint16_t length = __builtin_bswap16(static_cast<uint16_t>(payload));
    memcpy(to + 2, &length, 2);
    return 4;
  }
  to[1] = 127;
  const uint64_t length = __builtin_bswap64(payload);
  memcpy(to + 2, &length, 8);
  return 10;
}

inline size_t header_bytes(uint64_t payload) { return payload <= kControlBytesMax ? 2 : payload <= 0xffff ? 4 : 10; }

class FrameReader {
public:
  enum class State : uint8_t { header, payload, control };

  uint64_t frameBytesMax = 0;   // 0 for no limit
  uint64_t messageBytesMax = 0; // 0 for no limit
  bool isMasked = true;         // what every frame must be, or none

  uint64_t remaining = 0;    // payload bytes of this frame that are still to come
  uint64_t fragmentLeft = 0; // of them, those that fit into the fragment that is being sent
  uint32_t mask = 0;         // for the next byte; 0 where frames are not masked
  State state = State::header;
  uint8_t firstByte = 0;
  bool isFirstPart = false; // no payload byte of this frame has been seen

  /** The payload of a control frame that is collected whole. */
  uint8_t controlLength = 0;
  char control[kControlBytesMax];

  bool is_data() const { return (firstByte & 0x08) == 0; }
  uint8_t opcode() const { return firstByte & 0x0f; }

  /** Spliced: a part of a frame, or of a fragment made of one, has been passed on and the rest is owed. */
  bool is_inside_frame() const { return state == State::payload && fragmentLeft != 0; }

  /**
   * Reads a header from the front of `in`, over several calls if it comes in pieces, and moves `in` past it.
   *
   * @returns 0 when bytes are missing (all of `in` is taken), 1 when `firstByte`, `remaining` and `mask` are set, or
   * the close code of the rule that was broken.
   */
  int read_header(char *&in, const char *end) {
    const auto *bytes = reinterpret_cast<const uint8_t *>(in);
    const size_t available = static_cast<size_t>(end - in);
    if (headerHave_ == 0 && available >= 2) {
      // The whole header is here, nearly always.
      const size_t needed = header_needed(bytes[1]);
      if (available >= needed) {
        in += needed;
        return check(bytes);
      }
    }
    // At most 14 bytes in all, so one at a time is good enough.
    while (in < end) {
      header_[headerHave_++] = static_cast<uint8_t>(*in++);
      if (headerHave_ < 2) continue;
      if (headerHave_ == 2) {
        const int fault = check_start(header_);
        if (fault != 0) return fault;
      }
      if (headerHave_ == header_needed(header_[1])) {
        headerHave_ = 0;
        return check(header_);
      }
    }
    return 0;
  }

  /** Takes payload of a control frame that is collected whole; true when it is complete. */
  bool collect_control(char *&in, const char *end) {
    const size_t length = std::min<uint64_t>(remaining, static_cast<uint64_t>(end - in));
    take_payload(control + controlLength, in, length);
    controlLength = static_cast<uint8_t>(controlLength + length);
    remaining -= length;
    in += length;
    return remaining == 0;
  }

  /** Writes `length` bytes of payload, as they were before they were masked, to `to`: `from`, or in front of it. */
  void take_payload(char *to, const char *from, size_t length) {
    if (isMasked) {
      unmask(to, from, length, mask);
      mask = rotate_mask(mask, length);
    } else if (to != from) {
      memmove(to, from, length);
    }
  }

  /** Code of the Close frame that has been collected: kNoCode when it has none, 0 when it may not stand there. */
  int close_code() const {
    if (controlLength == 0) return kNoCode;
    if (controlLength == 1) return 0;
    const int code = static_cast<uint8_t>(control[0]) << 8 | static_cast<uint8_t>(control[1]);
    return is_close_code_on_wire(code) ? code : 0;
  }

private:
  uint64_t messageBytes_ = 0;
  uint8_t header_[kHeaderBytesMax];
  uint8_t headerHave_ = 0;
  bool isInMessage_ = false;

  size_t header_needed(uint8_t secondByte) const {
    const uint8_t length = secondByte & 0x7f;
    return (length < 126 ? 2u : length == 126 ? 4u : 10u) + (isMasked ? 4u : 0u);
  }

  /** What the first two bytes show already. */
  int check_start(const uint8_t *bytes) const {
    const uint8_t opcode = bytes[0] & 0x0f;
    if ((bytes[0] & 0x70) != 0 || ((bytes[1] & 0x80) != 0) != isMasked) return kProtocolError;
    if (opcode >= 8) {
      const bool isFine = opcode <= kOpcodePong && (bytes[0] & kFin) != 0 && (bytes[1] & 0x7f) <= kControlBytesMax;
      return isFine ? 0 : kProtocolError;
    }
    if (opcode > kOpcodeBinary) return kProtocolError;
    return (opcode == kOpcodeContinuation) == isInMessage_ ? 0 : kProtocolError;
  }

  int check(const uint8_t *bytes) {
    const int fault = check_start(bytes);
    if (fault != 0) return fault;
    uint64_t length = bytes[1] & 0x7f;
    const uint8_t *maskBytes = bytes + 2;
    if (length == 126) {
      uint16_t wire;
      memcpy(&wire, bytes + 2, 2);
      length = __builtin_bswap16(wire);
      if (length <= kControlBytesMax) return kProtocolError;
      maskBytes = bytes + 4;
    } else if (length == 127) {
      uint64_t wire;
      memcpy(&wire, bytes + 2, 8);
      length = __builtin_bswap64(wire);
      if (length <= 0xffff || length >> 63 != 0) return kProtocolError;
      maskBytes = bytes + 10;
    }
    if (isMasked) memcpy(&mask, maskBytes, 4);
    firstByte = bytes[0];
    remaining = length;
    isFirstPart = true;
    if (is_data()) {
      if (opcode() != kOpcodeContinuation) messageBytes_ = 0;
      messageBytes_ += std::min(length, UINT64_MAX / 2 - messageBytes_);
      if (frameBytesMax != 0 && length > frameBytesMax) return kTooBig;
      if (messageBytesMax != 0 && messageBytes_ > messageBytesMax) return kTooBig;
      isInMessage_ = (firstByte & kFin) == 0;
    }
    return 1;
  }
};

/** What came of one piece of input. */
struct Relayed {
  char *start; // bytes to send are [start, end), inside the input or up to 10 bytes in front of it
  char *end;
  uint64_t dataBytes = 0;
  uint64_t dataFrames = 0;
  int fault = 0;        // 1002 or 1009: what follows `end` is not to be looked at
  bool closed = false;  // a Close frame is complete, its payload in `reader.control`
};

/**
 * Turns a piece of what a client sent, [in, inputEnd), into what the other client gets, in place: payloads are unmasked
 * where they lie, or moved towards the front so that several frames lie side by side and go out by one write. 10 bytes
 * in front of `in` must be writable. Frames that come unmasked stay where they are, and each header is written upon
 * itself: a header without a mask has one form only. The exception is a frame that becomes fragments: the header of a further fragment
 * goes into bytes that `flush(start, length)` has taken before.
 *
 * Stops behind a Close frame and at a fault. A Close frame is not in the output: the caller sends it.
 */
template <typename Flush> Relayed relay_frames(FrameReader &reader, char *in, const char *inputEnd, Flush &&flush) {
  Relayed result{in, in};
  char *start = in, *out = in;

  const auto put_header = [&](uint8_t firstByte, uint64_t payload) {
    const size_t length = header_bytes(payload);
    if (out != start && out + length > in) {
      flush(start, static_cast<size_t>(out - start));
      out = start;
    }
    // With nothing before it the header goes right in front of its payload, which then need not move.
    if (out == start) start = out = in - length;
    write_header(out, firstByte, payload);
    out += length;
  };

  while (in < inputEnd) {
    if (reader.state == FrameReader::State::payload) {
      if (reader.fragmentLeft == 0) {
        const uint64_t length = std::min(reader.remaining, kFragmentBytesMax);
        const bool isLast = length == reader.remaining;
        put_header(isLast ? reader.firstByte & kFin : 0, length);
        reader.fragmentLeft = length;
      }
      const size_t length = std::min<uint64_t>(reader.fragmentLeft, static_cast<uint64_t>(inputEnd - in));
      reader.take_payload(out, in, length);
      out += length;
      in += length;
      reader.fragmentLeft -= length;
      reader.remaining -= length;
      if (reader.is_data()) result.dataBytes += length;
      if (reader.remaining == 0) reader.state = FrameReader::State::header;
      continue;
    }
    if (reader.state == FrameReader::State::header) {
      const int read = reader.read_header(in, inputEnd);
      if (read == 0) break;
      if (read != 1) {
        result.fault = read;
        break;
      }
      if (reader.opcode() == kOpcodeClose) {
        reader.state = FrameReader::State::control;
        reader.controlLength = 0;
      } else {
        if (reader.is_data()) result.dataFrames += 1;
        const uint64_t length = std::min(reader.remaining, kFragmentBytesMax);
        const bool isLast = length == reader.remaining;
        put_header(isLast ? reader.firstByte : reader.firstByte & ~kFin, length);
        reader.fragmentLeft = length;
        if (length != 0) reader.state = FrameReader::State::payload;
        continue;
      }
    }
    if (reader.collect_control(in, inputEnd)) {
      result.closed = true;
      break;
    }
  }
  result.start = start;
  result.end = out;
  return result;
}

} // namespace halfway
