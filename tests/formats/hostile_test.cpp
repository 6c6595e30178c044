// Every truncation and thousands of seeded changes of a good file parse or are refused; nothing
// else.
#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "bytes.h"
#include "qwen3fp4/formats/dat.h"
#include "qwen3fp4/formats/gguf.h"
#include "qwen3fp4/formats/safetensors.h"
#include "qwen3fp4/formats/tensor_info.h"

namespace qf {
namespace {

template <class File>
void read_all(const ByteSource& source) {
  const File file(source);
  for (const TensorInfo& entry : file.entries()) {
    Bytes payload(static_cast<std::size_t>(entry.bytes));
    file.read(entry, payload);
  }
}

void read_gguf(const ByteSource& source) {
  const GgufFile file(source);
  for (const GgufTensor& tensor : file.tensors()) {
    std::vector<float> values(static_cast<std::size_t>(element_count(tensor.shape)));
    file.read_f32(tensor, values);
  }
}

struct Format {
  const char* name;
  void (*parse)(const ByteSource&);
};
void PrintTo(const Format& format, std::ostream* out) { *out << format.name; }

class Hostile : public ::testing::TestWithParam<Format> {
 protected:
  bool accepts(const Bytes& data) {
    const MemorySource source(data);
    return refusal([&] { GetParam().parse(source); }) == "accepted";
  }
  Bytes whole_ = read_bytes(kGoldenFormats / GetParam().name);
};

TEST_P(Hostile, EveryTruncationIsRefused) {
  ASSERT_TRUE(accepts(whole_));
  // All lengths of the headers, then a sample of the payload's.
  for (std::size_t size = 0; size < whole_.size(); size += size < 1200 ? 1 : 97) {
    EXPECT_FALSE(accepts({whole_.begin(), whole_.begin() + static_cast<std::ptrdiff_t>(size)}))
        << size;
  }
}

TEST_P(Hostile, ChangedBytesParseOrAreRefused) {
  std::mt19937 random(11);
  int accepted = 0;
  for (int i = 0; i < 3000; ++i) {
    Bytes data = whole_;
    const std::size_t head = std::min<std::size_t>(data.size(), 1200);
    for (std::uint32_t flips = 1 + random() % 4; flips > 0; --flips) {
      data[random() % head] = static_cast<std::byte>(random() & 0xFF);
    }
    accepted += accepts(data);
  }
  EXPECT_GT(accepted, 0);
  EXPECT_LT(accepted, 3000);
}

INSTANTIATE_TEST_SUITE_P(Formats, Hostile,
                         ::testing::Values(Format{"torchsharp.dat", read_all<DatReader>},
                                           Format{"types.safetensors", read_all<SafetensorsFile>},
                                           Format{"types.gguf", read_gguf}));

}  // namespace
}  // namespace qf
