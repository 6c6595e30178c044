#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

// Reads what tools/make_quant_fixtures.py wrote: records of a u64 byte count and the bytes.
namespace qf {

class GoldenFile {
 public:
  explicit GoldenFile(const std::string& name)
      : stream_(std::string(QF_TEST_DIR) + "/golden/quant/" + name, std::ios::binary) {
    if (!stream_) throw std::runtime_error("cannot read the fixture " + name);
  }
  [[nodiscard]] bool at_end() { return stream_.peek() == std::ifstream::traits_type::eof(); }

  template <class T>
  [[nodiscard]] std::vector<T> read() {
    std::uint64_t bytes = 0;
    stream_.read(reinterpret_cast<char*>(&bytes), sizeof(bytes));
    std::vector<T> values(bytes / sizeof(T));
    stream_.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(bytes));
    if (!stream_ || bytes % sizeof(T) != 0) throw std::runtime_error("broken fixture");
    return values;
  }
  [[nodiscard]] std::string read_text() {
    const auto text = read<char>();
    return {text.begin(), text.end()};
  }

 private:
  std::ifstream stream_;
};

struct GoldenNvfp4 {
  std::string name;
  std::int64_t rows, cols;
  std::vector<float> weight;
  float global_scale;
  std::vector<std::uint8_t> codes, scales;                // two-level
  std::vector<std::uint8_t> single_codes, single_scales;  // single-level
  std::vector<float> single_dequantised;
};

struct GoldenNf4 {
  std::string name;
  std::int64_t rows, cols;
  std::vector<float> weight;
  std::vector<std::uint8_t> codes;
  std::vector<float> absmax, dequantised;
};

inline std::vector<GoldenNvfp4> golden_nvfp4() {
  GoldenFile file("nvfp4.bin");
  std::vector<GoldenNvfp4> cases;
  while (!file.at_end()) {
    GoldenNvfp4 c;
    c.name = file.read_text();
    const auto shape = file.read<std::int64_t>();
    c.rows = shape.at(0);
    c.cols = shape.at(1);
    c.weight = file.read<float>();
    c.global_scale = file.read<float>().at(0);
    c.codes = file.read<std::uint8_t>();
    c.scales = file.read<std::uint8_t>();
    c.single_codes = file.read<std::uint8_t>();
    c.single_scales = file.read<std::uint8_t>();
    c.single_dequantised = file.read<float>();
    cases.push_back(std::move(c));
  }
  return cases;
}

inline std::vector<GoldenNf4> golden_nf4() {
  GoldenFile file("nf4.bin");
  std::vector<GoldenNf4> cases;
  while (!file.at_end()) {
    GoldenNf4 c;
    c.name = file.read_text();
    const auto shape = file.read<std::int64_t>();
    c.rows = shape.at(0);
    c.cols = shape.at(1);
    c.weight = file.read<float>();
    c.codes = file.read<std::uint8_t>();
    c.absmax = file.read<float>();
    c.dequantised = file.read<float>();
    cases.push_back(std::move(c));
  }
  return cases;
}

// Bits, so that -0 and NaN count.
inline std::vector<std::uint32_t> bits_of(const std::vector<float>& values) {
  std::vector<std::uint32_t> bits(values.size());
  if (!values.empty()) std::memcpy(bits.data(), values.data(), values.size() * sizeof(float));
  return bits;
}

}  // namespace qf
