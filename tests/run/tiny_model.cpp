#include "tiny_model.h"

#include <stdlib.h>

#include <cerrno>
#include <cmath>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <random>
#include <span>
#include <stdexcept>
#include <system_error>
#include <vector>

#include "qwen3fp4/base/file.h"
#include "qwen3fp4/formats/dat.h"
#include "qwen3fp4/model/config.h"
#include "qwen3fp4/model/weights.h"

namespace qf::test {
namespace {

constexpr std::int64_t kHidden = 128;

nlohmann::json config_json(const TinyModel& model) {
  return {{"model_type", model.model_type},
          {"architectures", {"Qwen3ForCausalLM"}},
          {"vocab_size", model.vocab_size},
          {"hidden_size", kHidden},
          {"intermediate_size", model.intermediate_size},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", 16},
          {"hidden_act", "silu"},
          {"attention_bias", false},
          {"max_position_embeddings", model.max_position_embeddings},
          {"rms_norm_eps", 1e-6},
          {"rope_theta", 10000.0},
          {"rope_scaling", nullptr},
          {"tie_word_embeddings", false},
          {"use_sliding_window", false},
          {"eos_token_id", kTurnEnd},
          {"torch_dtype", "float32"}};
}

// GPT-2's printable stand-in for a byte, in UTF-8.
std::string byte_symbol(int byte) {
  const auto printable = [](int b) {
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  };
  int point = byte;
  if (!printable(byte)) {
    point = 256;
    for (int b = 0; b < byte; ++b) point += printable(b) ? 0 : 1;
  }
  if (point < 128) return {static_cast<char>(point)};
  return {static_cast<char>(0xC0 | (point >> 6)), static_cast<char>(0x80 | (point & 0x3F))};
}

nlohmann::json tokenizer_json() {
  auto vocab = nlohmann::json::object();
  for (int byte = 0; byte < 256; ++byte) vocab[byte_symbol(byte)] = byte;
  auto added = nlohmann::json::array();
  for (const auto& [id, text] : std::map<std::int64_t, std::string>{
           {kEndOfText, "<|endoftext|>"}, {kTurnStart, "<|im_start|>"}, {kTurnEnd, "<|im_end|>"}}) {
    added.push_back({{"id", id},
                     {"content", text},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  const nlohmann::json byte_level{{"type", "ByteLevel"},
                                  {"add_prefix_space", false},
                                  {"trim_offsets", false},
                                  {"use_regex", false}};
  constexpr auto kQwenSplit =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  const nlohmann::json split{{"type", "Split"},
                             {"pattern", {{"Regex", kQwenSplit}}},
                             {"behavior", "Isolated"},
                             {"invert", false}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", added},
          {"normalizer", {{"type", "NFC"}}},
          {"pre_tokenizer",
           {{"type", "Sequence"}, {"pretokenizers", nlohmann::json::array({split, byte_level})}}},
          {"post_processor", byte_level},
          {"decoder", byte_level},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", ""},
            {"end_of_word_suffix", ""},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", false},
            {"vocab", vocab},
            {"merges", nlohmann::json::array()}}}};
}

// SmolLM2's, shorter than Qwen3's.
constexpr auto kTemplate =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ "
    "'<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
    "Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + "
    "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ "
    "'<|im_start|>assistant\n' }}{% endif %}";

// Our own Box-Muller, because std::normal_distribution differs between libraries.
std::vector<float> gaussian(std::int64_t count, double scale, std::mt19937& random) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) {
    const double u = (static_cast<double>(random()) + 0.5) * 0x1p-32;
    const double v = static_cast<double>(random()) * 0x1p-32;
    value = static_cast<float>(scale * std::sqrt(-2 * std::log(u)) * std::cos(6.283185307 * v));
  }
  return values;
}

void write_floats(DatWriter& out, const WeightSpec& spec, const std::vector<float>& values) {
  out.write(spec.name, DType::kF32, spec.shape, std::as_bytes(std::span(values)));
}

void write_nan_nvfp4(DatWriter& out, const WeightSpec& spec) {
  const std::int64_t rows = spec.shape[0];
  const std::int64_t cols = spec.shape[1];
  const std::vector<std::byte> codes(static_cast<std::size_t>(rows * cols / 2), std::byte{0x12});
  std::vector<std::byte> scales(static_cast<std::size_t>(rows * cols / 16), std::byte{0x10});
  scales[scales.size() / 2] = std::byte{0x7F};
  out.write(spec.name + ".qdata", DType::kU8, {rows, cols / 2}, codes);
  out.write(spec.name + ".scale", DType::kF8E4M3, {rows, cols / 16}, scales);
}

// lm_head: the row of each token that follows another holds that one's embedding.
std::vector<float> scripted_head(const std::map<std::int64_t, std::int64_t>& script,
                                 const std::vector<float>& embedding) {
  std::vector<float> head(embedding.size(), 0.0F);
  for (const auto& [first, second] : script) {
    for (std::int64_t i = 0; i < kHidden; ++i) {
      head[static_cast<std::size_t>(second * kHidden + i)] +=
          embedding[static_cast<std::size_t>(first * kHidden + i)];
    }
  }
  return head;
}

void write_weights(const TinyModel& model, const std::filesystem::path& path) {
  const auto config = ModelConfig::from_json(config_json(model).dump(), "config.json");
  std::int64_t entries = model.nan_scale_in.empty() ? 0 : 1;
  for_each_weight(config, true, [&](const WeightSpec&) { ++entries; });
  DatWriter out(path, entries);
  std::mt19937 random(model.seed);
  std::vector<float> embedding;
  for_each_weight(config, true, [&](const WeightSpec& spec) {
    const std::int64_t count = element_count(spec.shape);
    if (spec.kind == WeightKind::kNorm) {
      write_floats(out, spec, std::vector<float>(static_cast<std::size_t>(count), 1.0F));
    } else if (spec.name == model.nan_scale_in) {
      write_nan_nvfp4(out, spec);
    } else if (spec.kind == WeightKind::kEmbedding) {
      embedding = gaussian(count, 1.0, random);
      auto stored = embedding;
      if (model.nan_embedding_of) {
        stored[static_cast<std::size_t>(*model.nan_embedding_of * kHidden)] = std::nanf("");
      }
      write_floats(out, spec, stored);
    } else if (!model.script) {
      write_floats(out, spec, gaussian(count, 0.3, random));
    } else if (spec.kind == WeightKind::kHead) {
      write_floats(out, spec, scripted_head(*model.script, embedding));
    } else {
      write_floats(out, spec, std::vector<float>(static_cast<std::size_t>(count), 0.0F));
    }
  });
  out.finish();
}

}  // namespace

void TinyModel::write(const std::filesystem::path& folder) const {
  std::filesystem::create_directories(folder);
  write_text_file(folder / "config.json", config_json(*this).dump());
  write_text_file(folder / "generation_config.json", generation_config);
  if (tokenizer) {
    write_text_file(folder / "tokenizer.json", tokenizer_json().dump());
    const nlohmann::json settings{{"chat_template", kTemplate}, {"eos_token", "<|im_end|>"}};
    write_text_file(folder / "tokenizer_config.json", settings.dump());
  }
  const auto weights = folder / "model.dat";
  write_weights(*this, weights);
  const auto bytes = static_cast<std::int64_t>(std::filesystem::file_size(weights));
  std::filesystem::resize_file(weights, static_cast<std::uintmax_t>(bytes - missing_bytes));
}

std::map<std::int64_t, std::int64_t> script_of(std::int64_t after, std::string_view text) {
  std::map<std::int64_t, std::int64_t> script;
  for (const char c : text) {
    const auto id = static_cast<std::int64_t>(static_cast<unsigned char>(c));
    if (!script.emplace(after, id).second) throw std::logic_error("a scripted byte occurs twice");
    after = id;
  }
  if (!script.emplace(after, kTurnEnd).second)
    throw std::logic_error("a scripted byte occurs twice");
  return script;
}

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "qf_test_XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) {
    throw std::system_error(errno, std::generic_category(), pattern);
  }
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;  // a destructor cannot report it, and the system cleans its folder
  std::filesystem::remove_all(path_, ignored);
}

LoadedTiny::LoadedTiny(const TinyModel& tiny)
    : backend_(make_backend("reference")),
      files_((tiny.write(folder_.path()), ModelFolder::open(folder_.path()))),
      model_(files_.load_model(*backend_)) {}

}  // namespace qf::test
