#include "train_report.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "app.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/formats/utf8.h"

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

EventFile::Scalars loss_scalars(const std::string& group, const BatchLoss& loss) {
  EventFile::Scalars scalars{{group + "/loss", loss.loss}};
  if (loss.token_targets > 0) scalars.emplace_back(group + "/cross_entropy", loss.cross_entropy);
  if (loss.teacher_targets > 0) scalars.emplace_back(group + "/kl", loss.kl);
  return scalars;
}

}  // namespace

TrainReport::TrainReport(const Files& files, std::int64_t steps_done, std::int64_t steps)
    : log_name_(files.log.string()),
      log_(files.log, steps_done > 0 ? std::ios::app : std::ios::trunc),
      steps_(steps),
      terminal_(::isatty(STDERR_FILENO) == 1) {
  QF_CHECK(log_.is_open(), "{}: cannot be written (--log)", log_name_);
  if (!files.tensorboard.empty()) {
    events_ = std::make_unique<EventFile>(files.tensorboard, steps_done + 1);
  }
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
  if (events_ == nullptr) return;
  auto scalars = loss_scalars("train", result.batch);
  scalars.emplace_back("train/lr", result.learning_rate);
  scalars.emplace_back("train/gradient_norm", result.gradient_norm);
  scalars.emplace_back("train/tokens_per_second", speed);
  scalars.emplace_back("train/memory_peak_gb", static_cast<double>(memory_bytes) / 1e9);
  events_->scalars(result.step, scalars);
}

void TrainReport::evaluation(std::int64_t step, const BatchLoss& loss) {
  const std::string kl = loss.teacher_targets > 0 ? fmt::format(", KL {:.4f}", loss.kl) : "";
  note(fmt::format("step {}: held-out loss {:.4f}{} ({} targets)", step, loss.loss, kl,
                   loss.token_targets + loss.teacher_targets));
  log_line(nlohmann::ordered_json{{"step", step}, {"held_out", to_json(loss)}}.dump());
  if (events_ != nullptr) events_->scalars(step, loss_scalars("held_out", loss));
  last_ = Clock::now();  // not part of the next step's speed
}

void TrainReport::samples(std::int64_t step, const std::vector<TrainSample>& samples) {
  auto json = nlohmann::ordered_json::array();
  for (const TrainSample& sample : samples) {
    note(
        fmt::format("step {}: {} -> {}", step, printable(sample.prompt), printable(sample.answer)));
    json.push_back({{"prompt", sample.prompt}, {"answer", sample.answer}});
    if (events_ != nullptr) {
      events_->text(step, "sample/" + sample.prompt, replace_invalid_utf8(sample.answer));
    }
  }
  constexpr auto kReplace = nlohmann::ordered_json::error_handler_t::replace;
  log_line(
      nlohmann::ordered_json{{"step", step}, {"samples", json}}.dump(-1, ' ', false, kReplace));
  last_ = Clock::now();
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
