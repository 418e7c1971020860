// What one thread of a CUDA kernel works with: its packs of numbers, their neurons, and what becomes of the counts.
#pragma once

#include <cuda_runtime.h>

#include "kernels.h"
#include "neuron.h"

namespace graphpass::cuda {
namespace {


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

inline bool aligned(const void* pointer, std::size_t bytes) { return reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0; }

// The place `steps` pitches (bytes) behind `from`: one multiplication and addition, of which compilers make three.
__device__ const float* place_at(std::uint64_t from, std::uint32_t steps, std::uint32_t pitch) {
#ifdef __CUDA_ARCH__
  asm("mad.wide.u32 %0, %1, %2, %0;" : "+l"(from) : "r"(steps), "r"(pitch));
#else
  from += std::uint64_t{steps} * pitch;
#endif
  return reinterpret_cast<const float*>(from);
}

// How a tensor is cut into packs and shared among threads.
struct Share {
  std::int64_t packs = 0, step = 0;
  std::int64_t rest = 0;  // packs = turns * step + rest
  int turns = 0;
  std::int64_t channels = 1, inner = 1;  // inner: in packs where a pack lies in one channel, else in numbers
  Divisor by_inner, by_channels;
  bool small = true;  // places in [channels, inner] fit 31 bits
};

constexpr int kThreads = 256;  // of a block

// The first pack of this thread; none for threads that only fill a block.
__device__ std::int64_t first_pack(const Share& share) {
  const std::int64_t k = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x;
  return k < share.step ? k : share.packs;
}

// The packs of the thread that begins with pack k.
__device__ int packs_of(std::int64_t k, const Share& share) { return share.turns + (k < share.rest ? 1 : 0); }

// How the channels of a pack lie: one for all its numbers; one after the other, a row; or two, the second of which follows.
enum class Lie { one, row, two };

// The channels of the numbers of pack k, and what belongs to each.
template <Lie lie, int Width>
class Channels {
  std::int64_t first, last;
  int left = Width;  // numbers in the first of two

 public:
  static constexpr int kSets = lie == Lie::one ? 1 : lie == Lie::two ? 2 : Width;
  static constexpr int kPlaces = lie == Lie::two ? 2 : 1;

  __device__ Channels(std::int64_t k, const Share& share) {
    const std::int64_t number = lie == Lie::one ? k : k * Width;
    std::int64_t within;
    if (share.small) {
      const std::uint32_t run = share.by_inner.quotient(static_cast<std::uint32_t>(number));
      within = static_cast<std::uint32_t>(number) - run * share.by_inner.divisor;
      first = run - share.by_channels.quotient(run) * share.by_channels.divisor;
    } else {
      within = number % share.inner, first = number / share.inner % share.channels;
    }
    last = first + 1 < share.channels ? first + 1 : 0;
    if (lie == Lie::two && share.inner - within < Width) left = static_cast<int>(share.inner - within);
  }
  // Where the values of a set begin, if each channel has one.
  __device__ const float* at(const float* values, std::int64_t stride, int set) const {
    return values + (lie == Lie::row ? first + set : set ? last : first) * stride;
  }
  // What belongs to the channels, from the place of each set's; of a row, from that of its first.
  static __device__ void load(const float* const (&places)[kPlaces], float (&to)[kSets]) {
    if constexpr (lie == Lie::row) {
#pragma unroll
      for (int j = 0; j < Width; j += 4) {
        const float4 four = __ldg(reinterpret_cast<const float4*>(places[0] + j));
        to[j] = four.x, to[j + 1] = four.y, to[j + 2] = four.z, to[j + 3] = four.w;
      }
    } else {
#pragma unroll
      for (int set = 0; set < kSets; ++set) to[set] = __ldg(places[set]);
    }
  }
  // One value a channel, or the same for all where the stride is 0.
  __device__ void load(const float* values, std::int64_t stride, float (&to)[kSets]) const {
    const float* places[kPlaces];
#pragma unroll
    for (int k = 0; k < kPlaces; ++k) places[k] = lie == Lie::row ? values + first : at(values, stride, k);
    load(places, to);
  }
  __device__ void load(const Parameter& parameter, float (&to)[kSets]) const { load(parameter.values, parameter.stride, to); }
  // What belongs to number j.
  template <typename Value>
  __device__ Value of(const Value (&values)[kSets], int j) const {
    return lie == Lie::two ? (j < left ? values[0] : values[1 % kSets]) : values[j % kSets];
  }
};

// Neurons with even thresholds.
template <Lie lie, int Width>
class Even {
  static constexpr int kSets = Channels<lie, Width>::kSets;
  const Channels<lie, Width> channels;
  const float largest;
  float threshold[kSets], shift[kSets], inverse[kSets], most[kSets];
  bool ordinary = true;

 public:
  __device__ Even(const Neurons& n, const Channels<lie, Width>& channels) : channels(channels), largest(n.largest) {
    channels.load(n.threshold, threshold), channels.load(n.shift, shift);
#pragma unroll
    for (int set = 0; set < kSets; ++set) {
      inverse[set] = 1.0f / threshold[set], most[set] = (largest + 0.5f) * threshold[set];
      ordinary &= is_ordinary(threshold[set]);
    }
  }
  // Whether the parameters can be loaded as a row of channels.
  static bool is_row(const Neurons& n) {
    const auto row = [](const Parameter& p) { return !p.values || (p.stride == 1 && aligned(p.values, 16)); };
    return row(n.threshold) && row(n.shift) && row(n.amplitude) && row(n.offset);
  }
  // Of NaN: NaN, or 0 for counts.
  template <bool counts>
  __device__ void count(const float (&x)[Width], float (&n)[Width]) const {
    if (ordinary) {
#pragma unroll
      for (int j = 0; j < Width; ++j) {
        const float above = x[j] + channels.of(shift, j), limit = channels.of(most, j);
        const float within = counts ? fminf(fmaxf(above, 0.0f), limit) : clipped(above, limit);
        n[j] = floor_of_quotient(within, channels.of(threshold, j), channels.of(inverse, j));
      }
    } else {
#pragma unroll
      for (int j = 0; j < Width; ++j) {
        n[j] = level(x[j], channels.of(threshold, j), channels.of(shift, j), largest);
        if (counts) n[j] = fmaxf(n[j], 0.0f);
      }
    }
  }
};

// Neurons with a threshold of its own for every step, which stay in memory. A few are compared one by one, more are searched.
template <Lie lie, int Width>
class Every {
  static constexpr int kSets = Channels<lie, Width>::kSets;
  static constexpr int kFew = lie == Lie::two ? 4 : 8;
  static constexpr int kTogether = Width < 4 ? Width : 4;  // numbers that are searched together, as predicates are few
  const Channels<lie, Width> channels;
  const Thresholds each;
  int always[kSets];  // steps that every x reaches; of those that are searched

  __device__ const float* at(const float* thresholds, int set, int step) const {
    return channels.at(thresholds, each.stride, set) + step * each.pitch;
  }

 public:
  __device__ Every(const Neurons& n, const Channels<lie, Width>& channels) : channels(channels), each(n.each) {
    const int searched = each.steps > kFew ? static_cast<int>(each.steps) : 0;
#pragma unroll
    for (int set = 0; set < kSets; ++set) {
      always[set] = 0;
#pragma unroll 1
      while (always[set] < searched && __ldg(at(each.rising, set, always[set])) == -INFINITY) ++always[set];
    }
  }
  static bool is_row(const Neurons& n) {
    const bool rows = n.each.stride == 1 && n.each.pitch % 4 == 0;
    return rows && aligned(n.each.rising, 16) && aligned(n.each.falling, 16) && Even<lie, Width>::is_row(n);
  }
  // Of NaN: NaN, or 0 for counts.
  template <bool counts>
  __device__ void count(const float (&x)[Width], float (&n)[Width]) const {
    if (each.steps <= kFew)
      compared(x, n);
    else
#pragma unroll
      for (int j = 0; j < Width; j += kTogether) searched(x, n, j);
#pragma unroll
    for (int j = 0; j < Width; ++j) n[j] = x[j] == x[j] ? n[j] : counts ? 0.0f : x[j];
  }

 private:
  __device__ void compared(const float (&x)[Width], float (&n)[Width]) const {
    const float *rising = each.rising, *falling = each.falling;
#pragma unroll
    for (int j = 0; j < Width; ++j) n[j] = 0.0f;
#pragma unroll 1
    for (int step = static_cast<int>(each.steps); step > 0; --step, rising += each.pitch, falling += each.pitch) {
      float b[kSets], c[kSets];
      channels.load(rising, each.stride, b), channels.load(falling, each.stride, c);
#pragma unroll
      for (int j = 0; j < Width; ++j)
        if (outside(x[j], channels.of(b, j), channels.of(c, j))) n[j] += 1.0f;
    }
  }
  // By halving, since the steps that fire come first. Where x reaches the first rising threshold above -infinity no
  // falling one fires, elsewhere no rising one.
  __device__ void searched(const float (&x)[Width], float (&n)[Width], int begin) const {
    const int steps = static_cast<int>(each.steps);
    const std::uint32_t pitch = static_cast<std::uint32_t>(each.pitch * sizeof(float));
    int found[kTogether];
    std::uint64_t before[kTogether];  // the place before the first threshold
    bool rises[kTogether];
#pragma unroll
    for (int j = 0; j < kTogether; ++j) {
      float border[kSets];
      std::uint64_t rising[kSets], falling[kSets];
#pragma unroll
      for (int set = 0; set < kSets; ++set) {
        border[set] = __ldg(at(each.rising, set, always[set] < steps ? always[set] : steps - 1));
        falling[set] = reinterpret_cast<std::uint64_t>(at(each.falling, set, -1));
        rising[set] = reinterpret_cast<std::uint64_t>(at(each.rising, set, -1));
      }
      found[j] = channels.of(always, begin + j);
      rises[j] = x[begin + j] >= channels.of(border, begin + j);
      before[j] = rises[j] ? channels.of(rising, begin + j) : channels.of(falling, begin + j);
    }
#pragma unroll 1
    for (int size = 1 << (31 - __clz(steps)); size > 0; size >>= 1) {
#pragma unroll
      for (int j = 0; j < kTogether; ++j) {
        const int next = found[j] + size;
        if (next > steps) continue;
        const float threshold = __ldg(place_at(before[j], static_cast<std::uint32_t>(next), pitch));
        if ((x[begin + j] >= threshold) == rises[j]) found[j] = next;
      }
    }
#pragma unroll
    for (int j = 0; j < kTogether; ++j) n[begin + j] = static_cast<float>(found[j]);
  }
};

// What becomes of the counts: y = amplitude * n + offset, the counts themselves, or a train of spikes.
template <typename T, Lie lie, int Width>
class ToLevels {
  const Channels<lie, Width> channels;
  float amplitude[Channels<lie, Width>::kSets], offset[Channels<lie, Width>::kSets];

 public:
  static constexpr bool kCounts = false, kTrain = false;
  __device__ ToLevels(const Neurons& n, const Channels<lie, Width>& channels) : channels(channels) {
    channels.load(n.amplitude, amplitude), channels.load(n.offset, offset);
  }
  // Of a count n, for number j of a pack.
  __device__ float of(float n, int j) const { return channels.of(amplitude, j) * n + channels.of(offset, j); }
  __device__ void write(const float (&n)[Width], void* y, std::int64_t k, const Share&, const Steps&) const {
    Pack<T, Width> out;
#pragma unroll
    for (int j = 0; j < Width; ++j) out.values[j] = narrow<T>(of(n[j], j));
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
