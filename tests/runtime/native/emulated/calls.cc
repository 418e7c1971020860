// The functions of kernels.h for CUDA with C linkage, for ctypes.
#include "kernels.h"

using namespace graphpass;

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT int neuron(int type, int output, const void* x, void* y, const Layout* layout, const Neurons* neurons) {
  return cuda::neuron(static_cast<Type>(type), static_cast<Output>(output), x, y, *layout, *neurons, nullptr);
}
EXPORT int train(int type, const void* x, void* y, const Layout* layout, const Neurons* neurons, const Steps* steps) {
  return cuda::train(static_cast<Type>(type), x, y, *layout, *neurons, *steps, nullptr);
}
EXPORT int mean(int type, const void* x, void* y, std::int64_t size, const Steps* steps) {
  return cuda::mean(static_cast<Type>(type), x, y, size, *steps, nullptr);
}
EXPORT int repeat(const void* x, void* y, std::int64_t bytes, int steps) {
  return cuda::repeat(x, y, bytes, steps, nullptr);
}
EXPORT const char* error_text(int error) { return cuda::error_text(error); }
