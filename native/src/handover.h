// A connection of a client on its way to another process of this machine: one datagram on a Unix socket, with the
// descriptor, what the giver says about it, and what it had read of it. Knows no legs; plane.cc does.
#pragma once

#include <cstddef>

namespace halfway {

/** Longest datagram: what is said, and what was read. */
constexpr size_t kHandOverBytesMax = 64 * 1024;

struct HandedOver {
  int fd; // the receiver's own
  const char *record;
  size_t recordLength;
  const char *held;
  size_t heldLength;
};

/** Opens the socket that takes connections, under an abstract name. Returns its descriptor, or -1: the name is taken, or too long. */
int open_hand_over_door(const char *name, size_t nameLength);

/** Sends one. Returns 0, or errno: nothing was sent. EAGAIN: the taker has too many waiting. `fd` stays the caller's. */
int send_hand_over(const char *name, size_t nameLength, int fd, const char *record, size_t recordLength, const char *held,
                   size_t heldLength);

enum class Received { nothing, junk, connection };

/** Receives one that waits. `handed` points into memory that the next call uses again. */
Received receive_hand_over(int door, HandedOver &handed);

} // namespace halfway
