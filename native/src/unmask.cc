#include "unmask.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "masks are rotated in little-endian order");

namespace halfway {

namespace {

// In each form all loads of a step come before its stores, so that `to` may lie any distance below `from`.

[[maybe_unused]] void unmask_words(char *to, const char *from, size_t length, uint32_t mask) {
  const uint64_t wide = mask | static_cast<uint64_t>(mask) << 32;
  while (length >= kUnmaskInlineMax) {
    uint64_t words[4];
    memcpy(words, from, sizeof words);
    for (uint64_t &word : words) word ^= wide;
    memcpy(to, words, sizeof words);
    from += sizeof words, to += sizeof words, length -= sizeof words;
  }
  unmask(to, from, length, mask);
}

#if defined(__x86_64__)

void unmask_sse2(char *to, const char *from, size_t length, uint32_t mask) {
  const __m128i wide = _mm_set1_epi32(static_cast<int>(mask));
  while (length >= 64) {
    const auto *source = reinterpret_cast<const __m128i *>(from);
    auto *target = reinterpret_cast<__m128i *>(to);
    const __m128i a = _mm_loadu_si128(source), b = _mm_loadu_si128(source + 1);
    const __m128i c = _mm_loadu_si128(source + 2), d = _mm_loadu_si128(source + 3);
    _mm_storeu_si128(target, _mm_xor_si128(a, wide));
    _mm_storeu_si128(target + 1, _mm_xor_si128(b, wide));
    _mm_storeu_si128(target + 2, _mm_xor_si128(c, wide));
    _mm_storeu_si128(target + 3, _mm_xor_si128(d, wide));
    from += 64, to += 64, length -= 64;
  }
  unmask(to, from, length, mask);
}

__attribute__((target("avx2"))) void unmask_avx2(char *to, const char *from, size_t length, uint32_t mask) {
  const __m256i wide = _mm256_set1_epi32(static_cast<int>(mask));
  while (length >= 128) {
    const auto *source = reinterpret_cast<const __m256i *>(from);
    auto *target = reinterpret_cast<__m256i *>(to);
    const __m256i a = _mm256_loadu_si256(source), b = _mm256_loadu_si256(source + 1);
    const __m256i c = _mm256_loadu_si256(source + 2), d = _mm256_loadu_si256(source + 3);
    _mm256_storeu_si256(target, _mm256_xor_si256(a, wide));
    _mm256_storeu_si256(target + 1, _mm256_xor_si256(b, wide));
    _mm256_storeu_si256(target + 2, _mm256_xor_si256(c, wide));
    _mm256_storeu_si256(target + 3, _mm256_xor_si256(d, wide));
    from += 128, to += 128, length -= 128;
  }
  if (length >= 64) {
    const auto *source = reinterpret_cast<const __m256i *>(from);
    auto *target = reinterpret_cast<__m256i *>(to);
    const __m256i a = _mm256_loadu_si256(source), b = _mm256_loadu_si256(source + 1);
    _mm256_storeu_si256(target, _mm256_xor_si256(a, wide));
    _mm256_storeu_si256(target + 1, _mm256_xor_si256(b, wide));
    from += 64, to += 64, length -= 64;
  }
  unmask(to, from, length, mask);
}

auto choose() -> decltype(unmask_wide) {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") ? unmask_avx2 : unmask_sse2;
}

#else

auto choose() -> decltype(unmask_wide) { return unmask_words; }

#endif

} // namespace

void (*unmask_wide)(char *, const char *, size_t, uint32_t) = choose();

} // namespace halfway
