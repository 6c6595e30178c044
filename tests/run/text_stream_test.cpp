#include "qwen3fp4/run/text_stream.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "qwen3fp4/base/error.h"

namespace qf {
namespace {

TEST(TextStream, ShowsTextBeforeTheStopStringThatIsCompleteFirst) {
  TextStream text({"later", "on", "o on"});
  EXPECT_EQ(text.push("and so on and later"), "and s");
  EXPECT_TRUE(text.stopped());
  EXPECT_EQ(text.push("more"), "");
  EXPECT_EQ(text.finish(), "");
}

TEST(TextStream, RefusesAnEmptyStopString) { EXPECT_THROW(TextStream({"a", ""}), Error); }

TEST(TextStream, HoldsBackOnlyWhatMayBeginAStopString) {
  TextStream text({"aab"});
  EXPECT_EQ(text.push("xa"), "x");
  EXPECT_EQ(text.push("a"), "");
  EXPECT_EQ(text.push("a"), "a");  // "aa" may still go on with "b"
  EXPECT_EQ(text.finish(), "aa");
  EXPECT_FALSE(text.stopped());
}

// The definition: grow the text until it ends in a stop string; show what stands before that.
std::string before_stop(const std::string& whole, const std::vector<std::string>& stops) {
  for (std::size_t length = 1; length <= whole.size(); ++length) {
    const auto grown = whole.substr(0, length);
    std::size_t longest = 0;
    for (const auto& stop : stops) {
      if (grown.ends_with(stop)) longest = std::max(longest, stop.size());
    }
    if (longest > 0) return grown.substr(0, length - longest);
  }
  return whole;
}

TEST(TextStream, EqualsTheDefinitionForEverySplit) {
  std::mt19937 random(5);
  const auto below = [&](std::size_t count) -> std::size_t { return random() % count; };
  const std::vector<std::string> alphabet{"a", "b", "\xC3\xA9", "\xE2\x82\xAC"};
  for (int round = 0; round < 2000; ++round) {
    const auto word = [&](std::size_t length) {
      std::string made;
      for (std::size_t i = 0; i < length; ++i) made += alphabet[below(4)];
      return made;
    };
    const std::vector<std::string> stops{word(1 + below(3)), word(2 + below(4))};
    const std::string whole = word(below(20));
    const std::string expected = before_stop(whole, stops);
    TextStream text(stops);
    std::string shown;
    for (std::size_t at = 0; at < whole.size();) {
      const std::size_t count = 1 + below(4);
      shown += text.push(std::string_view(whole).substr(at, count));
      at += count;
      // Never more than what is before the stop string, and always whole characters.
      ASSERT_TRUE(expected.starts_with(shown));
      ASSERT_TRUE(shown.size() == expected.size() ||
                  (static_cast<unsigned char>(expected[shown.size()]) & 0xC0U) != 0x80U);
    }
    shown += text.finish();
    ASSERT_EQ(shown, expected);
    ASSERT_EQ(text.stopped(), expected.size() < whole.size());
  }
}

}  // namespace
}  // namespace qf
