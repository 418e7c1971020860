// What onnxruntime's CUDA provider asks of the runtime beyond runtime.cc: a device, streams, events, graphs, host memory.
// Everything is done when a call returns. Functions that are not here fail and say their names (provider.py makes them).
#include <driver_types.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "runtime.h"

using namespace emulated;

namespace {
constexpr Error kCaptureInvalidated = 901;

Error made(void** handle) { return (*handle = std::malloc(1)) ? kSuccess : kOutOfMemory; }
}  // namespace

// ---- The device.
EMULATED_API Error cudaGetDeviceCount(int* count) { return *count = 1, kSuccess; }
EMULATED_API Error cudaSetDevice(int) { return kSuccess; }
EMULATED_API Error cudaDeviceSynchronize() { return kSuccess; }
EMULATED_API Error cudaRuntimeGetVersion(int* version) { return *version = 13000, kSuccess; }
EMULATED_API Error cudaDriverGetVersion(int* version) { return *version = 13000, kSuccess; }
EMULATED_API Error cudaGetDeviceProperties(cudaDeviceProp* found, int) {
  *found = {};
  std::strcpy(found->name, "emulated");
  found->major = 9, found->multiProcessorCount = 132, found->warpSize = 32, found->maxThreadsPerBlock = 1024;
  found->totalGlobalMem = std::size_t{4} << 30, found->maxThreadsPerMultiProcessor = 2048, found->regsPerBlock = 65536;
  found->sharedMemPerBlock = 49152, found->sharedMemPerBlockOptin = 232448;
  return kSuccess;
}

// ---- Memory.
EMULATED_API Error cudaMalloc(void** pointer, std::size_t size);
EMULATED_API Error cudaFree(void* pointer);
EMULATED_API Error cudaMemsetAsync(void* to, int value, std::size_t size, void*);
EMULATED_API Error cudaMallocFromPoolAsync(void** pointer, std::size_t size, void*, void*) { return cudaMalloc(pointer, size); }
EMULATED_API Error cudaFreeAsync(void* pointer, void*) { return cudaFree(pointer); }
EMULATED_API Error cudaHostAlloc(void** pointer, std::size_t size, unsigned) {
  return (*pointer = std::calloc(1, size + 1)) ? kSuccess : kOutOfMemory;
}
EMULATED_API Error cudaMallocHost(void** pointer, std::size_t size) { return cudaHostAlloc(pointer, size, 0); }
EMULATED_API Error cudaFreeHost(void* pointer) { return std::free(pointer), kSuccess; }
EMULATED_API Error cudaMemset(void* to, int value, std::size_t size) { return cudaMemsetAsync(to, value, size, nullptr); }
EMULATED_API Error cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  return *free = *total = std::size_t{4} << 30, kSuccess;
}
EMULATED_API Error cudaPointerGetAttributes(cudaPointerAttributes* found, const void* pointer) {
  *found = {};
  found->type = on_device(pointer) ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered;
  found->devicePointer = found->hostPointer = const_cast<void*>(pointer);
  return kSuccess;
}

// ---- Streams and events.
EMULATED_API Error cudaStreamCreateWithFlags(void** stream, unsigned) { return made(stream); }
EMULATED_API Error cudaStreamCreate(void** stream) { return made(stream); }
EMULATED_API Error cudaStreamDestroy(void* stream) { return std::free(stream), kSuccess; }
EMULATED_API Error cudaStreamSynchronize(void*) { return captured ? failed(kCaptureInvalidated) : kSuccess; }
EMULATED_API Error cudaStreamWaitEvent(void*, void*, unsigned) { return kSuccess; }
EMULATED_API Error cudaEventCreateWithFlags(void** event, unsigned) { return made(event); }
EMULATED_API Error cudaEventCreate(void** event) { return made(event); }
EMULATED_API Error cudaEventDestroy(void* event) { return std::free(event), kSuccess; }
EMULATED_API Error cudaEventRecord(void*, void*) { return kSuccess; }
EMULATED_API Error cudaEventSynchronize(void*) { return kSuccess; }

// ---- Graphs: what was submitted while one was captured.
using Work = std::vector<std::function<void()>>;
EMULATED_API Error cudaStreamIsCapturing(void*, int* status) { return *status = captured != nullptr, kSuccess; }
EMULATED_API Error cudaStreamBeginCapture(void*, int) {
  counts["captures"] += 1;
  captured = new Work;
  return kSuccess;
}
EMULATED_API Error cudaStreamEndCapture(void*, void** graph) {
  *graph = captured;
  captured = nullptr;
  return kSuccess;
}
EMULATED_API Error cudaGraphInstantiate(void** made, void* graph, unsigned long long) { return *made = graph, kSuccess; }
EMULATED_API Error cudaGraphDestroy(void*) { return kSuccess; }
EMULATED_API Error cudaGraphExecDestroy(void*) { return kSuccess; }
EMULATED_API Error cudaGraphLaunch(void* graph, void*) {
  counts["graph launches"] += 1;
  for (const auto& work : *static_cast<Work*>(graph)) work();
  return kSuccess;
}
