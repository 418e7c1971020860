// CUDA C++ without shared memory and barriers as ordinary C++, for the sanitizers: a launch is a loop over its threads.
// scripts/sanitize turns kernel<<<grid, block, …>>>(…) into launched(grid, block, …, kernel)(…).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#define __global__ static
#define __device__ inline
#define __launch_bounds__(threads)

using cudaStream_t = void*;
using cudaError_t = int;
constexpr int cudaSuccess = 0, cudaErrorInvalidValue = 1;
struct Place {
  unsigned x = 0;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline Place blockIdx, threadIdx;

template <typename T>
T __ldg(const T* place) {
  return *place;
}
inline int __clz(int value) { return value ? __builtin_clz(value) : 32; }
inline int cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(int) { return "no error"; }

template <typename Kernel>
auto launched(unsigned grid, unsigned block, std::size_t, cudaStream_t, Kernel kernel) {
  return [=](auto... arguments) {
    for (unsigned b = grid; b-- > 0;)
      for (unsigned t = block; t-- > 0;) {
        blockIdx.x = b, threadIdx.x = t;
        kernel(arguments...);
      }
  };
}
