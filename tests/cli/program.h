#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

#include "../run/tiny_model.h"

namespace qf::test {

struct Finished {
  int exit_code = -1;  // 128 + the signal that killed it, as a shell says it
  std::string out;
  std::string err;
};

// The built program, running; its stdin is `input`, its working folder an empty one.
class Program {
 public:
  explicit Program(const std::vector<std::string>& arguments, const std::string& input = "");
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  // Kills it when nobody waited.
  ~Program();

  // What stdout holds so far.
  [[nodiscard]] std::string out_so_far() const;
  void send(int signal) const;
  [[nodiscard]] Finished wait();

 private:
  TemporaryFolder folder_;
  pid_t process_ = -1;
};

[[nodiscard]] Finished run_program(const std::vector<std::string>& arguments,
                                   const std::string& input = "");

}  // namespace qf::test
