#include <sentencepiece_processor.h>

#include <utility>

#include "added_tokens.h"
#include "qwen3fp4/base/error.h"
#include "tokenizer_impl.h"

namespace qf {
namespace {

class SentencePieceTokenizer final : public Tokenizer::Impl {
 public:
  SentencePieceTokenizer(const std::string& model, const std::string& source_name) {
    name = source_name;
    const auto status = processor_.LoadFromSerializedProto(model);
    QF_CHECK(status.ok(), "{}: expected a sentencepiece model: {}", name, status.message());
    std::vector<AddedToken> control;
    for (int id = 0; id < processor_.GetPieceSize(); ++id) {
      const std::string& piece = processor_.IdToPiece(id);
      add(id, piece, {bytes_of(id), processor_.IsControl(id)});
      if (processor_.IsControl(id)) control.push_back({piece, id, true, false});
    }
    control_ = AddedTokens(std::move(control));
  }

  void encode(std::string_view text, SpecialTokens specials,
              std::vector<std::int64_t>& ids) const override {
    for (const TextOrToken& part : control_.split(text, false, specials == SpecialTokens::kMatch)) {
      if (part.id >= 0) {
        ids.push_back(part.id);
        continue;
      }
      std::vector<int> found;
      const auto status = processor_.Encode({part.text.data(), part.text.size()}, &found);
      QF_CHECK(status.ok(), "{}: encoding failed: {}", name, status.message());
      ids.insert(ids.end(), found.begin(), found.end());
    }
  }

  // The library joins pieces (its meta symbol becomes a space), so whole sequences go through it.
  [[nodiscard]] std::string decode(std::span<const std::int64_t> ids,
                                   bool skip_specials) const override {
    std::string out;
    std::vector<int> run;
    const auto flush = [&] {
      std::string text;
      const auto status = processor_.Decode(run, &text);
      QF_CHECK(status.ok(), "{}: decoding failed: {}", name, status.message());
      out += text;
      run.clear();
    };
    for (const std::int64_t id : ids) {
      const Token& token = at(id);
      if (!token.special) {
        run.push_back(static_cast<int>(id));
        continue;
      }
      flush();
      if (!skip_specials) out += token.bytes;
    }
    flush();
    return out;
  }

 private:
  // Byte pieces read "<0xE4>"; the meta symbol stands for a space.
  [[nodiscard]] std::string bytes_of(int id) const {
    std::string piece = processor_.IdToPiece(id);
    if (processor_.IsByte(id))
      return {static_cast<char>(std::stoi(piece.substr(3, 2), nullptr, 16))};
    constexpr std::string_view kMetaSymbol = "\xE2\x96\x81";
    for (std::size_t at = piece.find(kMetaSymbol); at != std::string::npos;
         at = piece.find(kMetaSymbol, at)) {
      piece.replace(at, kMetaSymbol.size(), " ");
    }
    return piece;
  }

  sentencepiece::SentencePieceProcessor processor_;
  AddedTokens control_;
};

}  // namespace

Tokenizer Tokenizer::from_sentencepiece(const std::string& model, const std::string& source_name) {
  return Tokenizer(std::make_unique<SentencePieceTokenizer>(model, source_name));
}

}  // namespace qf
