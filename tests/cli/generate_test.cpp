// The command line of `generate`, by running the program on tiny models.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "program.h"

namespace qf::test {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using Words = std::vector<std::string>;

class GenerateCommand : public ::testing::Test {
 protected:
  // Writes the model and returns its folder.
  std::string make(const TinyModel& tiny) {
    const auto path = folder_.path() / std::to_string(++made_);
    tiny.write(path);
    return path.string();
  }
  std::string scripted(std::string_view text) {
    TinyModel tiny;
    tiny.script = script_of('#', text);
    return make(tiny);
  }
  static Finished generate(const std::string& model, Words arguments,
                           const std::string& input = "") {
    arguments.insert(arguments.begin(), {"generate", "--model", model});
    return run_program(arguments, input);
  }
  static nlohmann::json generate_json(const std::string& model, Words arguments) {
    arguments.emplace_back("--json");
    const auto done = generate(model, arguments);
    EXPECT_EQ(done.exit_code, 0) << done.err;
    return nlohmann::json::parse(done.out);
  }

  [[nodiscard]] std::string folder() const { return folder_.path().string(); }

 private:
  TemporaryFolder folder_;
  int made_ = 0;
};

TEST_F(GenerateCommand, PrintsTheAnswerAndNothingElse) {
  const auto done = generate(scripted("Hi, you."), {"--raw", "--prompt", "Q#"});
  EXPECT_EQ(done.exit_code, 0);
  EXPECT_EQ(done.out, "Hi, you.\n");
  EXPECT_EQ(done.err, "");
}

class LinearOption : public GenerateCommand {
 protected:
  // Of a golden model, in one of convert's formats.
  [[nodiscard]] std::string converted(const std::string& format) const {
    const auto out = folder() + "/" + format;
    const auto done =
        run_program({"convert", QF_TEST_DIR "/golden/run/qwen3_f16.gguf", out, "--format", format});
    EXPECT_EQ(done.exit_code, 0) << done.err;
    return out;
  }
  static Finished run(const std::string& model, Words more) {
    more.insert(more.end(), {"--ids", "1,2,3", "--max-tokens", "3", "--ignore-eos"});
    return generate(model, more);
  }
};

TEST_F(LinearOption, SaysWhichPathRunsAndWhy) {
  const auto model = converted("nvfp4");
  const auto line_of = [&](const Words& more) {
    Words words{"--verbose", "--backend", "cpu"};
    words.insert(words.end(), more.begin(), more.end());
    const auto done = run(model, words);
    EXPECT_EQ(done.exit_code, 0) << done.err;
    const auto begin = done.err.find("backend cpu: ");
    return done.err.substr(begin, done.err.find('\n', begin) - begin);
  };
  EXPECT_THAT(line_of({}), HasSubstr("linear: w4a16 (--linear auto: w4a4 changes results"));
  EXPECT_THAT(line_of({"--linear", "w4a16"}), EndsWith("linear: w4a16 (--linear w4a16)"));
  const auto w4a4 = line_of({"--linear", "w4a4"});
  EXPECT_THAT(w4a4, HasSubstr("emulated"));
  EXPECT_THAT(w4a4, EndsWith("linear: w4a4 (--linear w4a4)"));
  const auto reference = line_of({"--linear", "reference"});
  EXPECT_THAT(reference, HasSubstr("unpacked whole"));
  EXPECT_THAT(reference, EndsWith("linear: reference (--linear reference)"));
}

TEST_F(LinearOption, RefusesWeightsThatW4A4DoesNotTakeBeforeTheyAreRead) {
  for (const auto* const format : {"nf4", "bf16"}) {
    const auto done = run(converted(format), {"--linear", "w4a4", "--backend", "cpu"});
    EXPECT_EQ(done.exit_code, 2);
    EXPECT_EQ(done.out, "");
    EXPECT_THAT(done.err, HasSubstr("--linear w4a4: expected NVFP4 weights"));
    EXPECT_THAT(done.err, HasSubstr(std::string("in ") + format + " of "));
    EXPECT_EQ(std::ranges::count(done.err, '\n'), 1) << done.err;
    EXPECT_EQ(run(folder() + "/" + format, {"--linear", "reference"}).exit_code, 0);
  }
  const auto unknown = run(folder() + "/nf4", {"--linear", "w4a8"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("--linear"));
}

// An unpacked weight, or quantised activations: the plan has what the mode adds.
TEST_F(LinearOption, IsInTheMemoryPlan) {
  const auto model = converted("nvfp4");
  const auto phases_of = [&](const char* mode) {
    const auto done = run(model, {"--linear", mode, "--backend", "cpu", "--dry-run", "--json"});
    EXPECT_EQ(done.exit_code, 0) << done.err;
    return nlohmann::json::parse(done.out)["phases"].get<std::map<std::string, std::int64_t>>();
  };
  const auto plain = phases_of("w4a16");
  for (const auto* const mode : {"w4a4", "reference"}) {
    for (const auto& [phase, bytes] : phases_of(mode)) {
      EXPECT_GT(bytes, plain.at(phase)) << mode << ", " << phase;
    }
  }
}

TEST_F(GenerateCommand, ReadsThePromptFromStdinAndReportsTimingOnStderr) {
  const auto done = generate(scripted("ok"), {"--raw", "--prompt-file", "-", "--timing"}, "Q#\n");
  EXPECT_EQ(done.out, "ok\n");
  EXPECT_THAT(done.err, HasSubstr("prefill: 2 tokens"));
  EXPECT_THAT(done.err, HasSubstr("decode: 2 tokens"));
  EXPECT_THAT(done.err, HasSubstr("GB/s"));
}

TEST_F(GenerateCommand, AppliesTheChatTemplate) {
  // The template ends in "assistant\n".
  TinyModel tiny;
  tiny.script = script_of('\n', "Hi");
  const auto row = generate_json(make(tiny), {"--prompt", "A<|im_end|>B", "--system", "S"});
  EXPECT_EQ(row["text"], "Hi");
  std::string text;
  std::vector<int> specials;
  for (const int id : row["prompt_ids"]) {
    if (id < 256) text += static_cast<char>(id);
    if (id >= 256) specials.push_back(id);
  }
  EXPECT_EQ(text, "system\nS\nuser\nA<|im_end|>B\nassistant\n");  // typed specials stay text
  EXPECT_EQ(specials, (std::vector<int>{257, 258, 257, 258, 257}));
}

TEST_F(GenerateCommand, JsonHoldsTheWholeAnswer) {
  const auto row = generate_json(scripted("abc"), {"--ids", "81,35", "--logits-hash"});
  EXPECT_EQ(row["text"], "abc");
  EXPECT_EQ(row["ids"], (std::vector<int>{'a', 'b', 'c', kTurnEnd}));
  EXPECT_EQ(row["prompt_ids"], (std::vector<int>{81, 35}));
  EXPECT_EQ(row["stop_reason"], "end_token");
  EXPECT_EQ(row["seqLen"], 6);
  EXPECT_EQ(row["logits_hash"].get<std::string>().size(), 16U);
  EXPECT_EQ(row["timing"]["prefill_tokens"], 2);
  EXPECT_EQ(row["timing"]["decode_tokens"], 3);
  for (const auto* key : {"prefill_seconds", "prefill_tokens_per_second", "decode_seconds",
                          "decode_tokens_per_second", "decode_gb_per_second"}) {
    EXPECT_GT(row["timing"][key].get<double>(), 0) << key;
  }
  EXPECT_EQ(row.size(), 7U);
}

TEST_F(GenerateCommand, StopsBeforeStopStrings) {
  const auto model = scripted("ab[x,y]cd");
  const auto row = generate_json(model, {"--ids", "35", "--stop", "[x,y]", "--stop", "never"});
  EXPECT_EQ(row["text"], "ab");
  EXPECT_EQ(row["stop_reason"], "stop_string");
  EXPECT_EQ(generate(model, {"--ids", "35", "--stop", ""}).exit_code, 2);
}

TEST_F(GenerateCommand, StopsAtTheLongestAnswer) {
  const auto row = generate_json(scripted("abcdef"), {"--ids", "35", "--max-tokens", "2"});
  EXPECT_EQ(row["text"], "ab");
  EXPECT_EQ(row["stop_reason"], "length");
}

TEST_F(GenerateCommand, IgnoresEndTokensWhenAsked) {
  const auto row =
      generate_json(scripted("ab"), {"--ids", "35", "--ignore-eos", "--max-tokens", "5"});
  EXPECT_EQ(row["ids"].size(), 5U);
  EXPECT_EQ(row["ids"][2], kTurnEnd);
}

TEST_F(GenerateCommand, CutsAnAnswerAtTheContextWithAWarning) {
  const auto model = scripted("abcdef");
  const auto done = generate(model, {"--ids", "35", "--context", "3"});
  EXPECT_EQ(done.exit_code, 0);
  EXPECT_EQ(done.out, "abc\n");
  EXPECT_THAT(done.err, HasSubstr("--context"));
  const auto refused = generate(model, {"--ids", "1,2,3,4", "--context", "3"});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("--context: expected at least the prompt's 4 tokens, got 3"));
}

TEST_F(GenerateCommand, ATurnThatDoesNotFitLeavesTheAnswersBeforeIt) {
  const auto done =
      generate(scripted("abcdef"), {"--ids", "35", "--context", "3", "--turns", "2", "--json"});
  EXPECT_EQ(done.exit_code, 4);
  EXPECT_THAT(done.err, HasSubstr("--context"));
  const auto turns = nlohmann::json::parse(done.out)["turns"];
  ASSERT_EQ(turns.size(), 1U);
  EXPECT_EQ(turns[0]["text"], "abc");
}

TEST_F(GenerateCommand, AFollowupNeedsTurns) {
  const auto refused = generate(scripted("ab"), {"--ids", "35", "--followup-prompt", "x"});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("--turns"));
}

TEST_F(GenerateCommand, EveryWayToRunGivesTheSameTokens) {
  const auto model = make(TinyModel{});
  const Words common{"--prompt", "Hello", "--max-tokens", "16", "--ignore-eos", "--temp", "0"};
  const auto ids = [&](const Words& more) {
    Words words = common;
    words.insert(words.end(), more.begin(), more.end());
    return generate_json(model, words)["ids"].dump();
  };
  const auto expected = ids({});
  EXPECT_EQ(ids({"--use-kvc", "false"}), expected);
  EXPECT_EQ(ids({"--prefill", "token"}), expected);
  EXPECT_EQ(ids({"--backend", "reference", "--threads", "1"}), expected);
}

TEST_F(GenerateCommand, TheSeedDecidesWhatIsDrawn) {
  const auto model = make(TinyModel{});
  const auto draw = [&](const char* seed) {
    const auto done = generate(model, {"--ids", "5,6", "--max-tokens", "20", "--ignore-eos",
                                       "--temp", "1", "--seed", seed, "--logits-hash"});
    EXPECT_EQ(done.exit_code, 0) << done.err;
    return done.out;
  };
  EXPECT_THAT(draw("7"), HasSubstr("logits-hash "));
  EXPECT_EQ(draw("7"), draw("7"));
  EXPECT_NE(draw("7"), draw("8"));
}

TEST_F(GenerateCommand, GenerationConfigGivesTheDefaults) {
  TinyModel tiny;
  tiny.generation_config = R"({"eos_token_id": 256, "do_sample": true, "temperature": 1.0})";
  const auto sampled = make(tiny);
  const Words words{"--ids", "5,6", "--max-tokens", "12", "--seed", "3", "--ignore-eos"};
  Words greedy = words;
  greedy.insert(greedy.end(), {"--temp", "0"});
  EXPECT_NE(generate_json(sampled, words)["ids"], generate_json(sampled, greedy)["ids"]);
  // Nothing survives a tiny top-p but the likeliest token.
  Words tiny_top_p = words;
  tiny_top_p.insert(tiny_top_p.end(), {"--top-p", "1e-9"});
  EXPECT_EQ(generate_json(sampled, tiny_top_p)["ids"], generate_json(sampled, greedy)["ids"]);
}

TEST_F(GenerateCommand, TurnsGoOnOnOneCache) {
  TinyModel tiny;
  tiny.script = script_of('\n', "Hi");
  const auto model = make(tiny);
  const auto result = generate_json(model, {"--prompt", "A", "--turns", "3"});
  const auto& turns = result["turns"];
  ASSERT_EQ(turns.size(), 3U);
  std::int64_t length = 0;
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(turns[i]["text"], "Hi");
    const auto own = static_cast<std::int64_t>(turns[i]["prompt_ids"].size());
    // A later turn runs its own tokens and the end token that the answer before it ended in.
    EXPECT_EQ(turns[i]["timing"]["prefill_tokens"], own + (i > 0 ? 1 : 0));
    length += own + 3;
    EXPECT_EQ(turns[i]["seqLen"], length);
  }
  const auto done = generate(model, {"--prompt", "A", "--turns", "2", "--max-tokens", "1"});
  const auto first = turns[0]["seqLen"].get<std::int64_t>() - 2;
  // Cut by length: the end token is put in.
  const auto second = first + 1 + static_cast<std::int64_t>(turns[1]["prompt_ids"].size()) + 1;
  EXPECT_EQ(done.out,
            "H\nseqLen " + std::to_string(first) + "\nH\nseqLen " + std::to_string(second) + "\n");
}

TEST_F(GenerateCommand, WorksOnIdsWithoutATokenizer) {
  TinyModel tiny;
  tiny.tokenizer = false;
  tiny.script = script_of('#', "ab");
  const auto model = make(tiny);
  const auto done = generate(model, {"--ids", "35"});
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_EQ(done.out, "97,98,258\n");
  const auto refused = generate(model, {"--prompt", "A"});
  EXPECT_EQ(refused.exit_code, 4);
  EXPECT_THAT(refused.err, HasSubstr("tokenizer"));
}

TEST_F(GenerateCommand, WrongUsageIsExitCode2) {
  const auto model = make(TinyModel{});
  const std::vector<Words> wrong{{"--no-such-flag"},
                                 {"--top-p", "2"},
                                 {"--temp", "hot"},
                                 {"--max-tokens", "0"},
                                 {"--context", "100000"},
                                 {"--prefill", "half"},
                                 {"--backend", "abacus"},
                                 {"--prompt", "A", "--ids", "1"},
                                 {"--ids", "1,x"},
                                 {"--ids", "1,,2"},
                                 {"--ids", ""},
                                 {"--seed", "-1"},
                                 {"--raw", "--system", "S"},
                                 {"--raw", "--prompt", ""}};
  for (const auto& words : wrong) {
    const auto done = generate(model, words);
    EXPECT_EQ(done.exit_code, 2) << words.front() << ": " << done.err;
    EXPECT_EQ(done.out, "");
    EXPECT_THAT(done.err, Not(HasSubstr("internal error")));
  }
}

TEST_F(GenerateCommand, NonFiniteLogitsAreExitCode3) {
  TinyModel tiny;
  tiny.nan_scale_in = "model.layers.1.self_attn.o_proj.weight";
  const auto done = generate(make(tiny), {"--ids", "1,2"});
  EXPECT_EQ(done.exit_code, 3);
  EXPECT_THAT(done.err, HasSubstr("model.layers.1.self_attn.o_proj "));
}

TEST_F(GenerateCommand, ACollapsedAnswerIsExitCode3) {
  TinyModel tiny;
  tiny.script = {{{'#', 0}, {0, 0}}};
  const auto done = generate(make(tiny), {"--ids", "35"});
  EXPECT_EQ(done.exit_code, 3);
  EXPECT_THAT(done.err, HasSubstr("[0; 0; 0; 0; 0; 0; 0; 0]"));
  EXPECT_THAT(done.err, HasSubstr("inspect"));
}

TEST_F(GenerateCommand, UnreadableModelsAreExitCode4) {
  TinyModel tiny;
  tiny.missing_bytes = 1;
  const auto cut = generate(make(tiny), {"--ids", "1"});
  EXPECT_EQ(cut.exit_code, 4);
  EXPECT_THAT(cut.err, HasSubstr("lm_head.weight"));

  EXPECT_EQ(generate("no/such/folder", {}).exit_code, 4);
  // The default model is not in the program's (empty) working folder.
  const auto missing = run_program({"generate"});
  EXPECT_EQ(missing.exit_code, 4);
  EXPECT_THAT(missing.err, HasSubstr("scripts/quickstart.sh"));
}

TEST_F(GenerateCommand, AnInterruptFinishesTheTokenAndIsExitCode130) {
  TinyModel tiny;
  tiny.script = {{{'#', 'a'}, {'a', 'b'}, {'b', 'a'}}};
  tiny.max_position_embeddings = 200000;
  Program program({"generate", "--model", make(tiny), "--ids", "35", "--max-tokens", "150000"});
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (program.out_so_far().empty() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  program.send(SIGINT);
  const auto done = program.wait();
  EXPECT_EQ(done.exit_code, 130);
  EXPECT_THAT(done.out, EndsWith("\n"));
  EXPECT_EQ(done.out.find_first_not_of("ab"), done.out.size() - 1);
  EXPECT_THAT(done.err, HasSubstr("interrupted"));
}

TEST_F(GenerateCommand, ASessionSparesWhatWasRunBefore) {
  const auto model = make({});
  const auto session = folder() + "/talk";
  const Words first{"--ids", "72,105,44", "--ignore-eos", "--max-tokens", "4"};
  const auto with_session = [&](Words words) {
    words.insert(words.end(), {"--session", session});
    return generate_json(model, words);
  };
  const auto told = with_session(first);
  EXPECT_EQ(told["timing"]["prefill_tokens"], 3);
  std::string ids = "72,105,44";
  for (const int id : told["ids"]) ids += "," + std::to_string(id);
  const Words more{"--ids", ids + ",10,11", "--ignore-eos", "--max-tokens", "4"};
  const auto restored = with_session(more);
  EXPECT_EQ(restored["timing"]["prefill_tokens"], 3) << "the answer's last token, 10 and 11";
  EXPECT_EQ(restored["ids"], generate_json(model, more)["ids"]);
  EXPECT_EQ(restored["prompt_ids"].size(), 9U);
  EXPECT_EQ(with_session(more)["timing"]["prefill_tokens"], 1);
}

TEST_F(GenerateCommand, RefusesSessionsThatCannotBe) {
  const auto model = make({});
  const auto session = folder() + "/talk";
  const auto try_session = [&](const std::string& path, Words more = {}) {
    more.insert(more.end(), {"--ids", "72,105", "--max-tokens", "2", "--session", path});
    return generate(model, more);
  };
  ASSERT_EQ(try_session(session).exit_code, 0);
  const auto no_cache = try_session(session, {"--use-kvc", "false"});
  EXPECT_EQ(no_cache.exit_code, 2);
  EXPECT_THAT(no_cache.err, HasSubstr("--session: expected a run with a KV cache"));
  const auto nowhere = try_session(folder() + "/none/talk");
  EXPECT_EQ(nowhere.exit_code, 4);
  EXPECT_THAT(nowhere.err, HasSubstr("--session: "));
  EXPECT_EQ(try_session("").exit_code, 2);
  const auto no_session = try_session(model + "/model.dat");
  EXPECT_EQ(no_session.exit_code, 4);
  EXPECT_THAT(no_session.err, HasSubstr("model.dat"));
  for (const std::string report : {"/talk", "/talk.json"}) {
    const auto name = folder() + (report == "/talk" ? "/talk" : "/talk.html");
    const auto same = try_session(name, {"--memory-report", folder() + report});
    EXPECT_EQ(same.exit_code, 2);
    EXPECT_THAT(same.err, HasSubstr("--memory-report: expected another file than --session"));
  }
  const auto other = generate(make({.seed = 2}), {"--ids", "72", "--session", session});
  EXPECT_EQ(other.exit_code, 4);
  EXPECT_THAT(other.err, HasSubstr("expected a session of this model"));
  EXPECT_EQ(std::count(other.err.begin(), other.err.end(), '\n'), 1);
}

TEST_F(GenerateCommand, KeepsTheCacheInTheTypeThatIsAskedFor) {
  const auto model = make({});
  const auto session = folder() + "/talk";
  const auto run = [&](const std::string& type, const std::string& ids = "72,105,44,45") {
    return generate(model, {"--ids", ids, "--ignore-eos", "--max-tokens", "3", "--session", session,
                            "--kv-cache", type, "--backend", "cpu", "--verbose"});
  };
  const auto done = run("fp8");
  ASSERT_EQ(done.exit_code, 0) << done.err;
  EXPECT_THAT(done.err, HasSubstr("KV cache: 0.00 GB of fp8"));
  EXPECT_EQ(run("fp8").exit_code, 0);
  const auto other = run("bf16");
  EXPECT_EQ(other.exit_code, 4);
  EXPECT_THAT(other.err, HasSubstr(session + ": expected keys and values in bf16, as this run "
                                             "caches them, found fp8 (--kv-cache)"));
  const auto unknown = run("fp4");
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("auto or fp32 or fp16 or bf16 or fp8, found 'fp4'"));
}

TEST_F(GenerateCommand, APlanCountsTheCacheAsItIsKept) {
  const auto model = make({});
  const auto held = [&](const std::string& type) {
    return generate_json(model, {"--ids", "72", "--context", "500", "--backend", "cpu",
                                 "--kv-cache", type, "--dry-run"})["held"];
  };
  // Two layers, 2 key/value heads of 16 features; 500 tokens' scales are padded to 512.
  EXPECT_EQ(held("auto")["keys and values"], 2 * 2 * 2 * 500 * 16 * 4);
  EXPECT_EQ(held("bf16")["keys and values"], 2 * 2 * 2 * 500 * 16 * 2);
  EXPECT_EQ(held("fp8")["keys and values"], 2 * 2 * 2 * (500 * 16 + 512 * 4));
  const std::string layer = "a layer's keys and values as attention reads them";
  EXPECT_EQ(held("fp8")[layer], 2 * 2 * 500 * 16 * 4);
  EXPECT_FALSE(held("auto").contains(layer));
}

TEST_F(GenerateCommand, ASessionOfAnotherPromptIsReplacedWithAWarning) {
  const auto model = make({});
  const auto session = folder() + "/talk";
  const auto run = [&](const std::string& ids) {
    return generate(model,
                    {"--ids", ids, "--ignore-eos", "--max-tokens", "2", "--session", session});
  };
  EXPECT_THAT(run("72,105,44,45").err, Not(HasSubstr("replaced")));
  EXPECT_THAT(run("72,105,44,45,46").err, Not(HasSubstr("replaced")));
  EXPECT_THAT(run("72,33,34").err,
              HasSubstr("1 of its 6 tokens begin this prompt; it is replaced"));
}

TEST_F(GenerateCommand, ADamagedSessionIsNamedBesideTheModel) {
  const auto model = make({});
  const auto session = folder() + "/talk";
  const Words run{"--ids", "72,105,44,45,46,47", "--max-tokens", "4", "--session", session};
  ASSERT_EQ(generate(model, run).exit_code, 0);
  auto bytes = read_text_file(session);
  // Values of the last layer: NaN.
  std::fill(bytes.end() - 4000, bytes.end(), '\xFF');
  write_text_file(session, bytes);
  const auto done = generate(model, run);
  EXPECT_EQ(done.exit_code, 3);
  EXPECT_THAT(done.err, HasSubstr("or " + session + ", of which 5 tokens were taken, is damaged"));
}

TEST_F(GenerateCommand, AnInterruptSavesTheSession) {
  TinyModel tiny;
  tiny.script = {{{'#', 'a'}, {'a', 'b'}, {'b', 'a'}}};
  tiny.max_position_embeddings = 200000;
  const auto model = make(tiny);
  const auto session = folder() + "/talk";
  Program program({"generate", "--model", model, "--ids", "35", "--max-tokens", "150000",
                   "--session", session});
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (program.out_so_far().size() < 3 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  program.send(SIGINT);
  const auto done = program.wait();
  EXPECT_EQ(done.exit_code, 130);
  EXPECT_THAT(done.err, HasSubstr("which " + session + " holds"));
  const auto row =
      generate_json(model, {"--ids", "35,97,98,97", "--max-tokens", "1", "--session", session});
  EXPECT_EQ(row["timing"]["prefill_tokens"], 1 + (done.out.size() < 4 ? 1 : 0));
}

}  // namespace
}  // namespace qf::test
