// The spiking operators as onnxruntime custom operators, for the CPU and CUDA execution providers, under the names that
// graphpass/forms/operators.py gives their function bodies.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels.h"
#include "ort_abi.h"

namespace graphpass::ort {
namespace {

constexpr const char* kDomain = "ai.graphpass";
constexpr const char* kProviders[] = {"CPUExecutionProvider", "CUDAExecutionProvider"};
constexpr std::int64_t kChunk = 1 << 15;  // elements of one task on the session's thread pool

const OrtApi* api = nullptr;

struct Failure {  // a status of the runtime on its way up
  OrtStatus* status;
};

template <typename Function, typename... Args>
void call(Slot number, Args... args) {
  if (OrtStatus* status = slot<Function>(api, number)(args...)) throw Failure{status};
}

template <typename Body>
OrtStatus* guarded(const char* name, Body body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const Failure& failure) {
    return failure.status;
  } catch (const std::exception& error) {
    const std::string text = std::string(name) + ": " + error.what();
    return slot<CreateStatus>(api, kCreateStatus)(ORT_INVALID_ARGUMENT, text.c_str());
  }
}

using Shape = std::vector<std::int64_t>;

struct ReleaseInfo {
  void operator()(OrtTensorTypeAndShapeInfo* info) const {
    slot<ReleaseTensorTypeAndShapeInfo>(api, kReleaseTensorTypeAndShapeInfo)(info);
  }
};
using Info = std::unique_ptr<OrtTensorTypeAndShapeInfo, ReleaseInfo>;

Shape shape_in(const OrtTensorTypeAndShapeInfo* info) {
  std::size_t rank = 0;
  call<GetDimensionsCount>(kGetDimensionsCount, info, &rank);
  Shape shape(rank);
  call<GetDimensions>(kGetDimensions, info, shape.data(), rank);
  return shape;
}

std::string written(const Shape& shape) {
  std::string text = "[";
  for (std::size_t k = 0; k < shape.size(); ++k) text += (k ? ", " : "") + std::to_string(shape[k]);
  return text + "]";
}

std::int64_t product(const Shape& shape, std::size_t from = 0) {
  std::int64_t size = 1;
  for (std::size_t k = from; k < shape.size(); ++k) size *= shape[k];
  return size;
}

struct Input {
  Shape shape;
  const void* data = nullptr;
};

Input input(const OrtKernelContext* context, std::size_t index) {
  const OrtValue* value = nullptr;
  call<KernelContextGetInput>(kKernelContextGetInput, context, index, &value);
  OrtTensorTypeAndShapeInfo* info = nullptr;
  call<GetTensorTypeAndShape>(kGetTensorTypeAndShape, value, &info);
  const Info owned(info);
  Input found{shape_in(info), nullptr};
  void* data = nullptr;
  call<GetTensorMutableData>(kGetTensorMutableData, const_cast<OrtValue*>(value), &data);
  found.data = data;
  return found;
}

void* output(OrtKernelContext* context, const Shape& shape) {
  OrtValue* value = nullptr;
  call<KernelContextGetOutput>(kKernelContextGetOutput, context, std::size_t{0}, shape.data(), shape.size(), &value);
  void* data = nullptr;
  call<GetTensorMutableData>(kGetTensorMutableData, value, &data);
  return data;
}

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

// body(begin, end) over [0, size) on the session's thread pool.
template <typename Body>
void parallel(const OrtKernelContext* context, std::int64_t size, Body body) {
  if (size <= kChunk) return body(std::int64_t{0}, size);
  struct Work {
    Body& body;
    std::int64_t size;
  } work{body, size};
  const auto task = [](void* data, std::size_t index) {
    auto& mine = *static_cast<Work*>(data);
    const std::int64_t begin = static_cast<std::int64_t>(index) * kChunk;
    mine.body(begin, std::min(begin + kChunk, mine.size));
  };
  const auto tasks = static_cast<std::size_t>((size + kChunk - 1) / kChunk);
  call<KernelContextParallelFor>(kKernelContextParallelFor, context, static_cast<void (*)(void*, std::size_t)>(task),
                                 tasks, std::size_t{0}, static_cast<void*>(&work));
}

enum class Kind { neuron, count, train, mean, repeat, threshold, threshold_train, blocked, blocked_sum };

constexpr const char* kOperatorNames[] = {"ParallelNeuron",  "ParallelNeuronCount",  "ParallelNeuronTrain",
                                          "TimeMean",        "TimeRepeat",           "ThresholdNeuron",
                                          "ThresholdNeuronTrain", "BlockedNeuron",   "BlockedNeuronOfSum"};
constexpr std::size_t kInputs[] = {5, 3, 3, 1, 1, 5, 3, 5, 6};
constexpr bool is_train(Kind kind) { return kind == Kind::train || kind == Kind::threshold_train; }
constexpr bool has_every(Kind kind) { return kind == Kind::threshold || kind == Kind::threshold_train; }
constexpr bool is_blocked(Kind kind) { return kind == Kind::blocked || kind == Kind::blocked_sum; }

struct Kernel {
  Kind kind;
  Type type;
  bool host;
  float largest = 0;
  Steps steps;
  std::int64_t block = 1;

  const char* name() const { return kOperatorNames[static_cast<int>(kind)]; }
  void compute(OrtKernelContext* context) const;
  void compute_blocked(OrtKernelContext* context, const Input& x) const;
};

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

Kernel made(Kind kind, Type type, bool host, const OrtKernelInfo* info) {
  Kernel kernel{kind, type, host, 0.0f, {}, 1};
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

#ifdef GRAPHPASS_CUDA
void succeeded(int status) {
  if (status != 0) throw std::runtime_error("CUDA error " + std::to_string(status));
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

void Kernel::compute(OrtKernelContext* context) const {
  std::size_t given = 0;
  call<KernelContextGetInputCount>(kKernelContextGetInputCount, static_cast<const OrtKernelContext*>(context), &given);
  const std::size_t wanted = kInputs[static_cast<int>(kind)];
  if (given != wanted)
    throw std::invalid_argument(std::to_string(given) + " inputs, not " + std::to_string(wanted));
  const Input x = input(context, 0);
  if (is_blocked(kind)) return compute_blocked(context, x);
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

// One operator for one type on one provider.
struct Operator : OrtCustomOp {
  Kind kind;
  Type type;
  bool host;

  static const Operator& of(const OrtCustomOp* op) { return *static_cast<const Operator*>(op); }
  ONNXTensorElementDataType element() const {
    constexpr ONNXTensorElementDataType kTypes[] = {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
                                                    ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
                                                    ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16};
    return kTypes[static_cast<int>(type)];
  }

  Operator(Kind kind, Type type, bool host);
};

std::int64_t inferred(const OrtShapeInferContext* context, const char* name) {
  const OrtOpAttr* attribute = nullptr;
  call<ShapeInferContextGetAttribute>(kShapeInferContextGetAttribute, context, name, &attribute);
  std::int64_t value = 0;
  std::size_t size = 0;
  call<ReadOpAttr>(kReadOpAttr, attribute, ORT_OP_ATTR_INT, static_cast<void*>(&value), sizeof(value), &size);
  return value;
}

// Output shape: that of the input, but for the first axis where the time-steps change.
void infer(Kind kind, OrtShapeInferContext* context) {
  OrtTensorTypeAndShapeInfo* in = nullptr;  // belongs to the context
  call<ShapeInferContextGetInputTypeShape>(kShapeInferContextGetInputTypeShape,
                                           static_cast<const OrtShapeInferContext*>(context), std::size_t{0}, &in);
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
  if (kind != Kind::count) call<GetTensorElementType>(kGetTensorElementType, in, &type);
  Shape shape = shape_in(in);
  if (shape.empty()) return;  // a scalar, or a tensor of unknown rank: the runtime does not tell them apart
  std::vector<const char*> symbols(shape.size());
  call<GetSymbolicDimensions>(kGetSymbolicDimensions, in, symbols.data(), symbols.size());
  if (is_train(kind) || kind == Kind::mean || kind == Kind::repeat) {
    const std::int64_t steps = inferred(context, "time_steps");
    const std::int64_t before = is_train(kind) ? inferred(context, "input_steps") : kind == Kind::mean ? steps : 1;
    const std::int64_t after = kind == Kind::mean ? 1 : steps;
    if (before < 1 || (shape[0] > 0 && shape[0] % before != 0)) return;  // the kernel will say what is wrong
    if (before != after) symbols[0] = "";
    if (shape[0] > 0) shape[0] = shape[0] / before * after;
  }
  // An axis of unknown size needs a name, or the runtime takes its −1 for the size.
  static std::atomic<unsigned> unknown{0};
  std::vector<std::string> names(shape.size());
  for (std::size_t k = 0; k < shape.size(); ++k) {
    if (shape[k] >= 0 || (symbols[k] && *symbols[k])) continue;
    names[k] = "graphpass_" + std::to_string(unknown++);
    symbols[k] = names[k].c_str();
  }
  OrtTensorTypeAndShapeInfo* made = nullptr;
  call<CreateTensorTypeAndShapeInfo>(kCreateTensorTypeAndShapeInfo, &made);
  const Info owned(made);
  call<SetTensorElementType>(kSetTensorElementType, made, type);
  call<SetDimensions>(kSetDimensions, made, static_cast<const std::int64_t*>(shape.data()), shape.size());
  call<SetSymbolicDimensions>(kSetSymbolicDimensions, made, symbols.data(), symbols.size());
  call<ShapeInferContextSetOutputTypeShape>(kShapeInferContextSetOutputTypeShape,
                                            static_cast<const OrtShapeInferContext*>(context), std::size_t{0},
                                            static_cast<const OrtTensorTypeAndShapeInfo*>(made));
}

Operator::Operator(Kind kind, Type type, bool host) : OrtCustomOp{}, kind(kind), type(type), host(host) {
  version = kApiVersion;
  GetName = [](const OrtCustomOp* op) { return kOperatorNames[static_cast<int>(of(op).kind)]; };
  GetExecutionProviderType = [](const OrtCustomOp* op) { return kProviders[of(op).host ? 0 : 1]; };
  GetInputTypeCount = [](const OrtCustomOp* op) { return kInputs[static_cast<int>(of(op).kind)]; };
  GetInputType = [](const OrtCustomOp* op, std::size_t index) {
    return index == 0 ? of(op).element() : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;  // what is added: blocks are float
  };
  GetOutputTypeCount = [](const OrtCustomOp*) { return std::size_t{1}; };
  GetOutputType = [](const OrtCustomOp* op, std::size_t) {
    return of(op).kind == Kind::count ? ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 : of(op).element();
  };
  GetInputCharacteristic = [](const OrtCustomOp*, std::size_t) { return INPUT_OUTPUT_REQUIRED; };
  GetOutputCharacteristic = [](const OrtCustomOp*, std::size_t) { return INPUT_OUTPUT_REQUIRED; };
  GetInputMemoryType = [](const OrtCustomOp*, std::size_t) { return OrtMemTypeDefault; };
  GetStartVersion = [](const OrtCustomOp*) { return 1; };
  GetEndVersion = [](const OrtCustomOp*) { return 1; };
  if (is_blocked(kind)) {  // y in place of x
    GetMayInplace = [](int** inputs, int** outputs) {
      static int first = 0;
      *inputs = *outputs = &first;
      return std::size_t{1};
    };
    ReleaseMayInplace = [](int*, int*) {};
  }
  CreateKernelV2 = [](const OrtCustomOp* op, const OrtApi*, const OrtKernelInfo* info, void** kernel) {
    const Operator& self = of(op);
    return guarded(kOperatorNames[static_cast<int>(self.kind)],
                   [&] { *kernel = new Kernel(made(self.kind, self.type, self.host, info)); });
  };
  KernelComputeV2 = [](void* kernel, OrtKernelContext* context) {
    const auto& self = *static_cast<const Kernel*>(kernel);
    return guarded(self.name(), [&] { self.compute(context); });
  };
  KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  InferOutputShapeFn = [](const OrtCustomOp* op, OrtShapeInferContext* context) {
    const Operator& self = of(op);
    return guarded(kOperatorNames[static_cast<int>(self.kind)], [&] { infer(self.kind, context); });
  };
}

std::vector<std::unique_ptr<Operator>> all_operators() {
  std::vector<std::unique_ptr<Operator>> operators;
  for (const Kind kind : {Kind::neuron, Kind::count, Kind::train, Kind::mean, Kind::repeat, Kind::threshold,
                          Kind::threshold_train})
    for (const Type type : {Type::f32, Type::f16, Type::bf16}) {
      operators.push_back(std::make_unique<Operator>(kind, type, true));
#ifdef GRAPHPASS_CUDA
      operators.push_back(std::make_unique<Operator>(kind, type, false));
#endif
    }
  for (const Kind kind : {Kind::blocked, Kind::blocked_sum})
    operators.push_back(std::make_unique<Operator>(kind, Type::f32, true));
  return operators;
}

// The domain outlives every session that uses it: one for the process, made at the first registration.
OrtCustomOpDomain* domain() {
  static const std::vector<std::unique_ptr<Operator>> operators = all_operators();
  static OrtCustomOpDomain* const made = [] {
    OrtCustomOpDomain* fresh = nullptr;
    call<CreateCustomOpDomain>(kCreateCustomOpDomain, kDomain, &fresh);
    for (const auto& op : operators)
      call<CustomOpDomainAdd>(kCustomOpDomainAdd, fresh, static_cast<const OrtCustomOp*>(op.get()));
    return fresh;
  }();
  return made;
}

}  // namespace
}  // namespace graphpass::ort

#define GRAPHPASS_EXPORT extern "C" __attribute__((visibility("default")))

// What onnxruntime calls when a session registers the library.
GRAPHPASS_EXPORT OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
  using namespace graphpass::ort;
  api = base->GetApi(kApiVersion);
  if (api == nullptr) return nullptr;  // a runtime older than API 18: neurons run as function bodies
  return guarded("ai.graphpass", [&] { call<AddCustomOpDomain>(kAddCustomOpDomain, options, domain()); });
}

// The execution providers that there are kernels for, comma-separated.
GRAPHPASS_EXPORT const char* GraphpassProviders() {
#ifdef GRAPHPASS_CUDA
  return "CPUExecutionProvider,CUDAExecutionProvider";
#else
  return "CPUExecutionProvider";
#endif
}
