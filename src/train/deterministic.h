#pragma once

#include <ATen/Context.h>

namespace qf {

// While it lives, libtorch's flash attention backward and index_add add in a fixed order. Not for
// longer: the setting also makes other operations refuse or fill their results first.
class DeterministicOrder {
 public:
  DeterministicOrder()
      : on_(context().deterministicAlgorithms()),
        warn_(context().deterministicAlgorithmsWarnOnly()),
        fill_(context().deterministicFillUninitializedMemory()) {
    context().setDeterministicAlgorithms(true, /*warn_only=*/false);
    context().setDeterministicFillUninitializedMemory(false);
  }
  DeterministicOrder(const DeterministicOrder&) = delete;
  DeterministicOrder& operator=(const DeterministicOrder&) = delete;
  ~DeterministicOrder() {
    context().setDeterministicAlgorithms(on_, warn_);
    context().setDeterministicFillUninitializedMemory(fill_);
  }

 private:
  static at::Context& context() { return at::globalContext(); }
  bool on_, warn_, fill_;
};

}  // namespace qf
