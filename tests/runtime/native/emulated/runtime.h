// The emulated CUDA runtime, for the parts of it.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <vector>

#define EMULATED_API extern "C" __attribute__((visibility("default")))

namespace emulated {

using Error = int;  // a cudaError_t
constexpr Error kSuccess = 0, kInvalidValue = 1, kOutOfMemory = 2, kInvalidConfiguration = 9, kNoSuchKernel = 98;

struct Dim {
  unsigned x, y, z;
};

// Runs the work, in the order of the calls whatever the stream; or keeps it, while a stream is captured.
void submit(std::function<void()> work);
// Remembers the error for cudaGetLastError.
Error failed(Error error);
// Device memory: whether a pointer lies in it.
bool on_device(const void* pointer);
// How often something was done.
extern std::map<std::string, unsigned long long> counts;
// What a stream that is being captured keeps; null while none is.
extern std::vector<std::function<void()>>* captured;

}  // namespace emulated
