#include <cerrno>
#include <cstdio>
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

}  // namespace qf::cli
