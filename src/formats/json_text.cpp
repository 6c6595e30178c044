#include "qwen3fp4/formats/json_text.h"

#include <set>
#include <string_view>
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
    // Behind the library's "[json.exception.parse_error.101] ".
    std::string_view message = error.what();
    if (const auto end = message.find("] "); end != message.npos) message.remove_prefix(end + 2);
    fail(ExitCode::kUnreadable, "{}: expected JSON: {}", what, message);
  }
}

std::string optional_text(const nlohmann::json& object, const char* key, const std::string& absent,
                          const std::string& what) {
  const auto found = object.find(key);
  if (found == object.end()) return absent;
  QF_CHECK(found->is_string(), "{}: expected a text '{}', found {}", what, key, found->dump());
  return found->get<std::string>();
}

bool optional_flag(const nlohmann::json& object, const char* key, bool absent,
                   const std::string& what) {
  const auto found = object.find(key);
  if (found == object.end()) return absent;
  QF_CHECK(found->is_boolean(), "{}: expected '{}' to be true or false, found {}", what, key,
           found->dump());
  return found->get<bool>();
}

}  // namespace qf
