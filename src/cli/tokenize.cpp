#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "app.h"
#include "model_options.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/text/tokenizer.h"

namespace qf::cli {
namespace {

using Ids = std::vector<std::int64_t>;

struct TokenizeCommand {
  std::string model{kDefaultModelFolder};
  std::string text;
  std::string file;
  std::string jsonl;
  bool decode = false;

  void run() const;
  [[nodiscard]] std::string convert(const Tokenizer& tokenizer, const std::string& input) const;
  void convert_lines(const Tokenizer& tokenizer, std::istream& lines) const;
  [[nodiscard]] std::string convert_line(const Tokenizer& tokenizer, const std::string& line) const;
};

std::string decode_text(const Tokenizer& tokenizer, const Ids& ids) {
  Utf8Stream characters;
  std::string text = characters.push(tokenizer.decode(ids, /*skip_specials=*/false));
  return text + characters.finish();
}

std::string TokenizeCommand::convert(const Tokenizer& tokenizer, const std::string& input) const {
  if (decode) {
    const auto code = file.empty() ? ExitCode::kUsage : ExitCode::kUnreadable;
    return decode_text(tokenizer, parse_ids(input, "--decode", code));
  }
  return fmt::format("{}", fmt::join(tokenizer.encode(input, SpecialTokens::kMatch), ","));
}

std::string TokenizeCommand::convert_line(const Tokenizer& tokenizer,
                                          const std::string& line) const {
  const auto json = nlohmann::json::parse(line);
  if (decode) return nlohmann::json(decode_text(tokenizer, json.get<Ids>())).dump();
  return nlohmann::json(tokenizer.encode(json.get<std::string>(), SpecialTokens::kMatch)).dump();
}

void TokenizeCommand::convert_lines(const Tokenizer& tokenizer, std::istream& lines) const {
  constexpr std::size_t kFlushBytes = 1U << 16U;
  std::string out;
  std::string line;
  for (std::int64_t number = 1; std::getline(lines, line); ++number) {
    try {
      out += convert_line(tokenizer, line) + "\n";
    } catch (const nlohmann::json::exception& error) {
      fail(ExitCode::kUnreadable, "--jsonl {}: line {}: expected a JSON {}, got: {}", jsonl, number,
           decode ? "array of ids" : "string", error.what());
    }
    if (out.size() >= kFlushBytes) {
      print(out);
      out.clear();
    }
  }
  QF_CHECK(!lines.bad(), "--jsonl {}: cannot be read", jsonl);
  print(out);
}

void TokenizeCommand::run() const {
  const ModelFolder folder = ModelFolder::open(model);
  const Tokenizer& tokenizer = folder.require_tokenizer();
  if (jsonl == "-") return convert_lines(tokenizer, std::cin);
  if (!jsonl.empty()) {
    std::ifstream lines(jsonl, std::ios::binary);
    QF_CHECK(lines.is_open(), "--jsonl {}: cannot be opened", jsonl);
    return convert_lines(tokenizer, lines);
  }
  print(convert(tokenizer, file.empty() ? text : read_text(file)) + "\n");
}

}  // namespace

void add_tokenize(CLI::App& app) {
  auto* command = app.add_subcommand("tokenize", "Text to token ids, and back");
  const auto options = std::make_shared<TokenizeCommand>();
  command->add_option("--model", options->model, "Model folder, for its tokenizer")
      ->type_name("DIR")
      ->capture_default_str();
  auto* input = command->add_option_group("input", "Exactly one of");
  input->add_option("text", options->text, "The text; ids like 1,2,3 with --decode");
  input->add_option("--file", options->file, "Read it from a file (-: stdin)")->type_name("FILE");
  input
      ->add_option("--jsonl", options->jsonl,
                   "One JSON string a line in (-: stdin), one JSON array of ids a line out")
      ->type_name("FILE");
  input->require_option(1);
  command->add_flag("--decode", options->decode, "The other way: ids to text");
  command->callback([options] { options->run(); });
}

}  // namespace qf::cli
