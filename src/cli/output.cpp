#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <string>
#include <system_error>

#include "app.h"
#include "qwen3fp4/base/error.h"

namespace qf::cli {

void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    fail(ExitCode::kCheckFailed, "stdout: cannot write the result: {}",
         std::generic_category().message(errno));
  }
}

std::string printable(std::string text) {
  std::replace_if(
      text.begin(), text.end(),
      [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }, '?');
  return text;
}

std::map<std::string, std::string> parse_defines(const std::vector<std::string>& defines) {
  std::map<std::string, std::string> values;
  for (const std::string& define : defines) {
    const std::size_t equals = define.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == define.size()) {
      fail(ExitCode::kUsage, "--define: expected KEY=VALUE, found '{}'", define);
    }
    values[define.substr(0, equals)] = define.substr(equals + 1);
  }
  return values;
}

}  // namespace qf::cli
