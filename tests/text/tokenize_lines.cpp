// For tools/compare_tokenizers.py.
//   tokenize_lines FOLDER < LINES   a JSON string a line in; out, tab-separated: the ids with
//   special
//                                   tokens matched, the ids with them as text, the decoded ids
//   tokenize_lines GGUF             prints the tokenizer.json made from its metadata
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "qwen3fp4/formats/gguf.h"
#include "qwen3fp4/text/tokenizer.h"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const std::filesystem::path source = argv[1];
  if (source.extension() == ".gguf") {
    std::cout << qf::tokenizer_json_from_gguf(qf::GgufFile(source));
    return 0;
  }
  const qf::Tokenizer tokenizer = qf::Tokenizer::from_folder(source);
  std::string line;
  while (std::getline(std::cin, line)) {
    const auto text = nlohmann::json::parse(line).get<std::string>();
    const auto ids = tokenizer.encode(text, qf::SpecialTokens::kMatch);
    const auto plain = tokenizer.encode(text, qf::SpecialTokens::kAsText);
    const auto replace = nlohmann::json::error_handler_t::replace;
    std::cout << nlohmann::json(ids) << '\t' << nlohmann::json(plain) << '\t'
              << nlohmann::json(tokenizer.decode(ids, false)).dump(-1, ' ', true, replace) << '\n';
  }
}
