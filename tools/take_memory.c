// Preloaded (LD_PRELOAD) into a program, takes memory that the program's own caps cannot see, as a
// driver or a library would: QF_TAKE_BYTES bytes, QF_TAKE_AFTER seconds after the start, of the
// process's main memory or, with QF_TAKE_FROM=cuda, of the first GPU past libtorch's allocator.
//
//   cc -shared -fPIC -o take_memory.so tools/take_memory.c
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static void take_main_memory(size_t bytes) {
  void* const block = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (block == MAP_FAILED) {
    perror("take_memory: mmap");
    return;
  }
  memset(block, 1, bytes);
}

// The driver's interface is looked up, so that machines without one can build this.
static void take_device_memory(size_t bytes) {
  void* const driver = dlopen("libcuda.so.1", RTLD_NOW);
  if (driver == NULL) {
    fprintf(stderr, "take_memory: %s\n", dlerror());
    return;
  }
  int (*const init)(unsigned) = (int (*)(unsigned))dlsym(driver, "cuInit");
  int (*const retain)(void**, int) =
      (int (*)(void**, int))dlsym(driver, "cuDevicePrimaryCtxRetain");
  int (*const set_current)(void*) = (int (*)(void*))dlsym(driver, "cuCtxSetCurrent");
  int (*const allocate)(unsigned long long*, size_t) =
      (int (*)(unsigned long long*, size_t))dlsym(driver, "cuMemAlloc_v2");
  void* context = NULL;
  unsigned long long block = 0;
  if (init(0) != 0 || retain(&context, 0) != 0 || set_current(context) != 0 ||
      allocate(&block, bytes) != 0) {
    fprintf(stderr, "take_memory: the GPU's memory could not be had\n");
  }
}

static void* run(void* unused) {
  const char* const from = getenv("QF_TAKE_FROM");
  const double after = atof(getenv("QF_TAKE_AFTER"));
  const size_t bytes = strtoull(getenv("QF_TAKE_BYTES"), NULL, 10);
  struct timespec wait = {.tv_sec = (time_t)after};
  wait.tv_nsec = (long)((after - (double)wait.tv_sec) * 1e9);
  nanosleep(&wait, NULL);
  if (from != NULL && strcmp(from, "cuda") == 0) {
    take_device_memory(bytes);
  } else {
    take_main_memory(bytes);
  }
  return unused;
}

__attribute__((constructor)) static void begin(void) {
  if (getenv("QF_TAKE_AFTER") == NULL || getenv("QF_TAKE_BYTES") == NULL) return;
  pthread_t thread;
  if (pthread_create(&thread, NULL, run, NULL) == 0) pthread_detach(thread);
}
