// CUDA kernels over neuron.h: one pass, four elements of a type a thread where the layout allows it.
#include <cuda_runtime.h>

#include <algorithm>

#include "kernels.h"
#include "neuron.h"

namespace graphpass::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kBlocks = 1 << 16;  // of a grid; its threads stride over what is left

unsigned blocks(std::int64_t size) {
  return static_cast<unsigned>(std::min((size + kThreads - 1) / kThreads, kBlocks));
}

template <typename T, int Width>
struct alignas(sizeof(T) * Width) Pack {
  T values[Width];
};

__device__ std::int64_t channel_of(std::int64_t element, const Layout& layout) {
  if (layout.channels == 1) return 0;
  return element / layout.inner % layout.channels;
}

// Steps that fire are nested, so the count is found by halving: on the rising side, or else on the falling one.
__device__ std::int32_t count_of(float x, const Neurons& n, std::int64_t c) {
  if (!n.each.rising)
    return count(x, n.threshold.values[c * n.threshold.stride], n.shift.values[c * n.shift.stride], n.largest);
  const float* rising = n.each.rising + c * n.each.stride;
  const float* falling = n.each.falling + c * n.each.stride;
  std::int32_t low = 0, high = static_cast<std::int32_t>(n.each.steps);
  while (low < high) {
    const std::int32_t middle = (low + high) / 2;
    if (outside(x, rising[middle * n.each.pitch], falling[middle * n.each.pitch]))
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

template <typename T>
__global__ void threshold_kernel(const T* x, T* y, Layout layout, Neurons n) {
  const std::int64_t size = layout.outer * layout.channels * layout.inner;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t k = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x; k < size; k += step) {
    const std::int64_t c = channel_of(k, layout);
    const float value = widen(x[k]);
    const float fired = value == value ? static_cast<float>(count_of(value, n, c)) : value;
    y[k] = narrow<T>(n.amplitude.values[c * n.amplitude.stride] * fired + n.offset.values[c * n.offset.stride]);
  }
}

template <typename Kind, typename In, typename Out, int Width>
__global__ void neuron_kernel(const Pack<In, Width>* x, Pack<Out, Width>* y, Layout layout, Neurons n,
                              std::int64_t packs) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t k = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x; k < packs; k += step) {
    const Pack<In, Width> in = x[k];
    Pack<Out, Width> out;
    // A pack lies in one channel, or (inner = 1) in Width channels in a row: launch chooses Width so.
    const std::int64_t first = channel_of(k * Width, layout);
#pragma unroll
    for (int j = 0; j < Width; ++j) {
      const std::int64_t c = layout.inner == 1 && layout.channels > 1 ? first + j : first;
      const float amplitude = n.amplitude.values ? n.amplitude.values[c * n.amplitude.stride] : 0.0f;
      const float offset = n.offset.values ? n.offset.values[c * n.offset.stride] : 0.0f;
      out.values[j] = Kind::template of<Out>(widen(in.values[j]), n.threshold.values[c * n.threshold.stride],
                                             n.shift.values[c * n.shift.stride], amplitude, offset, n.largest);
    }
    y[k] = out;
  }
}

template <int Width>
bool fits(const void* x, std::size_t bytes, const Layout& layout) {
  const std::int64_t run = layout.channels == 1 ? layout.size() : layout.inner == 1 ? layout.channels : layout.inner;
  return run % Width == 0 && reinterpret_cast<std::uintptr_t>(x) % (bytes * Width) == 0;
}

template <typename Kind, typename In, typename Out, int Width>
int launch(const void* x, void* y, const Layout& layout, const Neurons& neurons, cudaStream_t stream) {
  const std::int64_t packs = layout.size() / Width;
  neuron_kernel<Kind, In, Out, Width><<<blocks(packs), kThreads, 0, stream>>>(
      static_cast<const Pack<In, Width>*>(x), static_cast<Pack<Out, Width>*>(y), layout, neurons, packs);
  return cudaGetLastError();
}

template <typename Kind, typename In, typename Out>
int elements(const void* x, void* y, const Layout& layout, const Neurons& neurons, void* stream) {
  if (layout.size() == 0) return cudaSuccess;
  const auto queue = static_cast<cudaStream_t>(stream);
  if (fits<8>(x, sizeof(In), layout) && fits<8>(y, sizeof(Out), layout) && sizeof(In) == 2)
    return launch<Kind, In, Out, 8>(x, y, layout, neurons, queue);
  if (fits<4>(x, sizeof(In), layout) && fits<4>(y, sizeof(Out), layout))
    return launch<Kind, In, Out, 4>(x, y, layout, neurons, queue);
  return launch<Kind, In, Out, 1>(x, y, layout, neurons, queue);
}

template <typename T>
__global__ void train_kernel(const T* currents, T* spikes, Layout layout, Neurons n, Steps steps) {
  const std::int64_t size = layout.outer * layout.channels * layout.inner;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t k = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x; k < size; k += step) {
    const std::int64_t c = channel_of(k, layout);
    const float x = time_mean(currents + k, size, steps.input, steps.phase);
    const std::int32_t fired = count_of(x, n, c);
    for (int plane = 0; plane < steps.output; ++plane)
      spikes[plane * size + k] = spike<T>(fires(fired, plane, steps.output, steps.phase));
  }
}

template <typename T>
__global__ void mean_kernel(const T* currents, T* x, std::int64_t size, Steps steps) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t k = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x; k < size; k += step)
    x[k] = narrow<T>(time_mean(currents + k, size, steps.input, steps.phase));
}

}  // namespace

template <typename T>
static int thresholds_of(const void* x, void* y, const Layout& layout, const Neurons& neurons, void* stream) {
  if (layout.size() == 0) return cudaSuccess;
  threshold_kernel<T><<<blocks(layout.size()), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      static_cast<const T*>(x), static_cast<T*>(y), layout, neurons);
  return cudaGetLastError();
}

int neuron(Type type, Output output, const void* x, void* y, const Layout& layout, const Neurons& neurons,
           void* stream) {
  if (neurons.each.rising) {
    if (type == Type::f32) return thresholds_of<float>(x, y, layout, neurons, stream);
    if (type == Type::f16) return thresholds_of<Half>(x, y, layout, neurons, stream);
    return thresholds_of<BFloat>(x, y, layout, neurons, stream);
  }
  if (output == Output::counts) {
    if (type == Type::f32) return elements<Counts, float, std::uint8_t>(x, y, layout, neurons, stream);
    if (type == Type::f16) return elements<Counts, Half, std::uint8_t>(x, y, layout, neurons, stream);
    return elements<Counts, BFloat, std::uint8_t>(x, y, layout, neurons, stream);
  }
  if (type == Type::f32) return elements<Levels, float, float>(x, y, layout, neurons, stream);
  if (type == Type::f16) return elements<Levels, Half, Half>(x, y, layout, neurons, stream);
  return elements<Levels, BFloat, BFloat>(x, y, layout, neurons, stream);
}

template <typename T>
static int train_of(const void* currents, void* spikes, const Layout& layout, const Neurons& neurons,
                    const Steps& steps, void* stream) {
  train_kernel<T><<<blocks(layout.size()), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      static_cast<const T*>(currents), static_cast<T*>(spikes), layout, neurons, steps);
  return cudaGetLastError();
}

int train(Type type, const void* currents, void* spikes, const Layout& layout, const Neurons& neurons,
          const Steps& steps, void* stream) {
  if (layout.size() == 0) return cudaSuccess;
  if (type == Type::f32) return train_of<float>(currents, spikes, layout, neurons, steps, stream);
  if (type == Type::f16) return train_of<Half>(currents, spikes, layout, neurons, steps, stream);
  return train_of<BFloat>(currents, spikes, layout, neurons, steps, stream);
}

template <typename T>
static int mean_of(const void* currents, void* x, std::int64_t size, const Steps& steps, void* stream) {
  mean_kernel<T><<<blocks(size), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      static_cast<const T*>(currents), static_cast<T*>(x), size, steps);
  return cudaGetLastError();
}

int mean(Type type, const void* currents, void* x, std::int64_t size, const Steps& steps, void* stream) {
  if (size == 0) return cudaSuccess;
  if (type == Type::f32) return mean_of<float>(currents, x, size, steps, stream);
  if (type == Type::f16) return mean_of<Half>(currents, x, size, steps, stream);
  return mean_of<BFloat>(currents, x, size, steps, stream);
}

int repeat(const void* x, void* currents, std::int64_t bytes, int steps, void* stream) {
  for (int plane = 0; plane < steps; ++plane) {
    auto* to = static_cast<char*>(currents) + plane * bytes;
    const int status =
        cudaMemcpyAsync(to, x, bytes, cudaMemcpyDeviceToDevice, static_cast<cudaStream_t>(stream));
    if (status != cudaSuccess) return status;
  }
  return cudaSuccess;
}

}  // namespace graphpass::cuda
