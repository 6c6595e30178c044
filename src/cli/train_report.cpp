#include "train_report.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "qwen3fp4/base/error.h"

namespace qf::cli {
namespace {

double seconds(std::chrono::steady_clock::duration time) {
  return std::chrono::duration<double>(time).count();
}

std::string left_text(double time) {
  const auto whole = static_cast<std::int64_t>(time + 0.5);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

nlohmann::ordered_json to_json(const BatchLoss& loss) {
  return {{"loss", loss.loss},
          {"cross_entropy", loss.cross_entropy},
          {"kl", loss.kl},
          {"token_targets", loss.token_targets},
          {"teacher_targets", loss.teacher_targets},
          {"tokens", loss.tokens}};
}

}  // namespace

TrainReport::TrainReport(const std::filesystem::path& log, std::int64_t steps_done,
                         std::int64_t steps)
    : log_name_(log.string()),
      log_(log, steps_done > 0 ? std::ios::app : std::ios::trunc),
      steps_(steps),
      terminal_(::isatty(STDERR_FILENO) == 1) {
  QF_CHECK(log_.is_open(), "{}: cannot be written (--log)", log_name_);
}

TrainReport::~TrainReport() { end_line(); }

void TrainReport::end_line() {
  if (line_open_) std::fputc('\n', stderr);
  line_open_ = false;
}

void TrainReport::log_line(const std::string& json) {
  log_ << json << '\n' << std::flush;
  QF_CHECK(log_.good(), "{}: cannot be written (--log)", log_name_);
}

void TrainReport::step(const StepResult& result, std::int64_t memory_bytes) {
  const auto now = Clock::now();
  const double took = seconds(now - last_);
  last_ = now;
  ++steps_here_;
  tokens_here_ += result.batch.tokens;
  const double speed = static_cast<double>(result.batch.tokens) / took;
  const double left = seconds(now - start_) / static_cast<double>(steps_here_) *
                      static_cast<double>(steps_ - result.step);
  const std::string kl =
      result.batch.teacher_targets > 0 ? fmt::format(" kl {:.4f}", result.batch.kl) : "";
  fmt::print(stderr,
             "{}step {}/{} loss {:.4f}{} lr {:.2e} |g| {:.3f} {:.0f} tok/s {:.2f} GB {} left{}",
             terminal_ ? "\r\x1b[K" : "", result.step, steps_, result.batch.loss, kl,
             result.learning_rate, result.gradient_norm, speed,
             static_cast<double>(memory_bytes) / 1e9, left_text(left), terminal_ ? "" : "\n");
  std::fflush(stderr);
  line_open_ = terminal_;

  auto json = to_json(result.batch);
  json["step"] = result.step;
  json["lr"] = result.learning_rate;
  json["gradient_norm"] = result.gradient_norm;
  json["gradient_scale"] = result.gradient_scale;
  json["seconds"] = took;
  json["tokens_per_second"] = speed;
  json["memory_peak_bytes"] = memory_bytes;
  log_line(json.dump());
}

void TrainReport::evaluation(std::int64_t step, const BatchLoss& loss) {
  const std::string kl = loss.teacher_targets > 0 ? fmt::format(", KL {:.4f}", loss.kl) : "";
  note(fmt::format("step {}: held-out loss {:.4f}{} ({} targets)", step, loss.loss, kl,
                   loss.token_targets + loss.teacher_targets));
  log_line(nlohmann::ordered_json{{"step", step}, {"held_out", to_json(loss)}}.dump());
  last_ = Clock::now();  // not part of the next step's speed
}

void TrainReport::note(const std::string& sentence) {
  end_line();
  fmt::print(stderr, "{}\n", sentence);
}

double TrainReport::tokens_per_second() const {
  const double time = seconds(last_ - start_);
  return time > 0 ? static_cast<double>(tokens_here_) / time : 0;
}

}  // namespace qf::cli
