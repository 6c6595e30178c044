#include "qwen3fp4/base/file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "bytes.h"

namespace qf {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

TEST(AtomicFile, AppearsOnCommitAndLeavesNothingOtherwise) {
  const Folder folder;
  const fs::path path = folder.path() / "out";
  write_text_file(path, "old");
  {
    AtomicFile file(path);
    file.write(bytes({'n', 'e', 'w'}));
    EXPECT_EQ(read_text_file(path), "old");
  }
  EXPECT_EQ(read_text_file(path), "old");
  EXPECT_EQ(folder.count(), 1) << "the temporary file is gone";
  AtomicFile file(path);
  file.write(bytes({'n', 'e', 'w'}));
  file.commit();
  EXPECT_EQ(read_text_file(path), "new");
}

TEST(AtomicFile, HasTheUsersPermissions) {
  const Folder folder;
  const mode_t old = ::umask(027);
  write_text_file(folder.path() / "out", "");
  ::umask(old);
  EXPECT_EQ(fs::status(folder.path() / "out").permissions(), static_cast<fs::perms>(0640));
}

TEST(AtomicFile, AnImpossiblePlaceIsASentence) {
  const Folder folder;
  write_text_file(folder.path() / "file", "");
  EXPECT_THAT(refusal([&] { AtomicFile file(folder.path() / "file" / "below"); }),
              HasSubstr("cannot be created"));
  EXPECT_THAT(refusal([&] { AtomicFile file(folder.path() / "absent" / "below"); }),
              HasSubstr("cannot be created"));
  fs::create_directory(folder.path() / "folder");
  EXPECT_THAT(refusal([&] { write_text_file(folder.path() / "folder", "x"); }),
              HasSubstr("folder: expected a regular file or a free name, found a folder"));
  EXPECT_EQ(folder.count(), 2) << "the file and the folder";
  EXPECT_THAT(refusal([&] { AtomicFolder out(folder.path() / "file", true); }),
              HasSubstr("file: expected a folder or a free name, found a file"));
  EXPECT_THAT(refusal([&] { AtomicFolder out(folder.path() / "file" / "below", true); }),
              HasSubstr("cannot be created"));
}

TEST(AtomicFile, FollowsLinksAndReplacesWhatTheyName) {
  const Folder folder;
  fs::create_directory(folder.path() / "there");
  write_text_file(folder.path() / "there" / "target", "old");
  fs::create_symlink("there/target", folder.path() / "link");
  fs::create_symlink("link", folder.path() / "second");
  fs::create_symlink("there/new", folder.path() / "dangling");
  fs::create_symlink("round", folder.path() / "round");
  write_text_file(folder.path() / "second", "new");
  write_text_file(folder.path() / "dangling", "made");
  EXPECT_EQ(read_text_file(folder.path() / "there" / "target"), "new");
  EXPECT_EQ(read_text_file(folder.path() / "there" / "new"), "made");
  for (const char* name : {"link", "second", "dangling"}) {
    EXPECT_TRUE(fs::is_symlink(folder.path() / name)) << name;
  }
  EXPECT_THAT(refusal([&] { AtomicFile file(folder.path() / "round"); }),
              HasSubstr("round: cannot be created: too many symlinks"));
  EXPECT_THAT(refusal([] { AtomicFile file("/proc/self/exe"); }),
              HasSubstr("/proc/self/exe: expected a regular file or a free name, found "));
}

TEST(AtomicFile, LeavesAPipeWhatItIs) {
  const Folder folder;
  const fs::path pipe = folder.path() / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  fs::create_symlink("pipe", folder.path() / "link");
  for (const char* name : {"pipe", "link"}) {
    EXPECT_THAT(refusal([&] { write_text_file(folder.path() / name, "x"); }),
                HasSubstr(": expected a regular file or a free name, found a pipe"));
    EXPECT_THAT(refusal([&] { AtomicFolder out(folder.path() / name, true); }),
                HasSubstr(": expected a folder or a free name, found a pipe"));
  }
  EXPECT_TRUE(fs::is_fifo(pipe));
  EXPECT_EQ(folder.count(), 2);
}

TEST(AtomicFolder, FollowsALink) {
  const Folder folder;
  fs::create_directory(folder.path() / "target");
  write_text_file(folder.path() / "target" / "old", "");
  fs::create_directory_symlink("target", folder.path() / "link");
  AtomicFolder out(folder.path() / "link" / "", true);
  write_text_file(out.staging() / "new", "");
  out.commit();
  EXPECT_TRUE(fs::is_symlink(folder.path() / "link"));
  EXPECT_TRUE(fs::exists(folder.path() / "target" / "new"));
  EXPECT_FALSE(fs::exists(folder.path() / "target" / "old"));
}

// A limit on file sizes fails write() half way, as a full disk does.
TEST(AtomicFile, AFailedWriteIsASentenceAndLeavesNothing) {
  const Folder folder;
  rlimit old{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
  auto* const handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{.rlim_cur = 1000, .rlim_max = old.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string said =
      refusal([&] { write_text_file(folder.path() / "out", std::string(1500, 'x')); });
  ::setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(said, HasSubstr("out: writing failed after 1000 bytes: File too large"));
  EXPECT_EQ(folder.count(), 0);
}

TEST(AtomicFolder, ReplacesWholeFoldersOnlyWhenAsked) {
  const Folder folder;
  const fs::path path = folder.path() / "models" / "m";
  {
    const mode_t old = ::umask(022);
    AtomicFolder out(path / "", false);
    ::umask(old);
    write_text_file(out.staging() / "a", "1");
    EXPECT_FALSE(fs::exists(path));
    out.commit();
  }
  EXPECT_EQ(fs::status(path).permissions(), static_cast<fs::perms>(0755));
  EXPECT_EQ(read_text_file(path / "a"), "1");
  EXPECT_THAT(refusal([&] { AtomicFolder out(path, false); }), HasSubstr("--force"));
  {
    AtomicFolder abandoned(path, true);
    write_text_file(abandoned.staging() / "b", "2");
  }
  EXPECT_EQ(read_text_file(path / "a"), "1");
  AtomicFolder out(path, true);
  write_text_file(out.staging() / "b", "2");
  out.commit();
  EXPECT_FALSE(fs::exists(path / "a"));
  EXPECT_EQ(read_text_file(path / "b"), "2");
  EXPECT_EQ(std::distance(fs::directory_iterator(path.parent_path()), {}), 1);
}

// Pages of a file that are in the page cache.
std::int64_t cached_pages(const fs::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY);
  const auto size = static_cast<std::size_t>(fs::file_size(path));
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  void* const mapped = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor, 0);
  std::vector<unsigned char> there((size + page - 1) / page);
  const int status = ::mincore(mapped, size, there.data());
  ::munmap(mapped, size);
  ::close(descriptor);
  if (status != 0) return -1;
  return std::count_if(there.begin(), there.end(), [](unsigned char c) { return (c & 1) != 0; });
}

// In the working folder: a temporary one may be a tmpfs, which is nothing but page cache.
TEST(FileSource, GivesPageCacheBackWhereAskedTo) {
  const fs::path path = fs::current_path() / "page_cache_test.bin";
  constexpr std::size_t kBytes = std::size_t{4} << 20;
  write_text_file(path, std::string(kBytes, 'x'));
  const int descriptor = ::open(path.c_str(), O_RDONLY);
  ::posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
  ::close(descriptor);
  if (cached_pages(path) != 0) {
    fs::remove(path);
    GTEST_SKIP() << "this file system keeps its pages whatever it is told";
  }
  std::vector<std::byte> read(kBytes);
  const FileSource source(path);
  source.read_at(0, read);
  EXPECT_EQ(cached_pages(path), kBytes / 4096) << "as the kernel does by itself";
  set_drop_page_cache(true);
  source.read_at(0, read);
  set_drop_page_cache(false);
  EXPECT_EQ(cached_pages(path), 0);
  fs::remove(path);
}

TEST(FileSource, SaysWhatItCannotRead) {
  const Folder folder;
  EXPECT_THAT(refusal([&] { FileSource file(folder.path() / "absent"); }), HasSubstr("absent"));
  EXPECT_THAT(refusal([&] { FileSource file(folder.path()); }), HasSubstr("regular file"));
  write_text_file(folder.path() / "ten", "0123456789");
  const FileSource file(folder.path() / "ten");
  Bytes out(4);
  EXPECT_THAT(refusal([&] { file.read_at(7, out); }), HasSubstr("found a file of 10 bytes"));
  EXPECT_THAT(refusal([&] { file.read_at(-1, out); }), HasSubstr("offset -1"));
  fs::resize_file(folder.path() / "ten", 5);
  EXPECT_THAT(refusal([&] { file.read_at(3, out); }), HasSubstr("shrank"));
  EXPECT_THAT(refusal([&] { (void)read_text_file(folder.path() / "ten", 4); }),
              HasSubstr("at most 4"));
}

}  // namespace
}  // namespace qf
