#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "qwen3fp4/formats/event_file.h"
#include "qwen3fp4/train/trainer.h"

namespace qf::cli {

struct TrainSample {
  std::string prompt, answer;
};

// What a run says while it goes on: a line a step on stderr, an object a step in the log, and the
// same as TensorBoard's events.
class TrainReport {
 public:
  struct Files {
    std::filesystem::path log;
    std::filesystem::path tensorboard;  // a folder; empty: none
  };
  // Appends to the log when the run goes on from a step before; else begins it anew.
  TrainReport(const Files& files, std::int64_t steps_done, std::int64_t steps);
  TrainReport(const TrainReport&) = delete;
  TrainReport& operator=(const TrainReport&) = delete;
  // Ends the line that step() left open.
  ~TrainReport();

  void step(const StepResult& result, std::int64_t memory_bytes);
  void evaluation(std::int64_t step, const BatchLoss& loss);
  void samples(std::int64_t step, const std::vector<TrainSample>& samples);
  // Any other sentence, on a line of its own.
  void note(const std::string& sentence);
  // Of this process's steps.
  [[nodiscard]] double tokens_per_second() const;

 private:
  using Clock = std::chrono::steady_clock;
  void end_line();
  void log_line(const std::string& json);

  std::string log_name_;
  std::ofstream log_;
  std::unique_ptr<EventFile> events_;  // nullptr: none
  std::int64_t steps_;
  std::int64_t steps_here_ = 0;
  std::int64_t tokens_here_ = 0;
  Clock::time_point start_ = Clock::now();
  Clock::time_point last_ = start_;
  bool terminal_;
  bool line_open_ = false;
};

}  // namespace qf::cli
