// Kernels on plain pointers: no runtime, so that a small program can test them.
#pragma once

#include <cstdint>

namespace graphpass {

enum class Type { f32, f16, bf16 };

// A tensor as [outer, channels, inner]; parameters vary along the channels.
struct Layout {
  std::int64_t outer = 1, channels = 1, inner = 1;
  std::int64_t size() const { return outer * channels * inner; }
};

// float32, one value a channel, or one in all where `stride` is 0.
struct Parameter {
  const float* values = nullptr;
  std::int64_t stride = 0;
};

// A threshold of its own for every step: float32 [steps, channels], or [steps] where `stride` is 0.
struct Thresholds {
  const float* rising = nullptr;
  const float* falling = nullptr;
  std::int64_t steps = 0, pitch = 1, stride = 0;
};

// Even thresholds, or those of `each` where they are given.
struct Neurons {
  Parameter threshold, shift, amplitude, offset;
  float largest = 0;  // levels - 1
  Thresholds each;
};

struct Steps {
  int input = 1, output = 1;  // time-steps of the currents and of the spikes
  bool phase = false;
};

enum class Output { levels, counts };  // the type of x, or uint8

// How wide the channel blocks of onnxruntime's NCHWc layout may be: [outer, channels / block, inner, block].
constexpr bool is_block(std::int64_t block) { return block == 8 || block == 16; }

namespace cpu {
// Elements [begin, end) of the flattened tensor. Channels of a parameter must all be there (stride 1) where inner is 1.
void neuron(Type type, Output output, const void* x, void* y, const Layout& layout, const Neurons& neurons,
            std::int64_t begin, std::int64_t end);
// Levels of x, or of x + added where that is given, float32 in blocks of channels; begin and end are multiples of the
// block. y may be x or added.
void blocked(const float* x, const float* added, float* y, const Layout& layout, std::int64_t block,
             const Neurons& neurons, std::int64_t begin, std::int64_t end);
// y = table[channel][code], 256 entries a channel. codes and y may be the same.
void look_up(const std::uint8_t* codes, const std::uint8_t* table, std::uint8_t* y, const Layout& layout,
             std::int64_t begin, std::int64_t end);
// As neuron, of one time-step's tensor; layout: of one time-step. spikes: steps.output planes.
void train(Type type, const void* currents, void* spikes, const Layout& layout, const Neurons& neurons,
           const Steps& steps, std::int64_t begin, std::int64_t end);
// Elements [begin, end) of `size` ones. steps.input planes into one.
void mean(Type type, const void* currents, void* x, std::int64_t size, const Steps& steps, std::int64_t begin,
          std::int64_t end);
}  // namespace cpu

namespace cuda {
// On a stream, a cudaStream_t; all pointers are of the device. Returns a cudaError_t, 0 for success.
int neuron(Type type, Output output, const void* x, void* y, const Layout& layout, const Neurons& neurons,
           void* stream);
int train(Type type, const void* currents, void* spikes, const Layout& layout, const Neurons& neurons,
          const Steps& steps, void* stream);
int mean(Type type, const void* currents, void* x, std::int64_t size, const Steps& steps, void* stream);
int repeat(const void* x, void* currents, std::int64_t bytes, int steps, void* stream);
const char* error_text(int error);
}  // namespace cuda

}  // namespace graphpass
