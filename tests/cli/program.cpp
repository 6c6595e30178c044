#include "program.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <system_error>

#include "qwen3fp4/base/file.h"

namespace qf::test {

Program::Program(const std::vector<std::string>& arguments, const std::string& input) {
  const auto file = [&](const char* name) { return (folder_.path() / name).string(); };
  write_text_file(file("in"), input);
  std::filesystem::create_directory(file("work"));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  constexpr int kCreate = O_WRONLY | O_CREAT | O_TRUNC;
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, file("in").c_str(), O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, file("out").c_str(), kCreate, 0600);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, file("err").c_str(), kCreate, 0600);
  posix_spawn_file_actions_addchdir_np(&actions, file("work").c_str());
  std::vector<std::string> words{QF_PROGRAM};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const int status = posix_spawn(&process_, QF_PROGRAM, &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (status != 0) throw std::system_error(status, std::generic_category(), QF_PROGRAM);
}

Program::~Program() {
  if (process_ < 0) return;
  send(SIGKILL);
  (void)wait();
}

std::string Program::out_so_far() const {
  const auto out = folder_.path() / "out";
  return std::filesystem::exists(out) ? read_text_file(out) : "";
}

void Program::send(int signal) const { ::kill(process_, signal); }

Finished Program::wait() {
  int status = 0;
  if (::waitpid(process_, &status, 0) < 0) {
    throw std::system_error(errno, std::generic_category(), "waitpid");
  }
  process_ = -1;
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
          read_text_file(folder_.path() / "out"), read_text_file(folder_.path() / "err")};
}

Finished run_program(const std::vector<std::string>& arguments, const std::string& input) {
  return Program(arguments, input).wait();
}

}  // namespace qf::test
