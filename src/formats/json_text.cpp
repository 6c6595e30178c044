#include "qwen3fp4/formats/json_text.h"

#include <set>
#include <vector>

#include "qwen3fp4/base/error.h"

namespace qf {

nlohmann::json parse_json(std::string_view text, const std::string& what) {
  using Json = nlohmann::json;
  constexpr int kDeepest = 64;
  std::vector<std::set<std::string>> keys;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
    QF_CHECK(depth <= kDeepest, "{}: JSON nested deeper than {} levels", what, kDeepest);
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key) {
      const bool fresh = keys.back().insert(value.get<std::string>()).second;
      QF_CHECK(fresh, "{}: JSON key {} is there twice", what, value.dump());
    }
    return true;
  };
  try {
    return Json::parse(text, watch);
  } catch (const Json::exception& error) {
    fail(ExitCode::kUnreadable, "{}: expected JSON: {}", what, error.what());
  }
}

}  // namespace qf
