// The spiking operators as onnxruntime custom operators, for the CPU and CUDA execution providers, under the names that
// graphpass/forms/operators.py gives their function bodies: their types, the shapes of their outputs, their registration.
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "operator_kernel.h"

namespace graphpass::ort {
namespace {

constexpr const char* kDomain = "ai.graphpass";
constexpr const char* kProviders[] = {"CPUExecutionProvider", "CUDAExecutionProvider"};

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
    if (of(op).kind == Kind::look_up) return ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
    return index == 0 ? of(op).element() : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;  // what is added: blocks are float
  };
  GetOutputTypeCount = [](const OrtCustomOp*) { return std::size_t{1}; };
  GetOutputType = [](const OrtCustomOp* op, std::size_t) {
    return of(op).kind == Kind::count || of(op).kind == Kind::look_up ? ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 : of(op).element();
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
                   [&] { *kernel = new Kernel(kernel_of(self.kind, self.type, self.host, info)); });
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
  for (const Kind kind : {Kind::blocked, Kind::blocked_sum, Kind::look_up})  // inside of sessions on the CPU
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
