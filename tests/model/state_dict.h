#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "qwen3fp4/formats/dat.h"
#include "qwen3fp4/model/packed_entries.h"
#include "qwen3fp4/model/qwen3_model.h"

namespace qf {

// A state dict in memory that tests bend out of shape, written to a file for each load.
class StateDict {
 public:
  struct Entry {
    std::string name;
    at::Tensor values;
    DType type;
  };

  static StateDict read(const std::filesystem::path& path) {
    const DatReader file(path);
    StateDict state;
    for (const TensorInfo& info : file.entries()) {
      state.entries_.push_back({info.name, load_float_tensor(file, info, info.shape), info.type});
    }
    return state;
  }

  void put(const std::string& name, const at::Tensor& values) {
    put(name, values, type_of(values));
  }
  void put(const std::string& name, const at::Tensor& values, DType type) {
    erase(name);
    entries_.push_back({name, values.contiguous(), type});
  }
  void erase(const std::string& name) {
    std::erase_if(entries_, [&](const Entry& entry) { return entry.name == name; });
  }
  void reverse() { std::ranges::reverse(entries_); }
  std::vector<Entry>& entries() { return entries_; }

  Qwen3Model load(const ModelConfig& config, const Backend& backend) const {
    const auto path = std::filesystem::temp_directory_path() /
                      fmt::format("qwen3fp4_state_dict_{}.dat", ::getpid());
    DatWriter writer(path, std::ssize(entries_));
    for (const Entry& entry : entries_) {
      writer.write(
          entry.name, entry.type, entry.values.sizes().vec(),
          {static_cast<const std::byte*>(entry.values.const_data_ptr()), entry.values.nbytes()});
    }
    writer.finish();
    const DatReader file(path);
    std::filesystem::remove(path);
    return Qwen3Model::load(config, file, backend);
  }

 private:
  static DType type_of(const at::Tensor& values) {
    switch (values.scalar_type()) {
      case at::kByte:
        return DType::kU8;
      case at::kHalf:
        return DType::kF16;
      case at::kBFloat16:
        return DType::kBF16;
      default:
        return DType::kF32;
    }
  }

  std::vector<Entry> entries_;
};

}  // namespace qf
