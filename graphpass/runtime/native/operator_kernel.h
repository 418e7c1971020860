// What one node computes: its operator, its attributes, and the kernels that they choose.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels.h"
#include "ort_calls.h"

namespace graphpass::ort {

enum class Kind { neuron, count, train, mean, repeat, threshold, threshold_train, blocked, blocked_sum, look_up };

constexpr const char* kOperatorNames[] = {"ParallelNeuron",  "ParallelNeuronCount",  "ParallelNeuronTrain",
                                          "TimeMean",        "TimeRepeat",           "ThresholdNeuron",
                                          "ThresholdNeuronTrain", "BlockedNeuron",   "BlockedNeuronOfSum",   "LookUp"};
constexpr std::size_t kInputs[] = {5, 3, 3, 1, 1, 5, 3, 5, 6, 2};
constexpr bool is_train(Kind kind) { return kind == Kind::train || kind == Kind::threshold_train; }
constexpr bool has_every(Kind kind) { return kind == Kind::threshold || kind == Kind::threshold_train; }
constexpr bool is_blocked(Kind kind) { return kind == Kind::blocked || kind == Kind::blocked_sum; }

struct Kernel {
  Kind kind;
  Type type;
  bool host;
  float largest = 0;
  Steps steps;
  std::int64_t block = 1;  // of a blocked neuron
  std::int64_t after = 0;  // axes behind the channels of a look-up

  const char* name() const { return kOperatorNames[static_cast<int>(kind)]; }
  void compute(OrtKernelContext* context) const;

 private:
  void compute_blocked(OrtKernelContext* context, const Input& x) const;
  void compute_look_up(OrtKernelContext* context, const Input& codes) const;
};

// The kernel of a node, from its attributes. Throws std::invalid_argument for those that no operator has.
Kernel kernel_of(Kind kind, Type type, bool host, const OrtKernelInfo* info);

}  // namespace graphpass::ort
