// Every place that allocates in a small run of the generator and of training fails once, the first
// time that it is reached: what follows is an exception, nothing is half-written, and the next run
// works.
#include <ATen/ATen.h>
#include <c10/util/Exception.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <exception>
#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "../run/tiny_model.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/memory/host_cap.h"
#include "qwen3fp4/model/model_folder.h"
#include "qwen3fp4/quant/parallel.h"
#include "qwen3fp4/run/checkpoint_source.h"
#include "qwen3fp4/run/convert.h"
#include "qwen3fp4/run/generator.h"
#include "qwen3fp4/train/checkpoint.h"
#include "qwen3fp4/train/export.h"
#include "qwen3fp4/train/start.h"
#include "qwen3fp4/train/trainer.h"

namespace qf {
namespace {

namespace fs = std::filesystem;

// A place is where the innermost frames outside of the allocator are the same.
constexpr int kFrames = 4;
constexpr int kAllocatorFrames = 3;
constexpr int kCallers = 24;  // in which a library is looked for

std::atomic<std::int64_t> allocations;
std::atomic<std::int64_t> failing;  // the number of the one that fails; 0: none
std::set<std::size_t>* places;      // while they are recorded
std::vector<std::int64_t>* firsts;  // the number of the first allocation of each

// What libraries declare noexcept and yet allocates, so that a failure can only end the process:
// nlohmann/json's destructor; directory_iterator and remove_all of the standard library inside
// libtorch.
bool must_end_the_process(void* const* frames, int count) {
  for (int i = 0; i < count; ++i) {
    Dl_info info{};
    if (dladdr(frames[i], &info) == 0 || info.dli_sname == nullptr) continue;
    const std::string_view name = info.dli_sname;
    const bool destructor = name.ends_with("D1Ev") || name.ends_with("D2Ev");
    if (name.find("filesystem10remove_all") != std::string_view::npos ||
        name.find("18directory_iterator") != std::string_view::npos ||
        name.find("json_value7destroy") != std::string_view::npos ||
        (destructor && name.find("10basic_json") != std::string_view::npos)) {
      return true;
    }
  }
  return false;
}

bool note_and_refuse() noexcept {
  const std::int64_t number = ++allocations;
  thread_local bool inside = false;
  if (places != nullptr && !inside) {
    inside = true;
    std::array<void*, kCallers> frames{};
    const int count = backtrace(frames.data(), static_cast<int>(frames.size()));
    std::size_t hash = 0xcbf29ce484222325U;
    for (int i = kAllocatorFrames; i < std::min(count, kAllocatorFrames + kFrames); ++i) {
      hash = (hash ^ reinterpret_cast<std::size_t>(frames[static_cast<std::size_t>(i)])) *
             0x100000001b3U;
    }
    if (places->insert(hash).second && !must_end_the_process(frames.data(), count)) {
      firsts->push_back(number);
    }
    allocations = number;  // what this function allocated does not count
    inside = false;
  }
  return number == failing;
}

class AllocationFailure : public testing::Test {
 protected:
  AllocationFailure() {
    install_host_cap();
    set_parallel_threads(1);  // the same allocations in the same order every time
    test::TinyModel{.seed = 4}.write(dense());
    (void)convert_checkpoint(*open_checkpoint(dense()), model(), {});
  }
  ~AllocationFailure() override {
    set_allocation_hook(nullptr);
    set_parallel_threads(0);
  }
  [[nodiscard]] fs::path dense() const { return folder_.path() / "dense"; }
  [[nodiscard]] fs::path model() const { return folder_.path() / "model"; }
  [[nodiscard]] fs::path out() const { return folder_.path() / "out"; }

  // Numbers of the first allocations of all places in `run`.
  [[nodiscard]] static std::vector<std::int64_t> places_of(const std::function<void()>& run) {
    run();  // what is made once a process is there then
    std::set<std::size_t> known;
    std::vector<std::int64_t> numbers;
    places = &known;
    firsts = &numbers;
    failing = 0;
    allocations = 0;
    set_allocation_hook(&note_and_refuse);
    run();
    set_allocation_hook(nullptr);
    places = nullptr;
    return numbers;
  }
  enum class End { kException, kSwallowed, kCrash };
  // What becomes of `run`, in a process of its own, when that allocation fails.
  [[nodiscard]] static End end_of(std::int64_t number, const std::function<void()>& run) {
    const pid_t child = fork();
    if (child == 0) {
      std::set_terminate([] {
        std::array<void*, 40> frames{};
        set_allocation_hook(nullptr);
        backtrace_symbols_fd(frames.data(), backtrace(frames.data(), 40), STDERR_FILENO);
        _exit(2);
      });
      _exit(throws(number, run) ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) > 1) return End::kCrash;
    return WEXITSTATUS(status) == 0 ? End::kException : End::kSwallowed;
  }

 private:
  [[nodiscard]] static bool throws(std::int64_t number, const std::function<void()>& run) {
    failing = number;
    allocations = 0;
    set_allocation_hook(&note_and_refuse);
    bool thrown = false;
    try {
      run();
    } catch (const std::bad_alloc&) {
      thrown = true;
    } catch (const Error&) {
      thrown = true;
    } catch (const c10::Error&) {
      thrown = true;
    }
    set_allocation_hook(nullptr);
    return thrown;
  }

  test::TemporaryFolder folder_;
};

TEST_F(AllocationFailure, OfGeneratingIsAnException) {
  std::string answer;
  const auto run = [&] {
    const auto backend = make_backend("cpu");
    const auto folder = ModelFolder::open(model());
    const auto loaded = folder.load_model(*backend);
    GeneratorOptions options;
    options.context = 40;
    options.max_new_tokens = 4;
    Generator generator(loaded, &*folder.tokenizer, options);
    const std::vector<std::int64_t> prompt{72, 101, 108, 108, 111};
    answer = generator.answer(prompt, [](std::int64_t, std::string_view) {}).text;
  };
  const auto numbers = places_of(run);
  const std::string expected = answer;
  EXPECT_GT(numbers.size(), 100U);
  std::int64_t swallowed = 0;
  for (const std::int64_t number : numbers) {
    const End end = end_of(number, run);
    EXPECT_NE(end, End::kCrash) << number;
    swallowed += end == End::kSwallowed ? 1 : 0;
  }
  // The standard library's sorting goes on without its buffer.
  EXPECT_LE(swallowed, 3);
  run();
  EXPECT_EQ(answer, expected) << "a run after all those works";
}

TEST_F(AllocationFailure, OfTrainingLeavesWholeFilesOnly) {
  const auto checkpoint = fs::path(out().string() + ".checkpoint.dat");
  const auto run = [&] {
    const auto backend = make_backend("cpu");
    const auto config = ModelFolder::open(model()).config;
    const DatReader file(model() / "model.dat");
    const auto source = make_weight_source(file, {});
    const auto weights = ModelWeights::load(config, *source, *backend, make_trained(config, {}));
    Trainer trainer(weights, nullptr, {});
    const TrainSequence sequence{.ids = {72, 101, 108, 108, 111},
                                 .targets = {false, false, true, true, true}};
    (void)trainer.step({sequence});
    save_checkpoint(checkpoint, weights, trainer.progress(), "{}");
    export_model(weights, model(), out(), {.replace = true, .tensor_scale = true});
  };
  const auto numbers = places_of(run);
  EXPECT_GT(numbers.size(), 100U);
  const std::string model_bytes = read_text_file(out() / "model.dat");
  const std::string checkpoint_bytes = read_text_file(checkpoint);
  std::int64_t swallowed = 0;
  for (const std::int64_t number : numbers) {
    // Sometimes over old files, sometimes into the open.
    const bool fresh = number % 2 == 0;
    if (fresh) {
      fs::remove_all(out());
      fs::remove(checkpoint);
    } else if (!fs::exists(out()) || !fs::exists(checkpoint)) {
      run();
    }
    const End end = end_of(number, run);
    EXPECT_NE(end, End::kCrash) << number;
    swallowed += end == End::kSwallowed ? 1 : 0;
    if (!fresh || fs::exists(out())) {
      EXPECT_EQ(read_text_file(out() / "model.dat"), model_bytes) << number;
    }
    if (!fresh || fs::exists(checkpoint)) {
      EXPECT_EQ(read_text_file(checkpoint), checkpoint_bytes) << number;
    }
    if (end == End::kCrash) continue;
    for (const auto& entry : fs::directory_iterator(out().parent_path())) {
      const auto name = entry.path().filename().string();
      EXPECT_TRUE(name == "dense" || name == "model" || name == "out" ||
                  name == "out.checkpoint.dat")
          << "left behind: " << name;
    }
  }
  EXPECT_LE(swallowed, 3);
}

}  // namespace
}  // namespace qf
