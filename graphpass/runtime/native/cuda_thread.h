// What one thread of a CUDA kernel works with: its packs of numbers, their neurons, and what becomes of the counts.
#pragma once

#include <cuda_runtime.h>

#include "kernels.h"
#include "neuron.h"

namespace graphpass::cuda {
namespace {

constexpr std::int64_t kFew = 8;           // thresholds up to which all are compared with x; more are searched

template <typename T, int Width>
struct alignas(sizeof(T) * Width) Pack {
  T values[Width];
};

// n / divisor for n < 2^31, by a product: m = ceil(2^(31 + l) / divisor), 2^l >= divisor.
struct Divisor {
  std::uint32_t divisor = 1, factor = 1u << 31, shift = 31;

  Divisor() = default;
  explicit Divisor(std::int64_t by) : divisor(static_cast<std::uint32_t>(by)) {
    while ((std::int64_t{1} << (shift - 31)) < by) ++shift;
    factor = static_cast<std::uint32_t>(((std::uint64_t{1} << shift) + divisor - 1) / divisor);
  }
  __device__ std::uint32_t quotient(std::uint32_t n) const {
    return static_cast<std::uint32_t>(static_cast<std::uint64_t>(n) * factor >> shift);
  }
};

// How a tensor is cut into packs and shared among threads.
struct Share {
  std::int64_t packs = 0, step = 0;
  std::int64_t channels = 1, inner = 1;  // inner: in packs where a pack lies in one channel, else in numbers
  Divisor by_inner, by_channels;
  bool small = true;  // places in [channels, inner] fit 31 bits
};

// How the channels of a pack lie: one for all its numbers, a row of them, or any.
enum class Lie { one, row, any };

// The channels of the numbers of pack k, the first where they lie in one or in a row.
template <Lie lie, int Width>
struct Channels {
  static constexpr int kSets = lie == Lie::any ? Width : 1;
  std::int64_t of[kSets];

  __device__ Channels(std::int64_t k, const Share& share) {
    std::int64_t number = lie == Lie::one ? k : k * Width, channel, within;
    if (share.small) {
      const std::uint32_t run = share.by_inner.quotient(static_cast<std::uint32_t>(number));
      within = static_cast<std::uint32_t>(number) - run * share.by_inner.divisor;
      channel = run - share.by_channels.quotient(run) * share.by_channels.divisor;
    } else {
      within = number % share.inner, channel = number / share.inner % share.channels;
    }
#pragma unroll
    for (int j = 0; j < kSets; ++j) {
      of[j] = channel;
      if (++within < share.inner) continue;
      within = 0;
      if (++channel == share.channels) channel = 0;
    }
  }
  __device__ std::int64_t at(int j) const { return lie == Lie::one ? of[0] : lie == Lie::row ? of[0] + j : of[j % kSets]; }
};

__device__ float value_of(const Parameter& parameter, std::int64_t channel) {
  return __ldg(parameter.values + channel * parameter.stride);
}

// Neurons with even thresholds: those of one channel, or of each number of a pack.
template <Lie lie, int Width>
class Even {
  static constexpr int kSets = lie == Lie::one ? 1 : Width;
  float threshold[kSets], shift[kSets], inverse[kSets], most[kSets], largest;
  bool ordinary = true;

 public:
  static constexpr bool kRows = false;
  __device__ Even(const Neurons& n, const Channels<lie, Width>& channels) : largest(n.largest) {
#pragma unroll
    for (int j = 0; j < kSets; ++j) {
      threshold[j] = value_of(n.threshold, channels.at(j)), shift[j] = value_of(n.shift, channels.at(j));
      inverse[j] = 1.0f / threshold[j], most[j] = (largest + 0.5f) * threshold[j];
      ordinary &= is_ordinary(threshold[j]);
    }
  }
  // Of NaN: NaN, or 0 for counts.
  template <bool counts>
  __device__ void count(const float (&x)[Width], float (&n)[Width]) const {
    if (ordinary) {
#pragma unroll
      for (int j = 0; j < Width; ++j) {
        const int c = j % kSets;
        const float above = x[j] + shift[c];
        const float within = counts ? fminf(fmaxf(above, 0.0f), most[c]) : clipped(above, most[c]);
        n[j] = floor_of_quotient(within, threshold[c], inverse[c]);
      }
    } else {
#pragma unroll
      for (int j = 0; j < Width; ++j) {
        n[j] = level(x[j], threshold[j % kSets], shift[j % kSets], largest);
        if (counts) n[j] = fmaxf(n[j], 0.0f);
      }
    }
  }
};

// Neurons with a threshold of its own for every step, which stay in memory.
template <Lie lie, int Width>
class Every {
  static constexpr int kSets = lie == Lie::one ? 1 : Width;
  const Thresholds each;
  const Channels<lie, Width> channels;
  int always[kSets];  // steps that every x reaches, of those that are searched

  __device__ const float* at(const float* thresholds, std::int64_t step, int j) const {
    return thresholds + step * each.pitch + channels.at(j) * each.stride;
  }

 public:
  static constexpr bool kRows = true;  // thresholds of a row of channels are loaded together
  __device__ Every(const Neurons& n, const Channels<lie, Width>& channels) : each(n.each), channels(channels) {
#pragma unroll
    for (int j = 0; j < kSets; ++j) {
      always[j] = 0;
      while (each.steps > kFew && always[j] < each.steps && __ldg(at(each.rising, always[j], j)) == -INFINITY) ++always[j];
    }
  }
  template <bool counts>
  __device__ void count(const float (&x)[Width], float (&n)[Width]) const {
    if (each.steps <= kFew)
      compared(x, n);
    else
#pragma unroll
      for (int j = 0; j < Width; ++j) n[j] = searched(x[j], j);
#pragma unroll
    for (int j = 0; j < Width; ++j) n[j] = x[j] == x[j] ? n[j] : counts ? 0.0f : x[j];
  }

 private:
  __device__ void compared(const float (&x)[Width], float (&n)[Width]) const {
#pragma unroll
    for (int j = 0; j < Width; ++j) n[j] = 0.0f;
#pragma unroll 1
    for (std::int64_t step = 0; step < each.steps; ++step) {
      float rising[Width], falling[Width];
      load(each.rising, step, rising), load(each.falling, step, falling);
#pragma unroll
      for (int j = 0; j < Width; ++j) n[j] += outside(x[j], rising[j], falling[j]) ? 1.0f : 0.0f;
    }
  }
  __device__ void load(const float* from, std::int64_t step, float (&to)[Width]) const {
    if constexpr (lie == Lie::row) {
#pragma unroll
      for (int j = 0; j < Width; j += 4) {
        const float4 four = __ldg(reinterpret_cast<const float4*>(at(from, step, 0) + j));
        to[j] = four.x, to[j + 1] = four.y, to[j + 2] = four.z, to[j + 3] = four.w;
      }
    } else {
#pragma unroll
      for (int j = 0; j < Width; ++j) to[j] = lie == Lie::one && j ? to[0] : __ldg(at(from, step, j));
    }
  }
  // By halving, since the steps that fire come first. Where x reaches the first rising threshold above -infinity no
  // falling one fires, elsewhere no rising one.
  __device__ float searched(float x, int j) const {
    int low = always[j % kSets], high = static_cast<int>(each.steps);
    const bool rises = x >= __ldg(at(each.rising, low < high ? low : 0, j));
    const float* thresholds = at(rises ? each.rising : each.falling, 0, j);
#pragma unroll 1
    while (low < high) {
      const int middle = (low + high) >> 1;
      const float threshold = __ldg(thresholds + middle * each.pitch);
      if (rises ? x >= threshold : x < threshold)
        low = middle + 1;
      else
        high = middle;
    }
    return static_cast<float>(low);
  }
};

// What becomes of the counts: y = amplitude * n + offset, the counts themselves, or a train of spikes.
template <typename T, Lie lie, int Width>
class ToLevels {
  static constexpr int kSets = lie == Lie::one ? 1 : Width;
  float amplitude[kSets], offset[kSets];

 public:
  static constexpr bool kCounts = false, kTrain = false;
  __device__ ToLevels(const Neurons& n, const Channels<lie, Width>& channels) {
#pragma unroll
    for (int j = 0; j < kSets; ++j)
      amplitude[j] = value_of(n.amplitude, channels.at(j)), offset[j] = value_of(n.offset, channels.at(j));
  }
  __device__ void write(const float (&n)[Width], void* y, std::int64_t k, const Share&, const Steps&) const {
    Pack<T, Width> out;
#pragma unroll
    for (int j = 0; j < Width; ++j) out.values[j] = narrow<T>(amplitude[j % kSets] * n[j] + offset[j % kSets]);
    static_cast<Pack<T, Width>*>(y)[k] = out;
  }
};

template <typename T, Lie lie, int Width>
struct ToCounts {
  static constexpr bool kCounts = true, kTrain = false;
  __device__ ToCounts(const Neurons&, const Channels<lie, Width>&) {}
  __device__ void write(const float (&n)[Width], void* y, std::int64_t k, const Share&, const Steps&) const {
    Pack<std::uint8_t, Width> out;
#pragma unroll
    for (int j = 0; j < Width; ++j) out.values[j] = static_cast<std::uint8_t>(static_cast<std::int32_t>(n[j]));
    static_cast<Pack<std::uint8_t, Width>*>(y)[k] = out;
  }
};

template <typename T, Lie lie, int Width>
struct ToTrain {
  static constexpr bool kCounts = true, kTrain = true;
  __device__ ToTrain(const Neurons&, const Channels<lie, Width>&) {}
  __device__ void write(const float (&n)[Width], void* y, std::int64_t k, const Share& share, const Steps& steps) const {
    std::int32_t count[Width];
#pragma unroll
    for (int j = 0; j < Width; ++j) count[j] = static_cast<std::int32_t>(n[j]);
#pragma unroll 1
    for (int plane = 0; plane < steps.output; ++plane) {
      Pack<T, Width> out;
#pragma unroll
      for (int j = 0; j < Width; ++j) out.values[j] = spike<T>(fires(count[j], plane, steps.output, steps.phase));
      static_cast<Pack<T, Width>*>(y)[plane * share.packs + k] = out;
    }
  }
};

}  // namespace
}  // namespace graphpass::cuda
