// Packed weights in every spelling that files in the wild have, against the dense model of their
// dequantised values.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "golden.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/kernels/fp4.h"
#include "qwen3fp4/quant/quantize.h"
#include "state_dict.h"

namespace qf {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// Same numbers, other order of sums: fp32 rounding (see parity_test.cpp).
constexpr double kBound = 1e-4;

bool is_linear(const std::string& name) {
  return name.ends_with("_proj.weight") || name == "lm_head.weight";
}

class Packed : public ::testing::Test {
 protected:
  using Pack = std::function<WeightMatrix(StateDict&, const std::string&, const at::Tensor&)>;

  // Replaces every linear by what `pack` stores; a second model holds the dequantised values.
  void compare(const Pack& pack, bool reversed = false) {
    StateDict packed = state_;
    StateDict dense = state_;
    for (const StateDict::Entry& entry : state_.entries()) {
      if (!is_linear(entry.name)) continue;
      packed.erase(entry.name);
      dense.put(entry.name, pack(packed, entry.name, entry.values).dequantize());
    }
    if (reversed) packed.reverse();
    for (const std::string_view name : backend_names()) {
      const auto backend = make_backend(name);
      const auto got = all_logits(packed.load(golden_.config, *backend), golden_.ids, 5);
      const auto want = all_logits(dense.load(golden_.config, *backend), golden_.ids, 5);
      EXPECT_LE(((got - want).abs().amax() / want.abs().amax()).item<double>(), kBound) << name;
      EXPECT_GT(((want - golden_.logits).abs().amax()).item<double>(), 0.01)
          << "nothing was packed";
    }
  }

  Golden golden_ = read_golden("qwen3_untied_mha");
  StateDict state_ = StateDict::read(kGoldenModels / "qwen3_untied_mha/model.dat");
};

WeightMatrix put_nvfp4(StateDict& state, const std::string& prefix, const at::Tensor& w) {
  const WeightMatrix q = quantize_nvfp4(w, {});
  state.put(prefix + ".qdata", q.codes());
  state.put(prefix + ".scale", q.scales(), DType::kF8E4M3);
  state.put(prefix + ".scale_2", at::full({1}, q.global_scale()));
  return q;
}

std::string without_weight(const std::string& name) { return name.substr(0, name.size() - 7); }

TEST_F(Packed, Nvfp4InBothKeyStylesAndAnyOrder) {
  for (const bool reversed : {false, true}) {
    compare(
        [](StateDict& s, const std::string& n, const at::Tensor& w) { return put_nvfp4(s, n, w); },
        reversed);
    compare([](StateDict& s, const std::string& n,
               const at::Tensor& w) { return put_nvfp4(s, without_weight(n), w); },
            reversed);
  }
}

TEST_F(Packed, SingleLevelFilesHaveNoTensorScale) {
  compare([](StateDict& s, const std::string& n, const at::Tensor& w) {
    WeightMatrix q = quantize_nvfp4(w, {.two_level = false});
    EXPECT_EQ(q.global_scale(), 1.0F);
    s.put(n + ".qdata", q.codes(), DType::kF4E2M1x2);
    s.put(n + ".scale", q.scales(), DType::kU8);  // the same bits under code 0
    return q;
  });
}

TEST_F(Packed, RealScalesInHalfAndSinglePrecision) {
  for (const auto type : {at::kHalf, at::kFloat}) {
    compare([type](StateDict& s, const std::string& n, const at::Tensor& w) {
      WeightMatrix q = quantize_nvfp4(w, {.two_level = false});
      const auto bits = q.scales().flatten();
      auto real = at::empty({bits.numel()}, at::kFloat);
      for (std::int64_t i = 0; i < bits.numel(); ++i) {
        real[i] = e4m3_to_float(bits[i].item<std::uint8_t>());
      }
      s.put(n + ".qdata", q.codes());
      s.put(n + ".scale", real.view(q.scales().sizes()).to(type));
      return q;
    });
  }
}

void put_nf4_state(StateDict& state, const std::string& name, const at::Tensor& w, bool nested,
                   double offset) {
  std::string json =
      fmt::format(R"({{"quant_type":"nf4","blocksize":64,"dtype":"float32","shape":[{}, {}])",
                  w.size(0), w.size(1));
  if (nested) json += fmt::format(R"(,"nested_blocksize":256,"nested_offset":{})", offset);
  json += "}";
  auto bytes = at::empty({static_cast<std::int64_t>(json.size())}, at::kByte);
  std::copy(json.begin(), json.end(), bytes.data_ptr<std::uint8_t>());
  state.put(name + ".quant_state.bitsandbytes__nf4", bytes);
}

TEST_F(Packed, Nf4AsBitsandbytesWritesIt) {
  for (const bool short_keys : {false, true}) {
    compare([short_keys](StateDict& s, const std::string& n, const at::Tensor& w) {
      WeightMatrix q = quantize_nf4(w);
      const std::string prefix = short_keys ? without_weight(n) : n;
      s.put(n, q.codes().view({-1, 1}));
      s.put(prefix + ".absmax", q.scales());
      s.put(prefix + ".quant_map", q.code_book());
      if (!short_keys) put_nf4_state(s, n, w, false, 0);
      return q;
    });
  }
}

TEST_F(Packed, NestedNf4AbsmaxIsCodeBookTimesOuterPlusOffset) {
  compare([](StateDict& s, const std::string& n, const at::Tensor& w) {
    const WeightMatrix q = quantize_nf4(w);
    const std::int64_t blocks = q.scales().numel();
    const auto book = at::linspace(-1, 1, 256);
    const auto codes = at::randint(0, 256, {blocks}, at::kByte);
    const auto outer = at::rand({(blocks + 255) / 256}) + 0.1;
    const double offset = 1.5;
    auto absmax = at::empty({blocks});
    for (std::int64_t b = 0; b < blocks; ++b) {
      absmax[b] = book[codes[b].item<std::int64_t>()] * outer[b / 256] + offset;
    }
    s.put(n, q.codes().view({-1, 1}));
    s.put(n + ".absmax", codes);
    s.put(n + ".quant_map", q.code_book());
    s.put(n + ".nested_absmax", outer);
    s.put(n + ".nested_quant_map", book);
    put_nf4_state(s, n, w, true, offset);
    return WeightMatrix::nf4(q.codes(), absmax, q.code_book(), w.size(0), w.size(1), 64);
  });
}

TEST_F(Packed, BrokenGroupsAreRefusedByName) {
  const std::string name = "model.layers.0.self_attn.q_proj.weight";
  const auto backend = make_backend("reference");
  const auto refusal = [&](const std::function<void(StateDict&)>& bend) -> std::string {
    StateDict state = state_;
    const at::Tensor w = std::ranges::find(state_.entries(), name, &StateDict::Entry::name)->values;
    state.erase(name);
    put_nvfp4(state, name, w);
    bend(state);
    try {
      (void)state.load(golden_.config, *backend);
      return "accepted";
    } catch (const Error& error) {
      return error.what();
    }
  };
  EXPECT_EQ(refusal([](StateDict&) {}), "accepted");
  EXPECT_THAT(refusal([&](StateDict& s) { s.erase(name + ".scale"); }),
              AllOf(HasSubstr(name + ".scale"), HasSubstr("found none")));
  EXPECT_THAT(refusal([&](StateDict& s) { s.erase(name + ".qdata"); }),
              AllOf(HasSubstr(name), HasSubstr("qdata")));
  EXPECT_THAT(refusal([&](StateDict& s) { s.put(name, at::rand({32, 32})); }), HasSubstr("twice"));
  EXPECT_THAT(refusal([&](StateDict& s) {
                s.put(name + ".qdata", at::zeros({32, 8}, at::kByte));
              }),
              HasSubstr(name));
  EXPECT_THAT(refusal([&](StateDict& s) {
                s.put(name + ".scale", at::zeros({16, 2}, at::kByte), DType::kF8E4M3);
              }),
              AllOf(HasSubstr(name), HasSubstr("scales")));
  EXPECT_THAT(refusal([&](StateDict& s) { s.put(name + ".scale_2", at::rand({2})); }),
              HasSubstr("scale_2"));
  EXPECT_THAT(refusal([&](StateDict& s) { s.put(name + ".scale_2", at::full({1}, INFINITY)); }),
              HasSubstr(name));
}

TEST_F(Packed, BrokenNf4GroupsAreRefusedByName) {
  const std::string name = "model.layers.1.mlp.down_proj.weight";
  const auto backend = make_backend("reference");
  const at::Tensor w = std::ranges::find(state_.entries(), name, &StateDict::Entry::name)->values;
  const auto refusal = [&](const std::function<void(StateDict&)>& bend) -> std::string {
    StateDict state = state_;
    const WeightMatrix q = quantize_nf4(w);
    state.put(name, q.codes().view({-1, 1}));
    state.put(name + ".absmax", q.scales());
    state.put(name + ".quant_map", q.code_book());
    put_nf4_state(state, name, w, false, 0);
    bend(state);
    try {
      (void)state.load(golden_.config, *backend);
      return "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kUnreadable);
      return error.what();
    }
  };
  const auto put_json = [&](StateDict& s, std::string_view json) {
    auto bytes = at::empty({static_cast<std::int64_t>(json.size())}, at::kByte);
    std::ranges::copy(json, bytes.data_ptr<std::uint8_t>());
    s.put(name + ".quant_state.bitsandbytes__nf4", bytes);
  };
  EXPECT_EQ(refusal([](StateDict&) {}), "accepted");
  for (const char* part : {".absmax", ".quant_map"}) {
    EXPECT_THAT(refusal([&](StateDict& s) { s.erase(name + part); }), HasSubstr(name)) << part;
  }
  EXPECT_THAT(refusal([&](StateDict& s) { s.erase(name); }),
              AllOf(HasSubstr(name), HasSubstr("found none")));
  EXPECT_THAT(refusal([&](StateDict& s) { s.put(name + ".quant_map", at::rand({15})); }),
              AllOf(HasSubstr("quant_map"), HasSubstr("16")));
  EXPECT_THAT(refusal([&](StateDict& s) { s.put(name + ".absmax", at::rand({25})); }),
              AllOf(HasSubstr("absmax"), HasSubstr("24"), HasSubstr("[25]")));
  EXPECT_THAT(refusal([&](StateDict& s) {
                s.put(name, at::zeros({8, 1}, at::kByte));
              }),
              AllOf(HasSubstr(name), HasSubstr("found 8 of u8")));
  // 8-bit absmax are nested ones, which the quant_state must say.
  EXPECT_THAT(refusal([&](StateDict& s) { s.put(name + ".absmax", at::zeros({24}, at::kByte)); }),
              AllOf(HasSubstr("absmax"), HasSubstr("nested_offset")));
  for (const char* json :
       {"", "[]", "{", R"({"blocksize":64})", R"({"blocksize":"64","shape":[32,48]})",
        R"({"blocksize":64,"shape":[32]})", R"({"blocksize":64,"shape":[0,48]})",
        R"({"blocksize":64,"shape":[32,-48]})", R"({"blocksize":0,"shape":[32,48]})",
        R"({"blocksize":7,"shape":[32,48]})", R"({"blocksize":64,"shape":[48,32]})",
        R"({"blocksize":1099511627776,"shape":[32,48]})",
        R"({"blocksize":64,"shape":[32,48],"nested_offset":1})",
        R"({"blocksize":64,"shape":[32,48],"nested_offset":1,"nested_blocksize":0})"}) {
    EXPECT_THAT(refusal([&](StateDict& s) { put_json(s, json); }), HasSubstr(name)) << json;
  }
}

TEST_F(Packed, AWeightPackedTwiceIsRefused) {
  const std::string name = "model.layers.0.mlp.up_proj.weight";
  const at::Tensor w = std::ranges::find(state_.entries(), name, &StateDict::Entry::name)->values;
  state_.erase(name);
  (void)put_nvfp4(state_, name, w);
  (void)put_nvfp4(state_, without_weight(name), w);
  try {
    (void)state_.load(golden_.config, *make_backend("reference"));
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr(name), HasSubstr("twice")));
  }
}

// 4-bit codes are no block scales, though both are bytes.
TEST_F(Packed, ScalesOfTheCodesTypeAreRefused) {
  const std::string name = "model.layers.0.mlp.up_proj.weight";
  const at::Tensor w = std::ranges::find(state_.entries(), name, &StateDict::Entry::name)->values;
  state_.erase(name);
  const WeightMatrix q = put_nvfp4(state_, name, w);
  state_.put(name + ".scale", q.scales(), DType::kF4E2M1x2);
  try {
    (void)state_.load(golden_.config, *make_backend("reference"));
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr(name + ".scale"), HasSubstr("f4_e2m1x2")));
  }
}

TEST_F(Packed, AnEmbeddingMayBePackedToo) {
  const std::string name = "model.embed_tokens.weight";
  const at::Tensor w = std::ranges::find(state_.entries(), name, &StateDict::Entry::name)->values;
  StateDict packed = state_;
  packed.erase(name);
  StateDict dense = state_;
  dense.put(name, put_nvfp4(packed, name, w).dequantize());
  const auto backend = make_backend("reference");
  EXPECT_TRUE(at::equal(all_logits(packed.load(golden_.config, *backend), golden_.ids, 12),
                        all_logits(dense.load(golden_.config, *backend), golden_.ids, 12)));
}

}  // namespace
}  // namespace qf
