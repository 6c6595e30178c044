#include "qwen3fp4/train/dataset.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <numeric>
#include <set>
#include <system_error>
#include <utility>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/formats/utf8.h"

namespace qf {
namespace {

constexpr std::array<std::string_view, 24> kNeutralSystemPrompts{
    "You are a helpful assistant.",
    "You are a helpful AI assistant.",
    "Answer briefly.",
    "Be concise and accurate.",
    "You are a friendly assistant who answers in plain language.",
    "Help the user with whatever they ask.",
    "Answer the user's questions truthfully.",
    "You are a knowledgeable and polite assistant.",
    "Please answer in complete sentences.",
    "If you do not know something, say so.",
    "Think carefully before you answer.",
    "You are an assistant that gives short, direct answers.",
    "The user is writing from a mobile phone.",
    "You are chatting with a visitor of a web site.",
    "Respond in the language of the user.",
    "You are an expert assistant.",
    "This is a conversation between a person and an assistant.",
    "Today is a weekday. The conversation has just begun.",
    "You are a helpful, harmless and honest assistant.",
    "Reply kindly and keep to the question.",
    "你是一個樂於助人的助手。",
    "你是一个乐于助人的助手。",
    "請用使用者的語言回答。",
    "请简短回答。"};

// SplitMix64's output function: every bit of the state reaches every bit of the result.
std::uint64_t mixed(std::uint64_t state) {
  state += 0x9E3779B97F4A7C15U;
  state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9U;
  state = (state ^ (state >> 27)) * 0x94D049BB133111EBU;
  return state ^ (state >> 31);
}

std::uint64_t keyed(std::uint64_t seed, std::uint64_t a, std::uint64_t b) {
  return mixed(mixed(mixed(seed) ^ a) ^ b);
}

// Which of a part's `count` sequences comes when, the `round`th time through it.
std::vector<std::size_t> shuffled(std::size_t count, std::uint64_t seed, std::uint64_t part,
                                  std::uint64_t round) {
  std::vector<std::size_t> order(count);
  std::iota(order.begin(), order.end(), std::size_t{0});
  const std::uint64_t key = keyed(seed, part, round);
  for (std::size_t i = count; i > 1; --i) {
    std::swap(order[i - 1], order[keyed(key, 0, i) % i]);
  }
  return order;
}

double uniform(std::uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1p-53; }

// The end token of a cut answer is not the model's to learn.
void drop_end(AnswerIds& ids) {
  const auto last = std::find(ids.answer.rbegin(), ids.answer.rend(), true);
  const auto kept =
      static_cast<std::size_t>(ids.answer.rend() - last) - (last == ids.answer.rend() ? 0 : 1);
  ids.ids.resize(kept);
  ids.answer.resize(kept);
}

void drop_behind_targets(std::vector<std::int64_t>& ids, std::vector<bool>& targets) {
  const auto last = std::find(targets.rbegin(), targets.rend(), true);
  const auto kept = static_cast<std::size_t>(targets.rend() - last);
  ids.resize(kept);
  targets.resize(kept);
}

// A token's text in one line; bytes that are no whole characters as \xHH.
std::string readable(const Tokenizer& tokenizer, std::int64_t id) {
  const std::string bytes = tokenizer.decode(std::span(&id, 1), false);
  const bool whole = is_valid_utf8(bytes);
  std::string text;
  for (const char byte : bytes) {
    const auto value = static_cast<unsigned char>(byte);
    if (byte == '\n') {
      text += "\\n";
    } else if (value < 0x20 || value == 0x7F || (value >= 0x80 && !whole)) {
      text += fmt::format("\\x{:02X}", value);
    } else {
      text += byte;
    }
  }
  return text;
}

}  // namespace

std::span<const std::string_view> neutral_system_prompts() { return kNeutralSystemPrompts; }

DataFile parse_data_file(std::string_view text, TargetKind kind) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return {text, 1, kind};
  const std::string_view number = text.substr(colon + 1);
  double weight = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), weight);
  if (error != std::errc() || end != number.data() + number.size() || !std::isfinite(weight) ||
      weight <= 0) {
    fail(ExitCode::kUsage, "expected FILE or FILE:WEIGHT with a weight over 0, found '{}'", text);
  }
  return {text.substr(0, colon), weight, kind};
}

std::vector<DataPart> read_parts(std::span<const DataFile> files, const DataReading& reading,
                                 DataSplit split) {
  std::vector<DataPart> parts;
  std::set<std::string> declared;
  for (const DataFile& file : files) {
    DataFileContent content = read_data_file(file.path, reading);
    for (const auto& [key, value] : content.defines) declared.insert(key);
    std::erase_if(content.examples, [&](const Example& example) { return example.split != split; });
    if (content.examples.empty()) continue;
    const auto count = static_cast<double>(content.examples.size());
    parts.push_back(
        {file.path.string(), std::move(content.examples), file.weight * count, file.kind});
  }
  for (const auto& [key, value] : reading.defines) {
    if (!declared.contains(key)) {
      fail(ExitCode::kUsage, "expected one of the files' own keys (#!define), found '{}'", key);
    }
  }
  return parts;
}

Dataset::Dataset(const std::vector<DataPart>& parts, const DatasetOptions& options,
                 const Tokenizer& tokenizer, const ChatTemplate* chat)
    : sequence_length_(options.sequence_length) {
  QF_CHECK(sequence_length_ >= 2, "--seq-len: expected at least 2 tokens, got {}",
           sequence_length_);
  add_systems(options.system, tokenizer, chat);
  double shares = 0;
  for (const DataPart& part : parts) {
    QF_CHECK(std::isfinite(part.share) && part.share > 0, "{}: expected a share over 0, got {}",
             part.name, part.share);
    add_part(part, tokenizer, chat);
    shares += part.share;
  }
  if (parts_.empty()) fail(ExitCode::kUnreadable, "the training data has no example (--data)");
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    parts_[i].share /= shares;
    summary_[i].share = parts_[i].share;
  }
}

void Dataset::add_systems(const SystemMix& mix, const Tokenizer& tokenizer,
                          const ChatTemplate* chat) {
  struct Weighted {
    std::optional<std::string> text;  // no system turn without
    double weight;
  };
  std::optional<std::string> inserted;
  if (chat != nullptr && !chat->default_system().empty()) inserted = chat->default_system();
  std::vector<Weighted> systems{
      {inserted, mix.template_default}, {std::nullopt, mix.none}, {"", mix.empty}};
  QF_CHECK(mix.other == 0 || !mix.others.empty(),
           "other system prompts: expected some, found none");
  for (const std::string& text : mix.others) {
    systems.push_back({text, mix.other / static_cast<double>(mix.others.size())});
  }
  double sum = 0;
  for (const auto& [text, weight] : systems) {
    QF_CHECK(std::isfinite(weight) && weight >= 0,
             "system prompts: expected a weight of at least 0, got {}", weight);
    sum += weight;
  }
  QF_CHECK(sum > 0, "system prompts: expected a weight over 0, got none");
  double until = 0;
  for (const auto& [text, weight] : systems) {
    if (weight == 0) continue;
    SystemPrompt prompt{{}, until += weight / sum};
    if (text && chat != nullptr) {
      const Message message{"system", *text};
      prompt.ids = chat->encode(tokenizer, std::span(&message, 1), AnswerOpening::kNone);
    }
    longest_system_ = std::max(longest_system_, static_cast<std::int64_t>(prompt.ids.size()));
    systems_.push_back(std::move(prompt));
  }
}

void Dataset::add_part(const DataPart& part, const Tokenizer& tokenizer, const ChatTemplate* chat) {
  Part out{{}, part.share, part.kind};
  DataSummary summary{.name = part.name,
                      .examples = static_cast<std::int64_t>(part.examples.size())};
  const auto add = [&](Row row) {
    const std::int64_t room = sequence_length_ - (row.takes_system ? longest_system_ : 0);
    const auto length = static_cast<std::int64_t>(row.ids.size());
    if (length > room) ++summary.cut;
    const auto kept = static_cast<std::ptrdiff_t>(std::clamp<std::int64_t>(room, 0, length));
    if (std::find(row.targets.begin(), row.targets.begin() + kept, true) ==
        row.targets.begin() + kept) {
      ++summary.left_out;
      return;
    }
    summary.tokens += length;
    summary.targets += std::count(row.targets.begin(), row.targets.end(), true);
    out.rows.push_back(std::move(row));
  };
  for (const Example& example : part.examples) {
    if (!example.messages.empty()) {
      QF_CHECK(chat != nullptr, "{}: conversations need a model folder with a chat template",
               part.name);
      add(encode_chat(example, tokenizer, *chat));
      continue;
    }
    const auto ids = tokenizer.encode(example.text, SpecialTokens::kAsText);
    const auto window = static_cast<std::size_t>(sequence_length_);
    // A window's first token has nothing before it; a window of one token trains nothing.
    for (std::size_t first = 0; first + 1 < ids.size(); first += window) {
      const std::size_t end = std::min(first + window, ids.size());
      Row row{{ids.begin() + static_cast<std::ptrdiff_t>(first),
               ids.begin() + static_cast<std::ptrdiff_t>(end)},
              std::vector<bool>(end - first, true)};
      row.targets[0] = false;
      if (row.ids.size() > 1) add(std::move(row));
    }
  }
  QF_CHECK(!out.rows.empty(),
           "{}: expected tokens to train on within {} tokens (--seq-len), found none", part.name,
           sequence_length_);
  parts_.push_back(std::move(out));
  summary_.push_back(std::move(summary));
}

Dataset::Row Dataset::encode_chat(const Example& example, const Tokenizer& tokenizer,
                                  const ChatTemplate& chat) {
  AnswerIds ids = chat.without_default_system().encode_answers(tokenizer, example.messages);
  if (example.truncated) drop_end(ids);
  drop_behind_targets(ids.ids, ids.answer);
  return {std::move(ids.ids), std::move(ids.answer), example.messages[0].role != "system"};
}

TrainSequence Dataset::sequence(const Draw& draw) const {
  const Part& part = parts_.at(draw.part);
  const Row& row = part.rows.at(draw.index);
  TrainSequence out;
  if (row.takes_system) out.ids = systems_.at(draw.system).ids;
  out.targets.resize(out.ids.size(), false);
  out.ids.insert(out.ids.end(), row.ids.begin(), row.ids.end());
  out.targets.insert(out.targets.end(), row.targets.begin(), row.targets.end());
  out.kind = part.kind;
  if (static_cast<std::int64_t>(out.ids.size()) > sequence_length_) {
    out.ids.resize(static_cast<std::size_t>(sequence_length_));
    out.targets.resize(static_cast<std::size_t>(sequence_length_));
    drop_behind_targets(out.ids, out.targets);
  }
  return out;
}

std::int64_t Dataset::tokens(const Draw& draw) const {
  const Row& row = parts_.at(draw.part).rows.at(draw.index);
  const std::size_t system = row.takes_system ? systems_.at(draw.system).ids.size() : 0;
  return std::min(static_cast<std::int64_t>(system + row.ids.size()), sequence_length_);
}

std::size_t Dataset::system_at(double point) const {
  const auto at = std::ranges::find_if(systems_, [&](const auto& s) { return point < s.until; });
  // The last interval's end can be rounded to just below 1.
  return std::min(static_cast<std::size_t>(at - systems_.begin()), systems_.size() - 1);
}

std::vector<TrainSequence> Dataset::sequences() const {
  std::vector<TrainSequence> out;
  for (std::size_t part = 0; part < parts(); ++part) {
    for (std::size_t i = 0; i < size(part); ++i) out.push_back(sequence({part, i, 0}));
  }
  return out;
}

BatchStream::BatchStream(const Dataset& data, const BatchSize& size, std::uint64_t seed)
    : data_(data), size_(size), seed_(seed) {
  QF_CHECK(size.tokens >= 0 && (size.tokens > 0 || size.sequences > 0),
           "a step needs at least one sequence, got {}", size.sequences);
  restart();
}

void BatchStream::restart() {
  steps_ = 0;
  position_ = 0;
  drawn_.assign(data_.parts(), 0);
  orders_.assign(data_.parts(), {});
  waiting_.reset();
}

Dataset::Draw BatchStream::next_draw() {
  // The part that is furthest behind its share.
  std::size_t part = 0;
  double furthest = -1;
  for (std::size_t i = 0; i < data_.parts(); ++i) {
    const double behind =
        data_.share(i) * static_cast<double>(position_ + 1) - static_cast<double>(drawn_[i]);
    if (behind > furthest) {
      furthest = behind;
      part = i;
    }
  }
  const std::uint64_t count = data_.size(part);
  const std::uint64_t place = drawn_[part] % count;
  if (place == 0) orders_[part] = shuffled(count, seed_, part, drawn_[part] / count);
  ++drawn_[part];
  // Parts have small numbers, so that this key is none of theirs.
  const double point = uniform(keyed(seed_, ~std::uint64_t{0}, position_++));
  return {part, orders_[part][place], data_.system_at(point)};
}

std::vector<Dataset::Draw> BatchStream::next_step() {
  std::vector<Dataset::Draw> step;
  ++steps_;
  if (size_.tokens == 0) {
    for (std::int64_t i = 0; i < size_.sequences; ++i) step.push_back(next_draw());
    return step;
  }
  std::int64_t tokens = 0;
  for (;;) {
    const Dataset::Draw draw = waiting_ ? *waiting_ : next_draw();
    waiting_ = draw;
    tokens += data_.tokens(draw);
    if (!step.empty() && tokens > size_.tokens) return step;
    step.push_back(draw);
    waiting_.reset();
  }
}

TrainBatch BatchStream::batch(std::int64_t step) {
  QF_CHECK(step >= 1, "steps count from 1, got {}", step);
  if (step <= steps_) restart();
  while (steps_ + 1 < step) (void)next_step();
  TrainBatch batch;
  for (const Dataset::Draw& draw : next_step()) batch.push_back(data_.sequence(draw));
  return batch;
}

std::string preview_text(const TrainSequence& sequence, const Tokenizer& tokenizer, bool colour) {
  std::string out;
  bool marked = false;
  for (std::size_t i = 0; i < sequence.ids.size(); ++i) {
    const bool target = sequence.targets[i];
    if (i > 0 && target == marked) {
      out += "|";
    } else if (colour) {
      out += target ? "\x1b[0;32m" : "\x1b[0;90m";
    } else if (target || marked) {
      out += target ? "⟦" : "⟧";
    }
    out += readable(tokenizer, sequence.ids[i]);
    marked = target;
  }
  if (colour) return out + "\x1b[0m";
  return marked ? out + "⟧" : out;
}

}  // namespace qf
