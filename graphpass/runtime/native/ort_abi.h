// The part of onnxruntime's C ABI that the operators use. onnxruntime's wheels ship no header; OrtApi is an append-only
// table of function pointers, so the slots below are enough. tests/runtime/native/test_abi.py holds them against the official
// header where that is at hand. Source: onnxruntime_c_api.h, API version 18.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

struct OrtStatus;
struct OrtSessionOptions;
struct OrtCustomOpDomain;
struct OrtKernelInfo;
struct OrtKernelContext;
struct OrtShapeInferContext;
struct OrtTensorTypeAndShapeInfo;
struct OrtValue;
struct OrtOpAttr;
struct OrtApi;
struct OrtCustomOp;

enum OrtErrorCode { ORT_FAIL = 1, ORT_INVALID_ARGUMENT = 2 };
enum ONNXTensorElementDataType {
  ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT = 1,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 = 2,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16 = 10,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16 = 16,
};
enum OrtCustomOpInputOutputCharacteristic { INPUT_OUTPUT_REQUIRED = 0 };
enum OrtMemType { OrtMemTypeDefault = 0 };
enum OrtOpAttrType { ORT_OP_ATTR_INT = 1 };

struct OrtApiBase {
  const OrtApi* (*GetApi)(std::uint32_t version);
  const char* (*GetVersionString)();
};

struct OrtCustomOp {
  std::uint32_t version;
  void* (*CreateKernel)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*);
  const char* (*GetName)(const OrtCustomOp*);
  const char* (*GetExecutionProviderType)(const OrtCustomOp*);
  ONNXTensorElementDataType (*GetInputType)(const OrtCustomOp*, std::size_t);
  std::size_t (*GetInputTypeCount)(const OrtCustomOp*);
  ONNXTensorElementDataType (*GetOutputType)(const OrtCustomOp*, std::size_t);
  std::size_t (*GetOutputTypeCount)(const OrtCustomOp*);
  void (*KernelCompute)(void*, OrtKernelContext*);
  void (*KernelDestroy)(void*);
  OrtCustomOpInputOutputCharacteristic (*GetInputCharacteristic)(const OrtCustomOp*, std::size_t);
  OrtCustomOpInputOutputCharacteristic (*GetOutputCharacteristic)(const OrtCustomOp*, std::size_t);
  OrtMemType (*GetInputMemoryType)(const OrtCustomOp*, std::size_t);
  int (*GetVariadicInputMinArity)(const OrtCustomOp*);
  int (*GetVariadicInputHomogeneity)(const OrtCustomOp*);
  int (*GetVariadicOutputMinArity)(const OrtCustomOp*);
  int (*GetVariadicOutputHomogeneity)(const OrtCustomOp*);
  OrtStatus* (*CreateKernelV2)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*, void**);
  OrtStatus* (*KernelComputeV2)(void*, OrtKernelContext*);
  OrtStatus* (*InferOutputShapeFn)(const OrtCustomOp*, OrtShapeInferContext*);
  int (*GetStartVersion)(const OrtCustomOp*);
  int (*GetEndVersion)(const OrtCustomOp*);
  std::size_t (*GetMayInplace)(int**, int**);
  void (*ReleaseMayInplace)(int*, int*);
  std::size_t (*GetAliasMap)(int**, int**);
  void (*ReleaseAliasMap)(int*, int*);
};
static_assert(sizeof(OrtCustomOp) == 26 * sizeof(void*), "the layout of API 18");

}  // extern "C"

namespace graphpass::ort {

constexpr std::uint32_t kApiVersion = 18;

// Slot numbers in OrtApi, and the functions that are there.
enum Slot : std::size_t {
  kCreateStatus = 0,
  kCreateCustomOpDomain = 26,
  kCustomOpDomainAdd = 27,
  kAddCustomOpDomain = 28,
  kGetTensorMutableData = 51,
  kCreateTensorTypeAndShapeInfo = 57,
  kSetTensorElementType = 58,
  kSetDimensions = 59,
  kGetTensorElementType = 60,
  kGetDimensionsCount = 61,
  kGetDimensions = 62,
  kGetSymbolicDimensions = 63,
  kGetTensorTypeAndShape = 65,
  kKernelInfoGetAttributeInt64 = 86,
  kKernelInfoGetAttributeString = 87,
  kKernelContextGetInputCount = 88,
  kKernelContextGetInput = 90,
  kKernelContextGetOutput = 91,
  kReleaseTensorTypeAndShapeInfo = 99,
  kKernelContextGetGpuComputeStream = 193,
  kShapeInferContextGetInputTypeShape = 268,
  kShapeInferContextGetAttribute = 269,
  kShapeInferContextSetOutputTypeShape = 270,
  kSetSymbolicDimensions = 271,
  kReadOpAttr = 272,
  kKernelContextParallelFor = 274,
};

using CreateStatus = OrtStatus* (*)(OrtErrorCode, const char*);
using CreateCustomOpDomain = OrtStatus* (*)(const char*, OrtCustomOpDomain**);
using CustomOpDomainAdd = OrtStatus* (*)(OrtCustomOpDomain*, const OrtCustomOp*);
using AddCustomOpDomain = OrtStatus* (*)(OrtSessionOptions*, OrtCustomOpDomain*);
using GetTensorMutableData = OrtStatus* (*)(OrtValue*, void**);
using CreateTensorTypeAndShapeInfo = OrtStatus* (*)(OrtTensorTypeAndShapeInfo**);
using SetTensorElementType = OrtStatus* (*)(OrtTensorTypeAndShapeInfo*, ONNXTensorElementDataType);
using SetDimensions = OrtStatus* (*)(OrtTensorTypeAndShapeInfo*, const std::int64_t*, std::size_t);
using GetTensorElementType = OrtStatus* (*)(const OrtTensorTypeAndShapeInfo*, ONNXTensorElementDataType*);
using GetDimensionsCount = OrtStatus* (*)(const OrtTensorTypeAndShapeInfo*, std::size_t*);
using GetDimensions = OrtStatus* (*)(const OrtTensorTypeAndShapeInfo*, std::int64_t*, std::size_t);
using GetSymbolicDimensions = OrtStatus* (*)(const OrtTensorTypeAndShapeInfo*, const char**, std::size_t);
using GetTensorTypeAndShape = OrtStatus* (*)(const OrtValue*, OrtTensorTypeAndShapeInfo**);
using KernelInfoGetAttributeInt64 = OrtStatus* (*)(const OrtKernelInfo*, const char*, std::int64_t*);
using KernelInfoGetAttributeString = OrtStatus* (*)(const OrtKernelInfo*, const char*, char*, std::size_t*);
using KernelContextGetInputCount = OrtStatus* (*)(const OrtKernelContext*, std::size_t*);
using KernelContextGetInput = OrtStatus* (*)(const OrtKernelContext*, std::size_t, const OrtValue**);
using KernelContextGetOutput = OrtStatus* (*)(OrtKernelContext*, std::size_t, const std::int64_t*, std::size_t,
                                              OrtValue**);
using ReleaseTensorTypeAndShapeInfo = void (*)(OrtTensorTypeAndShapeInfo*);
using KernelContextGetGpuComputeStream = OrtStatus* (*)(const OrtKernelContext*, void**);
using ShapeInferContextGetInputTypeShape = OrtStatus* (*)(const OrtShapeInferContext*, std::size_t,
                                                          OrtTensorTypeAndShapeInfo**);
using ShapeInferContextGetAttribute = OrtStatus* (*)(const OrtShapeInferContext*, const char*, const OrtOpAttr**);
using ShapeInferContextSetOutputTypeShape = OrtStatus* (*)(const OrtShapeInferContext*, std::size_t,
                                                           const OrtTensorTypeAndShapeInfo*);
using SetSymbolicDimensions = OrtStatus* (*)(OrtTensorTypeAndShapeInfo*, const char**, std::size_t);
using ReadOpAttr = OrtStatus* (*)(const OrtOpAttr*, OrtOpAttrType, void*, std::size_t, std::size_t*);
using KernelContextParallelFor = OrtStatus* (*)(const OrtKernelContext*, void (*)(void*, std::size_t), std::size_t,
                                                std::size_t, void*);

// The function in a slot.
template <typename Function>
Function slot(const OrtApi* api, Slot number) {
  return reinterpret_cast<Function const*>(api)[number];
}

}  // namespace graphpass::ort
