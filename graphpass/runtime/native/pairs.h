// neuron.h on two short numbers at once, in one register, for thresholds of every step. Where the machine compares one number
// at a time, so do these, with the same results.
#pragma once

#include <type_traits>

#include "neuron.h"

namespace graphpass {

// Two numbers of Half or BFloat, the first in the low bits.
template <typename T>
struct Two {
  std::uint32_t bits;
};

template <typename T>
GRAPHPASS_BOTH Two<T> two(T first, T second) {
  return {first.bits | static_cast<std::uint32_t>(second.bits) << 16};
}

template <typename T>
GRAPHPASS_BOTH T one_of(Two<T> numbers, int which) {
  return T{static_cast<std::uint16_t>(numbers.bits >> 16 * which)};
}

// Whether the machine compares two numbers at once: float16 everywhere, bfloat16 from compute capability 9.0 on.
template <typename T>
constexpr bool kComparesTwo =
#ifdef __CUDA_ARCH__
    std::is_same_v<T, Half> || __CUDA_ARCH__ >= 900;
#else
    false;
#endif

// Two float32 -> the short type, to the nearest, ties to even.
template <typename T>
GRAPHPASS_BOTH Two<T> narrowed(float first, float second) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  if constexpr (std::is_same_v<T, Half>) return {same_bits<std::uint32_t>(__floats2half2_rn(first, second))};
  if constexpr (kComparesTwo<T>) return {same_bits<std::uint32_t>(__floats2bfloat162_rn(first, second))};
#endif
  return two(narrow<T>(first), narrow<T>(second));
}

// The least number of the short type that is not below a float32. So for x of that type, x >= value exactly where
// x >= round_up(value), and x < value exactly where x < round_up(value).
template <typename T>
GRAPHPASS_BOTH T round_up(float value) {
#ifdef __CUDA_ARCH__
  if constexpr (std::is_same_v<T, Half>) return Half{__half_as_ushort(__float2half_ru(value))};
  if constexpr (kComparesTwo<T>) return T{__bfloat16_as_ushort(__float2bfloat16_ru(value))};
#endif
  T nearest = narrow<T>(value);
  if (widen(nearest) < value) nearest.bits += nearest.bits & 0x8000u ? -1 : 1;
  return nearest;
}

#ifdef __CUDA_ARCH__
#define GRAPHPASS_SET(comparison, type) \
  asm("set." comparison ".u32." type " %0, %1, %2;" : "=r"(mask) : "r"(a.bits), "r"(b.bits))
#else
#define GRAPHPASS_SET(comparison, type)
#endif
#define GRAPHPASS_COMPARED(name, comparison, holds)                                  \
  template <typename T>                                                              \
  GRAPHPASS_BOTH std::uint32_t name(Two<T> a, Two<T> b) {                            \
    std::uint32_t mask = 0;                                                          \
    if constexpr (!kComparesTwo<T>) {                                                     \
      for (int k = 0; k < 2; ++k) {                                                  \
        const float one = widen(one_of(a, k)), other = widen(one_of(b, k));          \
        if (holds) mask |= 0xffffu << 16 * k;                                        \
      }                                                                              \
    } else if constexpr (std::is_same_v<T, Half>) {                                  \
      GRAPHPASS_SET(comparison, "f16x2");                                            \
    } else {                                                                         \
      GRAPHPASS_SET(comparison, "bf16x2");                                           \
    }                                                                                \
    return mask;                                                                     \
  }
// All ones in the half where the comparison holds; with a NaN only the last one does.
GRAPHPASS_COMPARED(reaching, "ge", one >= other)
GRAPHPASS_COMPARED(below, "lt", one < other)
GRAPHPASS_COMPARED(unordered, "nan", one != one || other != other)
#undef GRAPHPASS_COMPARED
#undef GRAPHPASS_SET

// Two counts below 128 in one sum: kNone<T> less every mask, as integers. The mask of a first number alone is 65535, which is
// -1 and a carry into the second; so the sum is kNone + first + 65536 * (second - first).
template <typename T>
constexpr std::uint32_t kNone = std::is_same_v<T, Half> ? 0x6400u : 0x4300u;  // 1024, or 128: + n in the last bits is + n

template <typename T>
GRAPHPASS_BOTH void counted(std::uint32_t sum, float& first, float& second) {
  constexpr Two<T> none = {kNone<T> * 0x10001u};
  Two<T> counts = {sum * 0x10001u};  // none + n
#ifdef __CUDA_ARCH__
  if constexpr (std::is_same_v<T, Half>) {
    asm("sub.rn.f16x2 %0, %0, %1;" : "+r"(counts.bits) : "r"(none.bits));
    first = widen(one_of(counts, 0)), second = widen(one_of(counts, 1));
    return;
  }
#endif
  first = widen(one_of(counts, 0)) - widen(one_of(none, 0)), second = widen(one_of(counts, 1)) - widen(one_of(none, 1));
}

}  // namespace graphpass
