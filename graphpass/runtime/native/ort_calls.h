// Calls of onnxruntime's C ABI: its statuses as exceptions and back, shapes, inputs, outputs, and its thread pool.
#pragma once

#include <algorithm>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "ort_abi.h"

namespace graphpass::ort {

constexpr std::int64_t kChunk = 1 << 15;  // elements of one task on the session's thread pool

// Set when a session registers the library.
inline const OrtApi* api = nullptr;

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

inline Shape shape_in(const OrtTensorTypeAndShapeInfo* info) {
  std::size_t rank = 0;
  call<GetDimensionsCount>(kGetDimensionsCount, info, &rank);
  Shape shape(rank);
  call<GetDimensions>(kGetDimensions, info, shape.data(), rank);
  return shape;
}

inline std::string written(const Shape& shape) {
  std::string text = "[";
  for (std::size_t k = 0; k < shape.size(); ++k) text += (k ? ", " : "") + std::to_string(shape[k]);
  return text + "]";
}

inline std::int64_t product(const Shape& shape, std::size_t from = 0) {
  std::int64_t size = 1;
  for (std::size_t k = from; k < shape.size(); ++k) size *= shape[k];
  return size;
}

struct Input {
  Shape shape;
  const void* data = nullptr;
};

inline Input input(const OrtKernelContext* context, std::size_t index) {
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

inline void* output(OrtKernelContext* context, const Shape& shape) {
  OrtValue* value = nullptr;
  call<KernelContextGetOutput>(kKernelContextGetOutput, context, std::size_t{0}, shape.data(), shape.size(), &value);
  void* data = nullptr;
  call<GetTensorMutableData>(kGetTensorMutableData, value, &data);
  return data;
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

}  // namespace graphpass::ort
