// The arithmetic of the spiking operators, for host and device: the only place where a kernel computes.
// graphpass/maths/neuron.py is the definition; every kernel is tested against it bit for bit.
//
//   n = clip(floor((x + shift) / threshold), 0, levels - 1)        y = amplitude * n + offset
//   n = #{k : x >= rising[k]} + #{k : x < falling[k]}              where every step has a threshold of its own
//
// All in float32, each operation rounded once: compile without contraction (-ffp-contract=off, nvcc -fmad=false).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define GRAPHPASS_BOTH __host__ __device__ __forceinline__
#else
#define GRAPHPASS_BOTH inline __attribute__((always_inline))
#endif

namespace graphpass {

// Storage of the two short float types. Conversions are integer arithmetic that the compiler can vectorise.
struct Half {
  std::uint16_t bits;
};
struct BFloat {
  std::uint16_t bits;
};

template <typename To, typename From>
GRAPHPASS_BOTH To same_bits(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To result;
  memcpy(&result, &value, sizeof(To));
  return result;
}

GRAPHPASS_BOTH float widen(float value) { return value; }

GRAPHPASS_BOTH float widen(Half value) {
#ifdef __CUDA_ARCH__
  return __half2float(__ushort_as_half(value.bits));
#else
  const std::uint32_t magnitude = value.bits & 0x7fffu;
  // The bits as those of a float32 are 2^-112 of the number, for subnormal ones too.
  const float scaled = same_bits<float>(magnitude << 13) * 0x1p112f;
  const std::uint32_t special = magnitude >= 0x7c00u ? 0x7f800000u : 0u;  // infinity and NaN keep their exponent
  return same_bits<float>(same_bits<std::uint32_t>(scaled) | special | (value.bits & 0x8000u) << 16);
#endif
}

GRAPHPASS_BOTH float widen(BFloat value) { return same_bits<float>(static_cast<std::uint32_t>(value.bits) << 16); }

// float32 -> the output's type, to the nearest, ties to even.
template <typename T>
GRAPHPASS_BOTH T narrow(float value);

template <>
GRAPHPASS_BOTH float narrow<float>(float value) {
  return value;
}

template <>
GRAPHPASS_BOTH Half narrow<Half>(float value) {
#ifdef __CUDA_ARCH__
  return Half{__half_as_ushort(__float2half_rn(value))};
#else
  const std::uint32_t bits = same_bits<std::uint32_t>(value), magnitude = bits & 0x7fffffffu;
  // Normal: half a unit of the last place kept, less one where that place is even, then the exponent's new bias.
  const std::uint32_t normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // Subnormal: the sum with 1/2 rounds to the unit of float16's subnormal numbers.
  const std::uint32_t small = same_bits<std::uint32_t>(same_bits<float>(magnitude) + 0.5f) - 0x3f000000u;
  const std::uint32_t special = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  const std::uint32_t finite = magnitude < (113u << 23) ? small : normal;
  const std::uint32_t result = magnitude >= (143u << 23) ? special : finite;
  return Half{static_cast<std::uint16_t>(result | (bits & 0x80000000u) >> 16)};
#endif
}

template <>
GRAPHPASS_BOTH BFloat narrow<BFloat>(float value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  return BFloat{__bfloat16_as_ushort(__float2bfloat16_rn(value))};
#else
  const std::uint32_t bits = same_bits<std::uint32_t>(value);
  const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return BFloat{static_cast<std::uint16_t>(value == value ? rounded : 0x7fc0u)};
#endif
}

// The level of x, float32; a NaN stays one.
GRAPHPASS_BOTH float level(float x, float threshold, float shift, float largest) {
  float value = floorf((x + shift) / threshold);
  value = value < 0.0f ? 0.0f : value;
  return value > largest ? largest : value;
}

// The count of x: its level, 0 for a NaN.
GRAPHPASS_BOTH std::int32_t count(float x, float threshold, float shift, float largest) {
  float value = floorf((x + shift) / threshold);
  value = value > 0.0f ? value : 0.0f;
  return static_cast<std::int32_t>(value > largest ? largest : value);
}

// The quotient without a division, where a thread keeps the reciprocal: floor(a / threshold) with the quotient rounded to
// the nearest, for 0 <= a <= 255.5 * threshold. inverse: 1 / threshold, rounded to the nearest.
//
// k is an integer within 0.51 of the quotient, and a - k * threshold is exact where it is small, so that the last sum is below
// k exactly where the rounded quotient is: docs/decisions/0032 has the proof.
GRAPHPASS_BOTH float floor_of_quotient(float a, float threshold, float inverse) {
  const float k = fmaf(a, inverse, 0x1.8p23f) - 0x1.8p23f;
  return floorf(fmaf(fmaf(-k, threshold, a), inverse, k));
}

// Whether floor_of_quotient holds: reciprocal, largest a and remainders are normal numbers.
GRAPHPASS_BOTH bool is_ordinary(float threshold) { return threshold > 0x1p-100f && threshold < 0x1p100f; }

// max(0, min(x, most)); a NaN stays one.
GRAPHPASS_BOTH float clipped(float x, float most) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm("max.NaN.f32 %0, %0, %1;" : "+f"(x) : "f"(0.0f));
  asm("min.NaN.f32 %0, %0, %1;" : "+f"(x) : "f"(most));
  return x;
#else
  x = x < 0.0f ? 0.0f : x;
  return x > most ? most : x;
#endif
}

// Whether step k fires, given its thresholds.
GRAPHPASS_BOTH bool outside(float x, float rising, float falling) { return (x >= rising) | (x < falling); }

// What a neuron without amplitude and offset gives out.
struct Counts {
  template <typename Out>
  static GRAPHPASS_BOTH Out of(float x, float threshold, float shift, float, float, float largest) {
    return static_cast<Out>(count(x, threshold, shift, largest));
  }
};

// What a folded neuron gives out.
struct Levels {
  template <typename Out>
  static GRAPHPASS_BOTH Out of(float x, float threshold, float shift, float amplitude, float offset, float largest) {
    return narrow<Out>(amplitude * level(x, threshold, shift, largest) + offset);
  }
};

// Whether the neuron fires at `plane` = t - 1 of `steps` time-steps, given its count.
GRAPHPASS_BOTH bool fires(std::int32_t count, int plane, int steps, bool phase) {
  return phase ? (count >> (steps - 1 - plane)) & 1 : count >= steps - plane;
}

// 1 or 0 in the type of the train.
template <typename T>
GRAPHPASS_BOTH T spike(bool fired);

template <>
GRAPHPASS_BOTH float spike<float>(bool fired) {
  return fired ? 1.0f : 0.0f;
}

template <>
GRAPHPASS_BOTH Half spike<Half>(bool fired) {
  return Half{static_cast<std::uint16_t>(fired ? 0x3c00u : 0u)};
}

template <>
GRAPHPASS_BOTH BFloat spike<BFloat>(bool fired) {
  return BFloat{static_cast<std::uint16_t>(fired ? 0x3f80u : 0u)};
}

// w_t at plane = t - 1: what a current of that step weighs in the mean.
GRAPHPASS_BOTH float weight(int plane, int steps, bool phase) {
  return phase ? static_cast<float>(1u << (steps - 1 - plane)) : 1.0f;
}

GRAPHPASS_BOTH float total_weight(int steps, bool phase) {
  return phase ? static_cast<float>((1u << steps) - 1u) : static_cast<float>(steps);
}

// x = sum_t w_t I_t / sum_t w_t at one element; the planes of the currents are `stride` apart.
template <typename T>
GRAPHPASS_BOTH float time_mean(const T* currents, std::int64_t stride, int steps, bool phase) {
  if (steps == 1) return widen(currents[0]);
  float sum = 0.0f;
  for (int plane = 0; plane < steps; ++plane) sum += weight(plane, steps, phase) * widen(currents[plane * stride]);
  return sum / total_weight(steps, phase);
}

}  // namespace graphpass
