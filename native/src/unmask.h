// Applies a WebSocket mask while bytes move to where they are sent from: one pass for both.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace halfway {

/** For `length` from kUnmaskInlineMax on: the widest form this processor has. Same contract as `unmask`. */
extern void (*unmask_wide)(char *to, const char *from, size_t length, uint32_t mask);

constexpr size_t kUnmaskInlineMax = 64;

/**
 * Writes `length` unmasked bytes to `to`, which is `from` or below it; they may overlap. `mask` is in memory order,
 * its lowest byte belongs to the first byte. Touches nothing beyond `length`.
 */
inline void unmask(char *to, const char *from, size_t length, uint32_t mask) {
  if (length >= kUnmaskInlineMax) return unmask_wide(to, from, length, mask);
  const uint64_t wide = mask | static_cast<uint64_t>(mask) << 32;
  while (length >= 8) {
    uint64_t word;
    memcpy(&word, from, 8);
    word ^= wide;
    memcpy(to, &word, 8);
    from += 8, to += 8, length -= 8;
  }
  if (length & 4) {
    uint32_t word;
    memcpy(&word, from, 4);
    word ^= mask;
    memcpy(to, &word, 4);
    from += 4, to += 4;
  }
  for (size_t i = 0; i < (length & 3); i += 1) to[i] = static_cast<char>(from[i] ^ (mask >> (8 * i)));
}

/** The mask as it stands after `length` more bytes. */
inline uint32_t rotate_mask(uint32_t mask, size_t length) {
  const unsigned bits = 8 * (length & 3);
  return bits == 0 ? mask : mask >> bits | mask << (32 - bits);
}

} // namespace halfway
