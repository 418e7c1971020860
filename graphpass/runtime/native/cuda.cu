// CUDA kernels over neuron.h. A thread takes packs of numbers of which the channels stay the same, so that it prepares
// its neurons once: packs k, k + step, …, where step is a multiple of the packs of one [channels, inner].
#include <cuda_runtime.h>

#include <algorithm>

#include "cuda_thread.h"

namespace graphpass::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kAtOnce = 1 << 17;  // threads of a launch, about: those that a large GPU runs at a time

// The first pack of this thread; none for threads that only fill a block.
__device__ std::int64_t first_pack(const Share& share) {
  const std::int64_t k = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x;
  return k < share.step ? k : share.packs;
}

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

Share share_of(const Layout& layout, int width, Lie lie) {
  Share share;
  share.packs = layout.size() / width;
  std::int64_t plane = 1;
  if (layout.channels > 1) {
    plane = layout.channels * layout.inner / width;
    share.channels = layout.channels, share.inner = lie == Lie::one ? layout.inner / width : layout.inner;
  }
  share.step = std::min(share.packs, (kAtOnce + plane - 1) / plane * plane);
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

template <typename T, template <Lie, int> typename Neuron, template <typename, Lie, int> typename Result>
int run(const void* x, void* y, const Layout& layout, const Neurons& n, const Steps& steps, void* stream) {
  if (layout.size() == 0) return cudaSuccess;
  constexpr int kPack = kWidth<T>;
  const std::int64_t plane = layout.channels > 1 ? layout.channels * layout.inner : layout.size();
  if (plane % kPack || !aligned(x, 16) || !aligned(y, 16))
    return launch<T, 1, Lie::one, Neuron, Result>(x, y, layout, n, steps, stream);
  if (layout.channels == 1 || layout.inner % kPack == 0)
    return launch<T, kPack, Lie::one, Neuron, Result>(x, y, layout, n, steps, stream);
  if (layout.inner == 1 && layout.channels % kPack == 0 && Neuron<Lie::row, kPack>::is_row(n))
    return launch<T, kPack, Lie::row, Neuron, Result>(x, y, layout, n, steps, stream);
  if (layout.inner >= kPack) return launch<T, kPack, Lie::two, Neuron, Result>(x, y, layout, n, steps, stream);
  return launch<T, 1, Lie::one, Neuron, Result>(x, y, layout, n, steps, stream);
}

template <template <typename, Lie, int> typename Result, typename T>
int run_neurons(const void* x, void* y, const Layout& layout, const Neurons& n, const Steps& steps, void* stream) {
  if (n.each.pitch >> 29) return cudaErrorInvalidValue;
  if (n.each.rising) return run<T, Every, Result>(x, y, layout, n, steps, stream);
  return run<T, Even, Result>(x, y, layout, n, steps, stream);
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
  if (output == Output::counts) GRAPHPASS_OF_TYPE(type, (run<T, Even, ToCounts>(x, y, layout, neurons, {}, stream)))
  GRAPHPASS_OF_TYPE(type, (run_neurons<ToLevels, T>(x, y, layout, neurons, {}, stream)))
}

int train(Type type, const void* currents, void* spikes, const Layout& layout, const Neurons& neurons,
          const Steps& steps, void* stream) {
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
