#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "qwen3fp4/formats/dtype.h"
#include "qwen3fp4/model/config.h"
#include "qwen3fp4/quant/weight_matrix.h"
#include "qwen3fp4/text/chat_template.h"
#include "qwen3fp4/text/tokenizer.h"

namespace qf {

// One weight of a checkpoint under its Hugging Face name, whatever the file calls it.
struct CheckpointTensor {
  std::string name;                 // "model.layers.3.self_attn.q_proj.weight"
  std::string name_in_file;         // "blk.3.attn_q.weight"
  std::vector<std::int64_t> shape;  // of the values: [out, in] also where the file packs them
  std::string stored_type;          // "bf16", "Q4_1", "nvfp4": for people
  // The type that holds every value exactly (f32, f16, bf16); none for block-quantised tensors.
  std::optional<DType> float_type = std::nullopt;
  std::int64_t bytes = 0;  // in the file
  bool readable = true;    // false: integers and the like, which no weight can be
};

// A file that travels unchanged into the model folder.
struct SideFile {
  std::string name;  // "tokenizer.json"
  std::string text;
};

// What convert reads from: the weights and the papers of one model, in Hugging Face's terms.
class CheckpointSource {
 public:
  CheckpointSource() = default;
  CheckpointSource(const CheckpointSource&) = delete;
  CheckpointSource& operator=(const CheckpointSource&) = delete;
  virtual ~CheckpointSource() = default;

  // What error messages call it: its path.
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const ModelConfig& config() const { return config_; }
  // The text that config() was read from; for a GGUF, made from its metadata.
  [[nodiscard]] const std::string& config_json() const { return config_json_; }
  // tokenizer.json, tokenizer_config.json, generation_config.json, ...: those that there are.
  [[nodiscard]] const std::vector<SideFile>& side_files() const { return side_files_; }
  // Made from the side files. Without a tokenizer it throws; without a template that we know
  // (chat_template.h) there is none.
  [[nodiscard]] Tokenizer tokenizer() const;
  [[nodiscard]] std::optional<ChatTemplate> chat_template() const;
  // Sentences for the user about what the source lacks.
  [[nodiscard]] const std::vector<std::string>& notes() const { return notes_; }
  [[nodiscard]] const std::vector<CheckpointTensor>& tensors() const { return tensors_; }
  // nullptr when there is none.
  [[nodiscard]] const CheckpointTensor* find(std::string_view tensor_name) const;

  // f32 of the tensor's shape; block-quantised ones dequantised, llama GGUF rows in HF's order.
  [[nodiscard]] virtual at::Tensor read_f32(const CheckpointTensor& tensor) const = 0;
  // The packed weight itself where the file holds one of our formats; it can be copied losslessly.
  [[nodiscard]] virtual std::optional<WeightMatrix> read_packed(
      const CheckpointTensor& tensor) const;
  // True when a head in the file counts although config() says that it is tied: .dat files keep a
  // quantised head beside a raw embedding.
  [[nodiscard]] virtual bool head_overrides_tie() const { return false; }

 protected:
  void set_config(std::string json, const std::string& json_name);
  // Takes over the tokenizer's and the generation's files that `folder` holds.
  void read_side_files(const std::filesystem::path& folder);

  std::string name_;
  std::vector<SideFile> side_files_;
  std::vector<std::string> notes_;
  std::vector<CheckpointTensor> tensors_;

 private:
  [[nodiscard]] const SideFile* find_side_file(std::string_view file_name) const;

  ModelConfig config_;
  std::string config_json_;
};

// A Hugging Face folder (config.json and safetensors, single or sharded), one of our model folders
// (config.json and model.dat, packed or raw; also the .dat itself), or a GGUF file. Recognised by
// content, not by suffix; anything else is refused with the list of these.
[[nodiscard]] std::unique_ptr<CheckpointSource> open_checkpoint(const std::filesystem::path& path);

}  // namespace qf
