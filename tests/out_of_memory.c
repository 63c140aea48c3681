/* Stands before the C library's allocator (LD_PRELOAD) and fails where `out_of_memory.py` says.

   While armed, the first `passes` requests for memory go through and the next `failures` fail. Those
   of the OpenMP runtime always go through: it ends the process where it gets no memory, which nobody
   can catch. Freeing never fails. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

/* The GNU C library's own, under names that are not replaced. */
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t),
    *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static atomic_int armed;
static atomic_long requests, first, last, bytes;

static int by_openmp(void *caller) {
  Dl_info info;
  return dladdr(caller, &info) && info.dli_fname && strstr(info.dli_fname, "omp");
}

static int fails(void *caller) {
  if (!armed || by_openmp(caller)) return 0;
  long i = requests++;
  if (i < first || i >= last) return 0;
  errno = ENOMEM;
  return 1;
}

static void *counted(void *block) {
  if (block) bytes += malloc_usable_size(block);
  return block;
}

#define CALLER __builtin_return_address(0)

void *malloc(size_t size) { return fails(CALLER) ? NULL : counted(__libc_malloc(size)); }

void *calloc(size_t count, size_t size) {
  return fails(CALLER) ? NULL : counted(__libc_calloc(count, size));
}

void *realloc(void *block, size_t size) {
  if (fails(CALLER)) return NULL;
  size_t before = block ? malloc_usable_size(block) : 0;
  void *larger = __libc_realloc(block, size);
  if (larger || !size) bytes -= before;
  return counted(larger);
}

void *memalign(size_t alignment, size_t size) {
  return fails(CALLER) ? NULL : counted(__libc_memalign(alignment, size));
}

void *aligned_alloc(size_t alignment, size_t size) {
  return fails(CALLER) ? NULL : counted(__libc_memalign(alignment, size));
}

int posix_memalign(void **block, size_t alignment, size_t size) {
  if (fails(CALLER)) return ENOMEM;
  void *found = counted(__libc_memalign(alignment, size));
  if (!found) return ENOMEM;
  *block = found;
  return 0;
}

void free(void *block) {
  if (block) bytes -= malloc_usable_size(block);
  __libc_free(block);
}

void oom_arm(long passes, long failures) {
  requests = 0;
  first = passes;
  last = passes + failures;
  armed = 1;
}

/* How many requests there were. */
long oom_disarm(void) {
  armed = 0;
  return requests;
}

/* Bytes that were got and not given back. */
long oom_bytes(void) { return bytes; }
