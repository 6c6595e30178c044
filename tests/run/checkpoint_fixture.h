#pragma once

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/formats/dat.h"
#include "qwen3fp4/formats/safetensors.h"
#include "qwen3fp4/run/checkpoint_source.h"

namespace qf::test {

namespace fs = std::filesystem;

inline const fs::path kGolden = fs::path(QF_TEST_DIR) / "golden" / "run";

// A folder of its own for each test, removed after it.
class FolderTest : public testing::Test {
 protected:
  FolderTest() {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    std::string name =
        fmt::format("qf_{}_{}_{}", ::getpid(), info->test_suite_name(), info->name());
    std::replace(name.begin(), name.end(), '/', '_');
    folder_ = fs::path(testing::TempDir()) / name;
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~FolderTest() override { fs::remove_all(folder_); }

  // Names directly in the test's folder, hidden ones included, sorted.
  [[nodiscard]] std::vector<std::string> listing() const {
    std::vector<std::string> names;
    for (const auto& item : fs::directory_iterator(folder_)) {
      names.push_back(item.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  fs::path folder_;
};

using Tensors = std::map<std::string, at::Tensor>;

inline DType dtype_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return DType::kF32;
    case at::kHalf:
      return DType::kF16;
    case at::kBFloat16:
      return DType::kBF16;
    case at::kLong:
      return DType::kI64;
    case at::kByte:
      return DType::kU8;
    default:
      throw std::logic_error("dtype_of: add the type");
  }
}

// Writes a single-file Hugging Face folder.
inline void write_checkpoint(const fs::path& folder, const std::string& config_json,
                             const Tensors& tensors) {
  fs::create_directories(folder);
  write_text_file(folder / "config.json", config_json);
  std::vector<NamedBytes> entries;
  for (const auto& [name, tensor] : tensors) {
    entries.push_back({name,
                       dtype_of(tensor),
                       tensor.sizes().vec(),
                       {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()}});
  }
  write_safetensors(folder / "model.safetensors", entries);
}

inline Tensors read_all(const CheckpointSource& source) {
  Tensors tensors;
  for (const auto& tensor : source.tensors()) tensors[tensor.name] = source.read_f32(tensor);
  return tensors;
}

inline std::vector<TensorInfo> dat_entries(const fs::path& file) {
  return DatReader(file).entries();
}

// f32 tensors of tests/golden/run/llama, to be changed and written elsewhere.
inline Tensors llama_tensors() { return read_all(*open_checkpoint(kGolden / "llama")); }
inline std::string llama_config() { return read_text_file(kGolden / "llama" / "config.json"); }

// Same type, shape and bits (NaN included).
inline bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() &&
         std::memcmp(a.contiguous().const_data_ptr(), b.contiguous().const_data_ptr(),
                     a.nbytes()) == 0;
}

inline void expect_error(ExitCode code, const std::string& words,
                         const std::function<void()>& action) {
  try {
    action();
    ADD_FAILURE() << "no error; expected one with: " << words;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_THAT(error.what(), testing::HasSubstr(words));
    EXPECT_THAT(error.what(), testing::Not(testing::HasSubstr("\n")));
  }
}

}  // namespace qf::test
