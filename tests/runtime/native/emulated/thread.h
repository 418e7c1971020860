// What translated kernels need: a thread's place, registers as bits, checked memory, and the arithmetic of the PTX ISA
// that C++ has no operator for.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace emulated {

struct Thread {
  std::uint32_t tid, ntid, ctaid, nctaid;
};

struct Kernel {
  const char* name;  // mangled
  void (*run)(void** arguments, const Thread& thread);
  std::vector<int> sizes;  // bytes of the arguments
};
const std::vector<Kernel>& kernels();

// Ends the process unless the access is aligned and does not meet another thread's: no byte is written twice, or read
// after it was written, in one launch.
void check(std::uint64_t address, std::uint64_t bytes, bool store);

constexpr std::uint64_t kPoison = 0xCDCDCDCDCDCDCDCDu;  // of registers before they are written

inline float as_float(std::uint32_t bits) { return std::bit_cast<float>(bits); }
inline std::uint32_t as_bits(float value) { return std::bit_cast<std::uint32_t>(value); }

template <typename T>
T parameter(const void* argument, int offset) {
  T value;
  std::memcpy(&value, static_cast<const char*>(argument) + offset, sizeof(T));
  return value;
}

template <typename T, int count>
T* pointer(std::uint64_t address, bool store) {
  check(address, sizeof(T) * count, store);
  return reinterpret_cast<T*>(address);
}

// NaN loses, and −0 < 0.
inline float greatest(float a, float b) {
  if (a != a || b != b) return a != a ? b : a;
  if (a == b) return std::signbit(a) ? b : a;
  return a > b ? a : b;
}
inline float least(float a, float b) { return -greatest(-a, -b); }

// Towards zero, saturating; NaN is 0.
inline std::int32_t truncated(float a) {
  if (a != a) return 0;
  if (a >= 0x1p31f) return INT32_MAX;
  return a <= -0x1p31f ? INT32_MIN : static_cast<std::int32_t>(a);
}

template <typename T>
T shl(T a, std::uint32_t by) {
  return by >= 8 * sizeof(T) ? T{0} : static_cast<T>(a << by);
}
template <typename T>
T shr(T a, std::uint32_t by) {
  return a >> std::min<std::uint32_t>(by, 8 * sizeof(T) - 1) >> (by >= 8 * sizeof(T) ? 1 : 0);
}

template <typename T>
T high(T a, T b) {
  using Wide = std::conditional_t<sizeof(T) == 8, unsigned __int128, std::uint64_t>;
  static_assert(std::is_unsigned_v<T>);
  return static_cast<T>(static_cast<Wide>(a) * b >> 8 * sizeof(T));
}

template <typename T>
T field_of(T a, T begin, T bits) {
  static_assert(std::is_unsigned_v<T>);
  return bits == 0 ? T{0} : shl(shr(a, begin), 8 * sizeof(T) - bits) >> (8 * sizeof(T) - bits);
}

// Bytes of b:a, each chosen by four bits of `select`, the highest of which repeats the byte's sign.
inline std::uint32_t permuted(std::uint32_t a, std::uint32_t b, std::uint32_t select) {
  const std::uint64_t both = static_cast<std::uint64_t>(b) << 32 | a;
  std::uint32_t result = 0;
  for (int k = 0; k < 4; ++k) {
    const std::uint32_t choice = select >> 4 * k & 15, byte = both >> 8 * (choice & 7) & 255;
    result |= (choice & 8 ? (byte & 128 ? 255u : 0u) : byte) << 8 * k;
  }
  return result;
}

// By the book, unlike neuron.h.
inline float from_half(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  float value = exponent ? std::ldexp(1024.0f + fraction, exponent - 25) : std::ldexp(1.0f * fraction, -24);
  if (exponent == 31) value = fraction ? NAN : INFINITY;
  return bits >> 15 ? -value : value;
}
inline std::uint16_t to_half(float a) { return a != a ? 0x7fff : std::bit_cast<std::uint16_t>(static_cast<_Float16>(a)); }
inline float from_bfloat(std::uint16_t bits) { return as_float(static_cast<std::uint32_t>(bits) << 16); }
inline std::uint16_t to_bfloat(float a) {
  const double exact = a, unit = std::ldexp(1.0, std::max(std::ilogb(a), -126) - 7);
  if (a != a) return 0x7fff;
  if (a == 0 || std::isinf(a)) return std::bit_cast<std::uint32_t>(a) >> 16;
  return std::bit_cast<std::uint32_t>(static_cast<float>(std::nearbyint(exact / unit) * unit)) >> 16;
}

// Towards +infinity: the first number in the row of all that is not less. infinity: its bits.
template <float from(std::uint16_t), std::uint16_t to_nearest(float), int infinity>
std::uint16_t to_above(float a) {
  static const std::vector<std::uint16_t> all = [] {
    std::vector<std::uint16_t> numbers;
    for (int bits = infinity; bits >= 0; --bits) numbers.push_back(static_cast<std::uint16_t>(0x8000 | bits));
    for (int bits = 0; bits <= infinity; ++bits) numbers.push_back(static_cast<std::uint16_t>(bits));
    return numbers;
  }();
  if (a != a || a == 0) return to_nearest(a);
  return *std::lower_bound(all.begin(), all.end(), a, [](std::uint16_t each, float least) { return from(each) < least; });
}
inline std::uint16_t to_half_above(float a) { return to_above<from_half, to_half, 0x7C00>(a); }
inline std::uint16_t to_bfloat_above(float a) { return to_above<from_bfloat, to_bfloat, 0x7F80>(a); }

// function of the two numbers in the low halves, and of those in the high ones.
template <float from(std::uint16_t), typename Function>
std::uint32_t each_half(std::uint32_t a, std::uint32_t b, Function function) {
  const auto of = [&](int shift) -> std::uint32_t {
    return function(from(static_cast<std::uint16_t>(a >> shift)), from(static_cast<std::uint16_t>(b >> shift)));
  };
  return of(16) << 16 | of(0);
}

}  // namespace emulated
