// A connection between two nodes that carries the streams of many pairs. What the events of one iteration of the loop
// give for all of them leaves by one write, and comes by one receive at the other node: per message a hop then costs a
// copy, and no system call.
//
//      0            4        5             8
//     +------------+--------+-------------+----------------
//     | stream     | type   | length      | payload …
//     | (u32)      | (u8)   | (u24)       |
//     +------------+--------+-------------+----------------
//
// The node that made the trunk opens streams, counting up from 1; on each, both send. A stream may have
// kStreamWindowBytes under way that the other node has not granted again: nobody waits for a client of another stream.
#pragma once

#include "byte_queue.h"

#include <cstdint>
#include <unordered_map>
#include <uv.h>
#include <vector>

namespace halfway {

struct Leg;

enum class TrunkFrame : uint8_t {
  open = 1,   // payload: a record for JavaScript
  data = 2,   // of the stream, cut anywhere
  fin = 3,    // nothing more comes in this direction
  reset = 4,  // the stream is over, in both
  credit = 5, // payload: u32, so many bytes more may be sent
};

constexpr size_t kTrunkHeaderBytes = 8;
/** As much as two receives, which is what a leg's queue is allowed anyhow. Granted again in steps. */
constexpr uint32_t kStreamWindowBytes = 1 << 20;
constexpr uint32_t kCreditStepBytes = kStreamWindowBytes / 4;
constexpr size_t kTrunkRecordBytesMax = 16 * 1024;
/** While the trunk cannot send, streams stop at this much waiting for it. */
constexpr size_t kTrunkQueueBytesMax = 512 * 1024;
/** So much is gathered at most before it is sent, although the iteration is not over. */
constexpr size_t kTrunkGatherBytes = 128 * 1024;
/** What is longer is not copied to be gathered: it is sent at once, behind what has been. */
constexpr size_t kTrunkCopyBytesMax = 24 * 1024;
/**
 * How much is received at once: small frames many at a time, a longer one by itself, so that it is sent on while it is
 * in the cache and by one write. uSockets would receive 512 KiB and cut frames wherever that ends; hence no socket of its.
 */
constexpr size_t kTrunkReceiveBytesMax = 256 * 1024;
constexpr size_t kTrunkLongFrameBytes = 24 * 1024;
/** So much in one event; then others have their turn. */
constexpr size_t kTrunkTurnBytesMax = 512 * 1024;

struct Trunk {
  uv_poll_t *poll; // null once closed; then it frees itself, and closes the descriptor
  int fd;
  uint32_t number;
  bool opens; // we open its streams
  void *owner = nullptr; // JavaScript's part
  uint32_t lastStream = 0;
  std::unordered_map<uint32_t, Leg *> legs;

  // Sending.
  ByteQueue out{2 * kTrunkGatherBytes};
  std::vector<uint32_t> waiting; // streams that found no room
  bool isBlocked = false;        // waits for writable
  bool isHolding = false;        // TCP keeps an unfinished segment, for more is to come
  bool isBroken = false;         // a write failed for good, or the other node broke the rules: to be closed
  bool isListed = false;         // in the list of due trunks

  // Receiving: the frame that has begun.
  uint8_t header[kTrunkHeaderBytes];
  size_t headerHave = 0;
  bool isInFrame = false;
  uint32_t stream = 0;
  TrunkFrame type = TrunkFrame::data;
  uint32_t remaining = 0;
  ByteQueue record{64}; // payload of `open` and `credit`, collected
};

} // namespace halfway
