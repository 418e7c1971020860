// CUDA kernels over neuron.h. A thread takes packs of numbers of which the channels stay the same, so that it prepares
// its neurons once: packs k, k + step, …, where step is a multiple of the packs of one [channels, inner].
#include <cuda_runtime.h>

#include <algorithm>
#include <optional>
#include <type_traits>

#include "cuda_pairs.h"
#include "cuda_thread.h"

namespace graphpass::cuda {
namespace {

constexpr std::int64_t kAtOnce = 1 << 17;  // threads of a launch, about: those that a large GPU runs at a time
// Steps whose thresholds short numbers are compared with in pairs, where a search would take more instructions: by a thread
// that takes several packs, or one whose numbers have one channel, or two.
constexpr std::int64_t kSeveral = 24, kOne = 16, kTwo = 8;
static_assert(kSeveral < 128, "the sums of pairs hold no more");

// x = sum_t w_t I_t / sum_t w_t of a pack, as time_mean; of one step, x itself.
template <bool train, typename T, int Width>
__device__ void read(const Pack<T, Width>* currents, const Share& share, const Steps& steps, std::int64_t k, float (&x)[Width]) {
  const Pack<T, Width> in = currents[k];
#pragma unroll
  for (int j = 0; j < Width; ++j) x[j] = widen(in.values[j]);
  if constexpr (train) {
    if (steps.input == 1) return;
#pragma unroll
    for (int j = 0; j < Width; ++j) x[j] = 0.0f + weight(0, steps.input, steps.phase) * x[j];
#pragma unroll 1
    for (int plane = 1; plane < steps.input; ++plane) {
      const Pack<T, Width> next = currents[plane * share.packs + k];
#pragma unroll
      for (int j = 0; j < Width; ++j) x[j] += weight(plane, steps.input, steps.phase) * widen(next.values[j]);
    }
#pragma unroll
    for (int j = 0; j < Width; ++j) x[j] /= total_weight(steps.input, steps.phase);
  }
}

template <typename T, int Width, typename Neuron, typename Result, Lie lie>
__global__ void __launch_bounds__(kThreads)
    neuron_kernel(const Pack<T, Width>* __restrict__ currents, void* __restrict__ y, Neurons n, Share share, Steps steps) {
  std::int64_t k = first_pack(share);
  if (k >= share.packs) return;
  const Channels<lie, Width> channels(k, share);
  const Neuron neuron(n, channels);
  const Result result(n, channels);
#pragma unroll 1
  for (; k < share.packs; k += share.step) {
    float x[Width], count[Width];
    read<Result::kTrain>(currents, share, steps, k, x);
    neuron.template count<Result::kCounts>(x, count);
    result.write(count, y, k, share, steps);
  }
}

template <typename T, int Width>
__global__ void __launch_bounds__(kThreads)
    mean_kernel(const Pack<T, Width>* __restrict__ currents, Pack<T, Width>* __restrict__ y, Share share, Steps steps) {
#pragma unroll 1
  for (std::int64_t k = first_pack(share); k < share.packs; k += share.step) {
    float x[Width];
    read<true>(currents, share, steps, k, x);
    Pack<T, Width> out;
#pragma unroll
    for (int j = 0; j < Width; ++j) out.values[j] = narrow<T>(x[j]);
    y[k] = out;
  }
}

template <typename Unit>
__global__ void __launch_bounds__(kThreads)
    repeat_kernel(const Unit* __restrict__ x, Unit* __restrict__ y, Share share, int steps) {
#pragma unroll 1
  for (std::int64_t k = first_pack(share); k < share.packs; k += share.step) {
    const Unit value = x[k];
#pragma unroll 1
    for (int plane = 0; plane < steps; ++plane) y[plane * share.packs + k] = value;
  }
}

// The largest pack is 16 bytes of x.
template <typename T>
constexpr int kWidth = 16 / static_cast<int>(sizeof(T));

// each: packs that a thread takes at a time. Several take as long where some are missing, so threads share packs evenly then.
Share share_of(const Layout& layout, int width, Lie lie, int each = 1) {
  Share share;
  share.packs = layout.size() / width;
  std::int64_t plane = 1;
  if (layout.channels > 1) {
    plane = layout.channels * layout.inner / width;
    share.channels = layout.channels, share.inner = lie == Lie::one ? layout.inner / width : layout.inner;
  }
  const std::int64_t turns = (share.packs - 1) / (each * kAtOnce) + 1;
  const std::int64_t wanted = each > 1 ? (share.packs - 1) / (turns * each) + 1 : kAtOnce;
  share.step = std::min(share.packs, (wanted - 1) / plane * plane + plane);
  share.turns = static_cast<int>(share.packs / share.step), share.rest = share.packs % share.step;
  share.small = share.step * width < std::int64_t{1} << 31;
  if (share.small) share.by_inner = Divisor(share.inner), share.by_channels = Divisor(share.channels);
  return share;
}

unsigned blocks(const Share& share) { return static_cast<unsigned>((share.step + kThreads - 1) / kThreads); }

template <typename T, int Width, Lie lie, template <Lie, int> typename Neuron, template <typename, Lie, int> typename Result>
int launch(const void* x, void* y, const Layout& layout, const Neurons& n, const Steps& steps, void* stream) {
  const Share share = share_of(layout, Width, lie);
  neuron_kernel<T, Width, Neuron<lie, Width>, Result<T, lie, Width>, lie>
      <<<blocks(share), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(static_cast<const Pack<T, Width>*>(x), y, n,
                                                                          share, steps);
  return cudaGetLastError();
}

// How the channels of packs of `width` lie; nothing where numbers have to go one by one. row: whether parameters can be
// loaded as rows of channels.
std::optional<Lie> lie_of(const void* x, const void* y, const Layout& layout, int width, bool row) {
  const std::int64_t plane = layout.channels > 1 ? layout.channels * layout.inner : layout.size();
  if (plane % width || !aligned(x, 16) || !aligned(y, 16)) return {};
  if (layout.channels == 1 || layout.inner % width == 0) return Lie::one;
  if (layout.inner == 1 && layout.channels % width == 0 && row) return Lie::row;
  return layout.inner >= width ? std::optional(Lie::two) : std::nullopt;
}

template <typename T, template <Lie, int> typename Neuron, template <typename, Lie, int> typename Result>
int run(const void* x, void* y, const Layout& layout, const Neurons& n, const Steps& steps, void* stream) {
  constexpr int kPack = kWidth<T>;
  const auto lie = lie_of(x, y, layout, kPack, Neuron<Lie::row, kPack>::is_row(n));
  if (lie == Lie::one) return launch<T, kPack, Lie::one, Neuron, Result>(x, y, layout, n, steps, stream);
  if (lie == Lie::row) return launch<T, kPack, Lie::row, Neuron, Result>(x, y, layout, n, steps, stream);
  if (lie == Lie::two) return launch<T, kPack, Lie::two, Neuron, Result>(x, y, layout, n, steps, stream);
  return launch<T, 1, Lie::one, Neuron, Result>(x, y, layout, n, steps, stream);
}

template <typename T, Lie lie, int Width, int Packs>
int launch_pairs(const void* x, void* y, const Layout& layout, const Neurons& n, void* stream) {
  const Share share = share_of(layout, Width, lie, Packs);
  using In = Pack<Two<T>, Width / 2>;
  pairs_kernel<T, lie, Width, Packs><<<blocks(share), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      static_cast<const In*>(x), static_cast<In*>(y), n, share);
  return cudaGetLastError();
}

// Whether the GPU compares two numbers at once (kComparesTwo).
template <typename T>
bool compares_pairs() {
  int device = 0, major = 0;
  return std::is_same_v<T, Half> || (cudaGetDevice(&device) == cudaSuccess &&
                                     cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
                                     major >= 9);
}

// Levels by thresholds of every step.
template <typename T>
int run_levels(const void* x, void* y, const Layout& layout, const Neurons& n, void* stream) {
  if constexpr (sizeof(T) == 2) {
    constexpr int kPack = kWidth<T>;
    const auto lie = lie_of(x, y, layout, kPack, Every<Lie::row, kPack>::is_row(n));
    const std::int64_t alike = layout.channels > 1 ? layout.outer : layout.size() / kPack;  // packs of the same channels
    const std::int64_t steps = n.each.steps;
    if (lie && steps <= kSeveral && compares_pairs<T>()) {
      if (alike > 2 && lie == Lie::one) return launch_pairs<T, Lie::one, kPack, 4>(x, y, layout, n, stream);
      if (alike > 2 && lie == Lie::row) return launch_pairs<T, Lie::row, 4, 8>(x, y, layout, n, stream);
      if (alike > 2) return launch_pairs<T, Lie::two, kPack, 4>(x, y, layout, n, stream);
      if (lie == Lie::one && steps <= kOne) return launch_pairs<T, Lie::one, kPack, 1>(x, y, layout, n, stream);
      if (lie == Lie::two && steps <= kTwo) return launch_pairs<T, Lie::two, kPack, 1>(x, y, layout, n, stream);
    }
  }
  return run<T, Every, ToLevels>(x, y, layout, n, {}, stream);
}

template <template <typename, Lie, int> typename Result, typename T>
int run_neurons(const void* x, void* y, const Layout& layout, const Neurons& n, const Steps& steps, void* stream) {
  if (n.each.pitch >> 29) return cudaErrorInvalidValue;
  if (!n.each.rising) return run<T, Even, Result>(x, y, layout, n, steps, stream);
  if constexpr (Result<T, Lie::one, 1>::kTrain) return run<T, Every, Result>(x, y, layout, n, steps, stream);
  return run_levels<T>(x, y, layout, n, stream);
}

// function<T>(…) with the type's T.
#define GRAPHPASS_OF_TYPE(type, call)            \
  switch (type) {                                \
    case Type::f32: {                            \
      using T = float;                           \
      return call;                               \
    }                                            \
    case Type::f16: {                            \
      using T = Half;                            \
      return call;                               \
    }                                            \
    default: {                                   \
      using T = BFloat;                          \
      return call;                               \
    }                                            \
  }

template <typename T, int Width>
int mean_of(const void* currents, void* x, std::int64_t size, const Steps& steps, void* stream) {
  const Share share = share_of({1, 1, size}, Width, Lie::one);
  mean_kernel<T, Width><<<blocks(share), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      static_cast<const Pack<T, Width>*>(currents), static_cast<Pack<T, Width>*>(x), share, steps);
  return cudaGetLastError();
}

template <typename Unit>
int repeat_of(const void* x, void* currents, std::int64_t bytes, int steps, void* stream) {
  const Share share = share_of({1, 1, bytes / static_cast<std::int64_t>(sizeof(Unit))}, 1, Lie::one);
  repeat_kernel<Unit><<<blocks(share), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      static_cast<const Unit*>(x), static_cast<Unit*>(currents), share, steps);
  return cudaGetLastError();
}

}  // namespace

int neuron(Type type, Output output, const void* x, void* y, const Layout& layout, const Neurons& neurons,
           void* stream) {
  if (layout.size() == 0) return cudaSuccess;
  if (output == Output::counts) GRAPHPASS_OF_TYPE(type, (run<T, Even, ToCounts>(x, y, layout, neurons, {}, stream)))
  GRAPHPASS_OF_TYPE(type, (run_neurons<ToLevels, T>(x, y, layout, neurons, {}, stream)))
}

int train(Type type, const void* currents, void* spikes, const Layout& layout, const Neurons& neurons,
          const Steps& steps, void* stream) {
  if (layout.size() == 0) return cudaSuccess;
  GRAPHPASS_OF_TYPE(type, (run_neurons<ToTrain, T>(currents, spikes, layout, neurons, steps, stream)))
}

int mean(Type type, const void* currents, void* x, std::int64_t size, const Steps& steps, void* stream) {
  if (size == 0) return cudaSuccess;
  const auto whole = [&](int width) { return size % width == 0 && aligned(currents, 16) && aligned(x, 16); };
  GRAPHPASS_OF_TYPE(type, whole(kWidth<T>) ? (mean_of<T, kWidth<T>>(currents, x, size, steps, stream))
                                           : (mean_of<T, 1>(currents, x, size, steps, stream)))
}

int repeat(const void* x, void* currents, std::int64_t bytes, int steps, void* stream) {
  if (bytes == 0) return cudaSuccess;
  if (bytes % 16 == 0 && aligned(x, 16) && aligned(currents, 16))
    return repeat_of<uint4>(x, currents, bytes, steps, stream);
  return repeat_of<std::uint16_t>(x, currents, bytes, steps, stream);
}

const char* error_text(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

}  // namespace graphpass::cuda
