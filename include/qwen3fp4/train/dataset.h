#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qwen3fp4/text/chat_template.h"
#include "qwen3fp4/text/tokenizer.h"
#include "qwen3fp4/train/batch.h"
#include "qwen3fp4/train/data_file.h"

namespace qf {

// How often conversations without a system message of their own get which one; any scale.
struct SystemMix {
  double template_default = 1;  // what the chat template inserts (nothing for Qwen3)
  double none = 0;              // no system turn
  double empty = 0;             // a system turn without text
  double other = 0;             // one of `others`
  std::vector<std::string> others = {};
};

// Short and neutral ones, for SystemMix::others.
[[nodiscard]] std::span<const std::string_view> neutral_system_prompts();

// Examples that are drawn from alike.
struct DataPart {
  std::string name;  // for messages: the file
  std::vector<Example> examples;
  double share = 1;  // of all sequences drawn, relative to the other parts'
  TargetKind kind = TargetKind::kTokens;
};

struct DataFile {
  std::filesystem::path path;
  double weight = 1;  // its examples come this many times as often as one of weight 1
  TargetKind kind = TargetKind::kTokens;
};
// "file.tsv" or "file.tsv:2.5" (weight).
[[nodiscard]] DataFile parse_data_file(std::string_view text, TargetKind kind);

// A part a file, of one side of the split; files without an example there are left out. A key in
// reading.defines that no file declares is refused.
[[nodiscard]] std::vector<DataPart> read_parts(std::span<const DataFile> files,
                                               const DataReading& reading, DataSplit split);

// Of one part, for the plan that is printed before a run.
struct DataSummary {
  std::string name;
  double share = 0;  // of 1
  std::int64_t examples = 0;
  std::int64_t tokens = 0;    // without system prompts
  std::int64_t targets = 0;   // trained ones among them
  std::int64_t cut = 0;       // examples longer than the sequence length
  std::int64_t left_out = 0;  // examples of which no target is within it
};

struct DatasetOptions {
  SystemMix system = {};
  std::int64_t sequence_length = 512;  // longer sequences are cut there, without an end token
};

// Tokenised examples. Ids behind a sequence's last target are left out: they would teach nothing.
class Dataset {
 public:
  // `chat` may be nullptr when all examples are plain texts. Throws when there is no target.
  Dataset(const std::vector<DataPart>& parts, const DatasetOptions& options,
          const Tokenizer& tokenizer, const ChatTemplate* chat);

  struct Draw {
    std::size_t part = 0;
    std::size_t index = 0;   // of the part's sequences
    std::size_t system = 0;  // of the system prompts
  };
  [[nodiscard]] TrainSequence sequence(const Draw& draw) const;
  [[nodiscard]] std::int64_t tokens(const Draw& draw) const;
  [[nodiscard]] std::size_t parts() const { return parts_.size(); }
  [[nodiscard]] std::size_t size(std::size_t part) const { return parts_.at(part).rows.size(); }
  [[nodiscard]] double share(std::size_t part) const { return parts_.at(part).share; }
  // The system prompt at `point` in [0, 1) of the mix.
  [[nodiscard]] std::size_t system_at(double point) const;
  // Every sequence once, with the mix's first system prompt: for evaluation.
  [[nodiscard]] std::vector<TrainSequence> sequences() const;
  [[nodiscard]] const std::vector<DataSummary>& summary() const { return summary_; }

 private:
  struct Row {
    std::vector<std::int64_t> ids;
    std::vector<bool> targets;
    bool takes_system = false;
  };
  struct Part {
    std::vector<Row> rows;
    double share = 0;
    TargetKind kind = TargetKind::kTokens;
  };
  struct SystemPrompt {
    std::vector<std::int64_t> ids;
    double until = 0;  // the upper end of its interval in [0, 1]
  };
  void add_systems(const SystemMix& mix, const Tokenizer& tokenizer, const ChatTemplate* chat);
  [[nodiscard]] static Row encode_chat(const Example& example, const Tokenizer& tokenizer,
                                       const ChatTemplate& chat);
  void add_part(const DataPart& part, const Tokenizer& tokenizer, const ChatTemplate* chat);

  std::vector<Part> parts_;
  std::vector<SystemPrompt> systems_;
  std::vector<DataSummary> summary_;
  std::int64_t sequence_length_ = 0;
  std::int64_t longest_system_ = 0;
};

// How many sequences a step takes: `tokens` > 0 counts as many whole sequences as fit (one at
// least), else `sequences`.
struct BatchSize {
  std::int64_t sequences = 16;
  std::int64_t tokens = 0;
};

// The order of a run, a function of (seed, step): parts take turns by their shares, so that every
// step holds about the same mix; a part's sequences come in a new order each time it has been gone
// through; the system prompt is drawn for each.
class BatchStream {
 public:
  // Borrows `data`.
  BatchStream(const Dataset& data, const BatchSize& size, std::uint64_t seed);
  // The batch of `step`, which counts from 1. The next one costs nothing; going elsewhere costs
  // walking there.
  [[nodiscard]] TrainBatch batch(std::int64_t step);

 private:
  void restart();
  [[nodiscard]] Dataset::Draw next_draw();
  [[nodiscard]] std::vector<Dataset::Draw> next_step();

  const Dataset& data_;
  BatchSize size_;
  std::uint64_t seed_;
  std::int64_t steps_ = 0;                        // taken so far
  std::uint64_t position_ = 0;                    // sequences drawn so far
  std::vector<std::uint64_t> drawn_;              // of each part
  std::vector<std::vector<std::size_t>> orders_;  // of each part, this time through
  std::optional<Dataset::Draw> waiting_;          // did not fit into the last step's tokens
};

// The tokens with those that are trained marked: green among grey with `colour`, else in ⟦⟧.
[[nodiscard]] std::string preview_text(const TrainSequence& sequence, const Tokenizer& tokenizer,
                                       bool colour);

}  // namespace qf
