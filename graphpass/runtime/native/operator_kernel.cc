// Attributes and parameters as onnxruntime has them, made what the kernels on plain pointers take.
#include "operator_kernel.h"

#include <array>
#include <cstring>
#include <stdexcept>

namespace graphpass::ort {
namespace {

// The axis of `shape` that a parameter varies along, -1 for one value in all.
int axis_of(const Shape& parameter, const Shape& shape, const char* name) {
  const auto wrong = [&] {
    return std::invalid_argument(std::string(name) + " of shape " + written(parameter) + " does not fit " +
                                 written(shape) + ": one value, or one along one axis");
  };
  int axis = -1;
  for (std::size_t k = 0; k < parameter.size(); ++k) {
    if (parameter[k] == 1) continue;
    const std::int64_t place = static_cast<std::int64_t>(shape.size() - parameter.size() + k);
    if (axis >= 0 || parameter.size() > shape.size() || shape[place] != parameter[k]) throw wrong();
    axis = static_cast<int>(place);
  }
  return axis;
}

// The parameters from input 1 on, and x as [outer, channels, inner] around the axis along which they vary.
struct Arguments {
  Layout layout;
  Neurons neurons;
  std::vector<std::vector<float>> spread;  // on the CPU: single values, one a channel
};

Arguments arguments(const OrtKernelContext* context, const Shape& shape, std::size_t count, float largest, bool host,
                    bool every) {
  static constexpr const char* kEven[] = {"threshold", "shift", "amplitude", "offset"};
  static constexpr const char* kEvery[] = {"rising", "falling", "amplitude", "offset"};
  const auto kNames = every ? kEvery : kEven;
  Arguments found;
  found.neurons.largest = largest;
  int axis = -1;
  std::vector<Input> inputs;
  std::vector<int> axes;
  for (std::size_t k = 0; k < count; ++k) {
    inputs.push_back(input(context, k + 1));
    if (every && k < 2) {  // thresholds of every step: the steps come first
      Shape& own = inputs[k].shape;
      if (own.empty() || own[0] != static_cast<std::int64_t>(largest))
        throw std::invalid_argument(std::string(kNames[k]) + " of shape " + written(own) + " does not hold " +
                                    std::to_string(static_cast<int>(largest)) + " steps");
      own.erase(own.begin());
    }
    axes.push_back(axis_of(inputs[k].shape, shape, kNames[k]));
    if (axes[k] >= 0 && axis >= 0 && axes[k] != axis)
      throw std::invalid_argument(std::string(kNames[k]) + " varies along axis " + std::to_string(axes[k]) +
                                  ", another parameter along axis " + std::to_string(axis));
    axis = std::max(axis, axes[k]);
  }
  if (axis < 0) {
    found.layout = {1, 1, product(shape)};
  } else {
    found.layout = {1, shape[axis], product(shape, axis + 1)};
    for (int k = 0; k < axis; ++k) found.layout.outer *= shape[k];
  }
  const std::array<Parameter*, 4> parameters = {&found.neurons.threshold, &found.neurons.shift,
                                                &found.neurons.amplitude, &found.neurons.offset};
  if (every) {
    if (axes[0] != axes[1]) throw std::invalid_argument("rising and falling vary along different axes");
    const std::int64_t pitch = axes[0] >= 0 ? found.layout.channels : 1;
    found.neurons.each = {static_cast<const float*>(inputs[0].data), static_cast<const float*>(inputs[1].data),
                          static_cast<std::int64_t>(largest), pitch, axes[0] >= 0 ? 1 : 0};
  }
  for (std::size_t k = every ? 2 : 0; k < count; ++k) {
    const auto* values = static_cast<const float*>(inputs[k].data);
    *parameters[k] = {values, axes[k] >= 0 ? 1 : 0};
    if (host && axes[k] < 0 && found.layout.inner == 1 && found.layout.channels > 1) {
      found.spread.emplace_back(found.layout.channels, *values);
      *parameters[k] = {found.spread.back().data(), 1};
    }
  }
  return found;
}

std::int64_t integer(const OrtKernelInfo* info, const char* name) {
  std::int64_t value = 0;
  call<KernelInfoGetAttributeInt64>(kKernelInfoGetAttributeInt64, info, name, &value);
  return value;
}

bool is_phase(const OrtKernelInfo* info) {
  char text[16] = {};
  std::size_t size = sizeof(text);
  call<KernelInfoGetAttributeString>(kKernelInfoGetAttributeString, info, "coding", text, &size);
  if (std::strcmp(text, "rate") == 0) return false;
  if (std::strcmp(text, "phase") == 0) return true;
  throw std::invalid_argument("coding is \"" + std::string(text) + "\", not \"rate\" or \"phase\"");
}

}  // namespace

Kernel kernel_of(Kind kind, Type type, bool host, const OrtKernelInfo* info) {
  Kernel kernel{kind, type, host, 0.0f, {}, 1, 0};
  if (kind == Kind::look_up) {
    kernel.after = integer(info, "after");
    return kernel;
  }
  const std::int64_t steps = integer(info, "time_steps");
  kernel.steps.phase = is_phase(info);
  if (steps < 1 || steps > (kernel.steps.phase ? 8 : 255))
    throw std::invalid_argument("time_steps is " + std::to_string(steps) + ", not 1 to 255 (rate) or 8 (phase)");
  kernel.steps.input = kernel.steps.output = static_cast<int>(steps);
  if (kind != Kind::mean && kind != Kind::repeat) {
    const std::int64_t levels = integer(info, "levels");
    if (levels < 2 || levels > 256)
      throw std::invalid_argument("levels is " + std::to_string(levels) + ", not 2 to 256");
    kernel.largest = static_cast<float>(levels - 1);
  }
  if (is_blocked(kind)) {
    kernel.block = integer(info, "block");
    if (!is_block(kernel.block)) throw std::invalid_argument("block is " + std::to_string(kernel.block) + ", not 8 or 16");
  }
  if (is_train(kind)) {
    const std::int64_t input = integer(info, "input_steps");
    if (input != 1 && input != steps)
      throw std::invalid_argument("input_steps is " + std::to_string(input) + ", not 1 or time_steps");
    kernel.steps.input = static_cast<int>(input);
  }
  return kernel;
}

namespace {

#ifdef GRAPHPASS_CUDA
void succeeded(int status) {
  if (status != 0)
    throw std::runtime_error("CUDA error " + std::to_string(status) + ", " + cuda::error_text(status));
}

void* stream_of(const OrtKernelContext* context) {
  void* stream = nullptr;
  call<KernelContextGetGpuComputeStream>(kKernelContextGetGpuComputeStream, context, &stream);
  return stream;
}
#endif

// The shape of one time-step of [S*N, ...].
Shape step_of(const Shape& shape, int steps) {
  if (shape.empty() || shape[0] % steps != 0)
    throw std::invalid_argument("an input of shape " + written(shape) + " does not hold " + std::to_string(steps) +
                                " time-steps along axis 0");
  Shape step = shape;
  step[0] /= steps;
  return step;
}

}  // namespace

// x: [N, C, H, W] by its shape, [N, C / block, H, W, block] in memory. Parameters [C, 1, 1] or [1, 1, 1].
void Kernel::compute_blocked(OrtKernelContext* context, const Input& x) const {
  if (x.shape.size() != 4 || x.shape[1] % block != 0)
    throw std::invalid_argument("an input of shape " + written(x.shape) + " has no blocks of " + std::to_string(block) +
                                " channels along axis 1");
  const Layout layout{x.shape[0], x.shape[1], x.shape[2] * x.shape[3]};
  std::array<Parameter, 4> parameters;
  for (std::size_t k = 0; k < parameters.size(); ++k) {
    const Input values = input(context, k + 1);
    if (values.shape != Shape{1, 1, 1} && values.shape != Shape{x.shape[1], 1, 1})
      throw std::invalid_argument("parameter " + std::to_string(k) + " has shape " + written(values.shape) +
                                  ", not one value or one a channel of " + written(x.shape));
    parameters[k] = {static_cast<const float*>(values.data), values.shape[0] > 1 ? 1 : 0};
  }
  const float* added = nullptr;
  if (kind == Kind::blocked_sum) {
    const Input other = input(context, 5);
    if (other.shape != x.shape)
      throw std::invalid_argument("shapes " + written(x.shape) + " and " + written(other.shape) + " are added");
    added = static_cast<const float*>(other.data);
  }
  const Neurons neurons{parameters[0], parameters[1], parameters[2], parameters[3], largest, {}};
  auto* y = static_cast<float*>(output(context, x.shape));
  static_assert(kChunk % 16 == 0, "a task begins with a block");
  parallel(context, layout.size(), [&](std::int64_t begin, std::int64_t end) {
    cpu::blocked(static_cast<const float*>(x.data), added, y, layout, block, neurons, begin, end);
  });
}

// codes: uint8 of any shape; table: uint8 [C, 256], C the size of the axis with `after` axes behind it, or [1, 256].
void Kernel::compute_look_up(OrtKernelContext* context, const Input& codes) const {
  const Input table = input(context, 1);
  const auto axis = static_cast<std::int64_t>(codes.shape.size()) - 1 - after;
  const bool one = table.shape.size() == 2 && table.shape[0] == 1;
  const bool fits = table.shape.size() == 2 && table.shape[1] == 256 &&
                    (one || (after >= 0 && axis >= 0 && codes.shape[axis] == table.shape[0]));
  if (!fits)
    throw std::invalid_argument("a table of shape " + written(table.shape) + " does not fit codes of shape " +
                                written(codes.shape) + " with " + std::to_string(after) +
                                " axes behind the channels");
  Layout layout{1, 1, product(codes.shape)};
  if (!one) {
    layout = {1, codes.shape[axis], product(codes.shape, axis + 1)};
    for (std::int64_t k = 0; k < axis; ++k) layout.outer *= codes.shape[k];
  }
  auto* y = static_cast<std::uint8_t*>(output(context, codes.shape));
  parallel(context, layout.size(), [&](std::int64_t begin, std::int64_t end) {
    cpu::look_up(static_cast<const std::uint8_t*>(codes.data), static_cast<const std::uint8_t*>(table.data), y, layout,
                 begin, end);
  });
}

void Kernel::compute(OrtKernelContext* context) const {
  std::size_t given = 0;
  call<KernelContextGetInputCount>(kKernelContextGetInputCount, static_cast<const OrtKernelContext*>(context), &given);
  const std::size_t wanted = kInputs[static_cast<int>(kind)];
  if (given != wanted)
    throw std::invalid_argument(std::to_string(given) + " inputs, not " + std::to_string(wanted));
  const Input x = input(context, 0);
  if (is_blocked(kind)) return compute_blocked(context, x);
  if (kind == Kind::look_up) return compute_look_up(context, x);
  if (kind == Kind::neuron || kind == Kind::count || kind == Kind::threshold) {
    const Arguments with = arguments(context, x.shape, wanted - 1, largest, host, has_every(kind));
    void* y = output(context, x.shape);
    const Output wants = kind == Kind::count ? Output::counts : Output::levels;
    if (host)
      return parallel(context, with.layout.size(), [&](std::int64_t begin, std::int64_t end) {
        cpu::neuron(type, wants, x.data, y, with.layout, with.neurons, begin, end);
      });
#ifdef GRAPHPASS_CUDA
    return succeeded(cuda::neuron(type, wants, x.data, y, with.layout, with.neurons, stream_of(context)));
#endif
  } else if (is_train(kind)) {
    Shape shape = step_of(x.shape, steps.input);
    const Arguments with = arguments(context, shape, wanted - 1, largest, host, has_every(kind));
    shape[0] *= steps.output;
    void* spikes = output(context, shape);
    if (host)
      return parallel(context, with.layout.size(), [&](std::int64_t begin, std::int64_t end) {
        cpu::train(type, x.data, spikes, with.layout, with.neurons, steps, begin, end);
      });
#ifdef GRAPHPASS_CUDA
    return succeeded(cuda::train(type, x.data, spikes, with.layout, with.neurons, steps, stream_of(context)));
#endif
  } else if (kind == Kind::mean) {
    const Shape shape = step_of(x.shape, steps.input);
    const std::int64_t size = product(shape);
    void* mean = output(context, shape);
    if (host)
      return parallel(context, size, [&](std::int64_t begin, std::int64_t end) {
        cpu::mean(type, x.data, mean, size, steps, begin, end);
      });
#ifdef GRAPHPASS_CUDA
    return succeeded(cuda::mean(type, x.data, mean, size, steps, stream_of(context)));
#endif
  } else {
    Shape shape = step_of(x.shape, 1);
    const std::int64_t bytes = product(shape) * (type == Type::f32 ? 4 : 2);
    shape[0] *= steps.output;
    void* currents = output(context, shape);
    if (host) {
      for (int plane = 0; plane < steps.output && bytes; ++plane)
        std::memcpy(static_cast<char*>(currents) + plane * bytes, x.data, bytes);
      return;
    }
#ifdef GRAPHPASS_CUDA
    return succeeded(cuda::repeat(x.data, currents, bytes, steps.output, stream_of(context)));
#endif
  }
}

}  // namespace graphpass::ort
