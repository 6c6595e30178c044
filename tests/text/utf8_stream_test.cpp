#include <gtest/gtest.h>

#include <string>

#include "qwen3fp4/formats/utf8.h"
#include "qwen3fp4/text/tokenizer.h"

namespace qf {
namespace {

TEST(Utf8Stream, EmitsWholeCharactersWhereverTheBytesAreCut) {
  const std::string text = "a é 你 🛸 \U0010FFFF z";
  for (std::size_t step = 1; step <= text.size(); ++step) {
    Utf8Stream stream;
    std::string out;
    for (std::size_t at = 0; at < text.size(); at += step) {
      const std::string part = stream.push(text.substr(at, step));
      EXPECT_TRUE(is_valid_utf8(part)) << "step " << step;
      out += part;
    }
    EXPECT_EQ(out + stream.finish(), text) << "step " << step;
  }
}

TEST(Utf8Stream, UnfinishedCharacterAtTheEndBecomesOneReplacement) {
  Utf8Stream stream;
  EXPECT_EQ(stream.push("x\xF0\x9F\x9B"), "x");
  EXPECT_EQ(stream.finish(), "\uFFFD");
  EXPECT_EQ(stream.finish(), "");
}

// Python: bytes.decode("utf-8", errors="replace").
TEST(ReplaceInvalidUtf8, EveryMaximalSubpartIsOneReplacement) {
  EXPECT_EQ(replace_invalid_utf8("a\x80z"), "a\uFFFDz");
  EXPECT_EQ(replace_invalid_utf8("\xE4\xBD"
                                 "a"),
            "\uFFFDa");
  EXPECT_EQ(replace_invalid_utf8("\xE0\x80\x80"), "\uFFFD\uFFFD\uFFFD");            // overlong
  EXPECT_EQ(replace_invalid_utf8("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");            // surrogate
  EXPECT_EQ(replace_invalid_utf8("\xF4\x90\x80\x80"), "\uFFFD\uFFFD\uFFFD\uFFFD");  // > U+10FFFF
  EXPECT_EQ(replace_invalid_utf8("\xF0\x9F\x9B"), "\uFFFD");
  EXPECT_FALSE(is_valid_utf8("\xC0\xAF"));
  EXPECT_TRUE(is_valid_utf8("\xF4\x8F\xBF\xBF"));
}

}  // namespace
}  // namespace qf
