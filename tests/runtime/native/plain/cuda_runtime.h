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
// Bytes of b:a, each chosen by four bits of `select`; those that repeat a sign are not used.
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned select) {
  const std::uint64_t both = static_cast<std::uint64_t>(b) << 32 | a;
  unsigned result = 0;
  for (unsigned k = 0; k < 4; ++k) result |= static_cast<unsigned>(both >> 8 * (select >> 4 * k & 7) & 255) << 8 * k;
  return result;
}
enum { cudaDevAttrComputeCapabilityMajor };
inline int cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline int cudaDeviceGetAttribute(int* value, int, int) { return *value = 9, cudaSuccess; }
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
