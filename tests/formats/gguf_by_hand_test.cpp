// GGUF files made by hand, a few bytes each: every field that a hostile or unusual one can bend.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <string_view>

#include "bytes.h"
#include "qwen3fp4/formats/gguf.h"
#include "qwen3fp4/text/tokenizer.h"

namespace qf {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class Gguf {
 public:
  Gguf(std::uint64_t tensors, std::uint64_t values, std::uint64_t version = 3) {
    raw("GGUF").number(version, 4).number(tensors, 8).number(values, 8);
  }
  Gguf& raw(std::string_view text) {
    const auto view = std::as_bytes(std::span(text));
    bytes_.insert(bytes_.end(), view.begin(), view.end());
    return *this;
  }
  Gguf& number(std::uint64_t value, int size) {
    for (int i = 0; i < size; ++i) bytes_.push_back(static_cast<std::byte>(value >> (8 * i)));
    return *this;
  }
  Gguf& text(std::string_view value) { return number(value.size(), 8).raw(value); }
  Gguf& text_value(std::string_view key, std::string_view value) {
    return text(key).number(8, 4).text(value);
  }
  // An array of strings.
  Gguf& texts(std::string_view key, std::initializer_list<std::string_view> values) {
    text(key).number(9, 4).number(8, 4).number(values.size(), 8);
    for (const std::string_view value : values) text(value);
    return *this;
  }
  Gguf& tensor(std::string_view name, std::initializer_list<std::uint64_t> dims, std::uint64_t type,
               std::uint64_t offset) {
    text(name).number(dims.size(), 4);
    for (const std::uint64_t dim : dims) number(dim, 8);
    return number(type, 4).number(offset, 8);
  }
  // Pads to `alignment`, then `size` bytes of data.
  Gguf& data(std::size_t alignment, std::size_t size) {
    bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment + size, std::byte{1});
    return *this;
  }
  [[nodiscard]] const Bytes& bytes() const { return bytes_; }

 private:
  Bytes bytes_;
};

std::string refused(const Gguf& gguf) {
  return refusal([&] {
    const MemorySource source(gguf.bytes());
    const GgufFile file(source);
  });
}

constexpr std::uint64_t kHuge = std::uint64_t{1} << 62;

TEST(HandMadeGguf, Tensors) {
  EXPECT_EQ(refused(Gguf(1, 0).tensor("w", {2}, 0, 0).data(32, 8)), "accepted");
  EXPECT_EQ(refused(Gguf(1, 0, 2).tensor("w", {2}, 0, 0).data(32, 8)), "accepted");
  EXPECT_THAT(refused(Gguf(1, 0, 1).tensor("w", {2}, 0, 0).data(32, 8)), HasSubstr("found 1"));
  EXPECT_THAT(refused(Gguf(1, 0).tensor("w", {2}, 0, 0).data(32, 7)), HasSubstr("'w': 8 bytes"));
  EXPECT_THAT(refused(Gguf(1, 0).tensor("w", {2}, 0, 32).data(32, 8)), HasSubstr("at offset 32"));
  EXPECT_THAT(refused(Gguf(1, 0).tensor("w", {2}, 0, 4).data(32, 80)), HasSubstr("at offset 4"));
  EXPECT_THAT(refused(Gguf(1, 0).tensor("w", {2}, 0, ~31ULL).data(32, 8)), HasSubstr("offset -32"));
  EXPECT_THAT(refused(Gguf(1, 0).tensor("w", {2}, 12, 0).data(32, 8)),
              AllOf(HasSubstr("'w'"), HasSubstr("type 12 is not supported")));
  EXPECT_THAT(refused(Gguf(1, 0).tensor("w", {33}, 2, 0).data(32, 80)),
              HasSubstr("multiple of 32 elements for Q4_0, found shape [33]"));
  EXPECT_THAT(refused(Gguf(1, 0).tensor("w", {kHuge, 4}, 0, 0).data(32, 8)), HasSubstr("'w'"));
  EXPECT_THAT(refused(Gguf(1, 0).tensor("w", {~0ULL}, 0, 0).data(32, 8)), HasSubstr("63 bits"));
  EXPECT_THAT(refused(Gguf(1, 0).tensor("w", {1, 1, 1, 1, 1}, 0, 0).data(32, 8)),
              HasSubstr("at most 4 dimensions, found 5"));
  EXPECT_THAT(refused(Gguf(2, 0).tensor("w", {2}, 0, 0).tensor("w", {2}, 0, 0).data(32, 8)),
              HasSubstr("twice"));
  EXPECT_THAT(refused(Gguf(1, 0).tensor("\xFF", {2}, 0, 0).data(32, 8)), HasSubstr("UTF-8"));
}

TEST(HandMadeGguf, Metadata) {
  EXPECT_EQ(refused(Gguf(0, 1).text_value("k", "v")), "accepted");
  EXPECT_THAT(refused(Gguf(0, 2).text_value("k", "v").text_value("k", "v")),
              AllOf(HasSubstr("'k'"), HasSubstr("twice")));
  EXPECT_THAT(refused(Gguf(0, 1).text("k").number(13, 4).number(0, 8)),
              AllOf(HasSubstr("'k'"), HasSubstr("found 13")));
  EXPECT_THAT(refused(Gguf(0, 1).text("k").number(9, 4).number(9, 4).number(0, 8)),
              HasSubstr("arrays of arrays"));
  for (const int type : {0, 4, 8, 12}) {
    EXPECT_THAT(refused(Gguf(0, 1)
                            .text("k")
                            .number(9, 4)
                            .number(static_cast<unsigned>(type), 4)
                            .number(kHuge, 8)),
                HasSubstr("does not fit"));
  }
  EXPECT_THAT(refused(Gguf(0, 1).text("k").number(8, 4).number(kHuge, 8)),
              HasSubstr("found a length of 4611686018427387904"));
  EXPECT_THAT(refused(Gguf(kHuge, 0)), HasSubstr("do not fit"));
  EXPECT_THAT(refused(Gguf(0, kHuge)), HasSubstr("do not fit"));
}

TEST(HandMadeGguf, TheAlignmentCounts) {
  const auto aligned = [](std::uint64_t alignment) {
    Gguf out(1, 1);
    out.text("general.alignment").number(4, 4).number(alignment, 4);
    return out.tensor("w", {2}, 0, 0).data(128, 8);
  };
  const Gguf good = aligned(128);
  const MemorySource source(good.bytes());
  const GgufFile file(source);
  EXPECT_EQ(file.find("w")->offset, 128);
  for (const std::uint64_t bad : {0U, 3U, 1U << 31}) {
    EXPECT_THAT(refused(aligned(bad)), HasSubstr("power of two")) << bad;
  }
}

// The header is read in windows of 64 KiB: values lie across their borders, one is longer than
// them.
TEST(HandMadeGguf, HeadersOfManyWindowsReadWhole) {
  constexpr int kValues = 3000;
  const auto value = [](int i) {
    return std::string(i == 1500 ? 100000U : static_cast<unsigned>(i % 97),
                       static_cast<char>('a' + i % 26));
  };
  Gguf gguf(1, kValues);
  for (int i = 0; i < kValues; ++i) gguf.text_value(fmt::format("key.{}", i), value(i));
  gguf.tensor("w", {2}, 0, 0).data(32, 8);
  const MemorySource source(gguf.bytes());
  const GgufFile file(source);
  for (int i = 0; i < kValues; ++i) ASSERT_EQ(file.text(fmt::format("key.{}", i)), value(i));
  EXPECT_NE(file.find("w"), nullptr);
}

// GGUF's strings may be any bytes, tokenizer.json's may not.
TEST(HandMadeGguf, TokensThatAreNoText) {
  const auto tokenizer = [](std::string_view token, std::string_view chat) {
    Gguf out(0, 6);
    out.text_value("tokenizer.ggml.model", "gpt2").text_value("tokenizer.ggml.pre", "qwen2");
    out.texts("tokenizer.ggml.tokens", {token, "b"}).texts("tokenizer.ggml.merges", {});
    out.text("tokenizer.ggml.token_type").number(9, 4).number(5, 4).number(2, 8);
    out.number(1, 4).number(1, 4).text_value("tokenizer.chat_template", chat);
    return refusal([&] {
      const MemorySource source(out.bytes());
      const GgufFile file(source);
      (void)Tokenizer::from_json(tokenizer_json_from_gguf(file), "t");
      (void)tokenizer_config_json_from_gguf(file);
    });
  };
  EXPECT_EQ(tokenizer("a", "c"), "accepted");
  EXPECT_THAT(tokenizer("\xFF", "c"), HasSubstr("expected UTF-8"));
  EXPECT_THAT(tokenizer("a", "\xFF"), HasSubstr("expected UTF-8"));
  EXPECT_THAT(tokenizer("b", "c"), HasSubstr("'b' is there twice"));
}

}  // namespace
}  // namespace qf
