// Levels of short numbers whose neurons have a threshold for every step: two numbers are compared at once with thresholds
// that were rounded up to their type, which changes no count (round_up). What a threshold costs is shared by several packs.
#pragma once

#include "cuda_thread.h"
#include "pairs.h"

namespace graphpass::cuda {
namespace {

template <typename T, Lie lie, int Width, int Packs>
class Pairs {
  using Of = Channels<lie, Width>;
  static constexpr int kSets = Of::kSets, kPlaces = Of::kPlaces;
  const int steps;
  const std::uint32_t pitch;
  std::uint64_t rising[kPlaces], falling[kPlaces];  // places of the first step's
  std::uint32_t chosen[Width / 2];                  // of two channels: bytes of their thresholds that a pair is compared with
  int both;                                         // steps up to the last one with a falling threshold

 public:
  static constexpr int kPairs = Width / 2;

  __device__ Pairs(const Neurons& n, const Of& channels)
      : steps(static_cast<int>(n.each.steps)), pitch(static_cast<std::uint32_t>(n.each.pitch * sizeof(float))) {
#pragma unroll
    for (int k = 0; k < kPlaces; ++k) {
      rising[k] = reinterpret_cast<std::uint64_t>(channels.at(n.each.rising, n.each.stride, k));
      falling[k] = reinterpret_cast<std::uint64_t>(channels.at(n.each.falling, n.each.stride, k));
    }
    if constexpr (lie == Lie::two) {
      const std::uint32_t bytes[] = {0x10u, 0x54u};
#pragma unroll
      for (int q = 0; q < kPairs; ++q) chosen[q] = channels.of(bytes, 2 * q) | channels.of(bytes, 2 * q + 1) << 8;
    }
    both = steps;
    if constexpr (Packs > 1)  // a single pack is compared sooner than this is known
#pragma unroll 1
      while (both > 0 && !falls(both - 1)) --both;
  }
  // sum: as in `counted`. Of NaN: no count.
  __device__ void count(const Pack<Two<T>, kPairs> (&x)[Packs], std::uint32_t (&sum)[Packs][kPairs]) const {
#pragma unroll
    for (int p = 0; p < Packs; ++p)
#pragma unroll
      for (int q = 0; q < kPairs; ++q) sum[p][q] = kNone<T>;
    float b[kSets], c[kSets];
    Two<T> up[kPairs], down[kPairs];
    int step = 0;
#pragma unroll 1
    for (; step < both; ++step) {
      load(rising, step, b), load(falling, step, c);
      rounded(b, up), rounded(c, down);
#pragma unroll
      for (int p = 0; p < Packs; ++p)
#pragma unroll
        for (int q = 0; q < kPairs; ++q)
          sum[p][q] = sum[p][q] - reaching(x[p].values[q], up[q]) - below(x[p].values[q], down[q]);
    }
#pragma unroll 1
    for (; step < steps; ++step) {
      load(rising, step, b), rounded(b, up);
#pragma unroll
      for (int p = 0; p < Packs; ++p)
#pragma unroll
        for (int q = 0; q < kPairs; ++q) sum[p][q] -= reaching(x[p].values[q], up[q]);
    }
  }

 private:
  __device__ void load(const std::uint64_t (&from)[kPlaces], int step, float (&to)[kSets]) const {
    const float* places[kPlaces];
#pragma unroll
    for (int k = 0; k < kPlaces; ++k) places[k] = place_at(from[k], static_cast<std::uint32_t>(step), pitch);
    Of::load(places, to);
  }
  __device__ bool falls(int step) const {
    float c[kSets];
    load(falling, step, c);
    bool any = false;
#pragma unroll
    for (int set = 0; set < kSets; ++set) any |= c[set] > -INFINITY;
    return any;
  }
  __device__ void rounded(const float (&threshold)[kSets], Two<T> (&pairs)[kPairs]) const {
    T up[kSets];
#pragma unroll
    for (int set = 0; set < kSets; ++set) up[set] = round_up<T>(threshold[set]);
#pragma unroll
    for (int q = 0; q < kPairs; ++q) {
      if constexpr (lie == Lie::two) {
        pairs[q] = {__byte_perm(up[0].bits, up[1].bits, chosen[q])};
      } else {
        pairs[q] = two(up[2 * q % kSets], up[(2 * q + 1) % kSets]);
      }
    }
  }
};

// Packs k, k + step, …, `Packs` of them at a time.
template <typename T, Lie lie, int Width, int Packs>
__global__ void __launch_bounds__(kThreads)
    pairs_kernel(const Pack<Two<T>, Width / 2>* __restrict__ currents, Pack<Two<T>, Width / 2>* __restrict__ y, Neurons n,
                 Share share) {
  const std::int64_t k = first_pack(share);
  if (k >= share.packs) return;
  const Channels<lie, Width> channels(k, share);
  const Pairs<T, lie, Width, Packs> neuron(n, channels);
  const ToLevels<T, lie, Width> levels(n, channels);
  currents += k, y += k;
#pragma unroll 1
  for (int left = packs_of(k, share); left > 0; left -= Packs) {
    Pack<Two<T>, Width / 2> x[Packs];
    std::uint32_t sum[Packs][Width / 2];
#pragma unroll
    for (int p = 0; p < Packs; ++p, currents += share.step) {
      x[p] = {};
      if (p == 0 || p < left) x[p] = *currents;
    }
    neuron.count(x, sum);
#pragma unroll
    for (int p = 0; p < Packs; ++p, y += share.step) {
      Pack<Two<T>, Width / 2> out;
#pragma unroll
      for (int q = 0; q < Width / 2; ++q) {
        const Two<T> in = x[p].values[q];
        float first, second;
        counted<T>(sum[p][q], first, second);
        out.values[q] = {narrowed<T>(levels.of(first, 2 * q), levels.of(second, 2 * q + 1)).bits | unordered(in, in)};
      }
      if (p == 0 || p < left) *y = out;
    }
  }
}

}  // namespace
}  // namespace graphpass::cuda
