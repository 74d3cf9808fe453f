// Calls of the C library that fail on demand: those that change files below one directory, and those that ask for
// memory; and a clock that jumps. checks/failing_calls.py compiles this file and has it loaded before all other
// libraries.
//
// While armed, calls are counted, and the one with the given number fails. A full disk stays full: later calls that
// need room fail too. So does every later change on a disk that has become read-only.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum Kind { kNeedsRoom, kChanges, kSyncs };

static char directory[PATH_MAX];
static atomic_long file_calls, memory_calls, failing_file_call, failing_memory_call;
static atomic_int files_armed, memory_armed, file_error;
static size_t least_bytes;
static char last_failure[PATH_MAX + 64];

// Makes call number `number` (from 1; 0: none) below `path` fail with `error`, and starts counting.
void fail_file_call(const char* path, long number, int error) {
  snprintf(directory, sizeof directory, "%s", path);
  last_failure[0] = 0;
  file_error = error;
  failing_file_call = number;
  file_calls = 0;
  files_armed = 1;
}

// Makes request number `number` (from 1; 0: none) for at least `bytes` of memory fail, and starts counting.
void fail_memory_call(long number, size_t bytes) {
  least_bytes = bytes;
  failing_memory_call = number;
  memory_calls = 0;
  memory_armed = 1;
}

// Stops; returns the number of calls that were counted.
long count_file_calls(void) {
  files_armed = 0;
  return file_calls;
}
long count_memory_calls(void) {
  memory_armed = 0;
  return memory_calls;
}

// Whether requests for memory are counted and refused.
void pause_memory_calls(int paused) { memory_armed = !paused; }

// The call that failed first, and its file.
const char* failed_call(void) { return last_failure; }

static int fails(const char* name, const char* path, enum Kind kind) {
  const size_t length = strlen(directory);
  if (!files_armed || strncmp(path, directory, length) != 0 || (path[length] != '/' && path[length] != 0)) return 0;
  const long number = atomic_fetch_add(&file_calls, 1) + 1;
  const long failing = failing_file_call;
  if (failing == 0 || number < failing) return 0;
  const int error = file_error;
  const int full = error == ENOSPC || error == EDQUOT;
  if (number == failing ? full && kind == kChanges
                        : !((full && kind == kNeedsRoom) || (error == EROFS && kind != kSyncs)))
    return 0;
  if (last_failure[0] == 0) snprintf(last_failure, sizeof last_failure, "%s %s", name, path);
  errno = error;
  return 1;
}

static int descriptor_fails(const char* name, int descriptor, enum Kind kind) {
  if (!files_armed) return 0;
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  const ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return fails(name, path, kind);
}

static int is_writable(int descriptor) {
  const int flags = fcntl(descriptor, F_GETFL);
  return flags >= 0 && (flags & O_ACCMODE) != O_RDONLY;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int descriptor, const void* data, size_t bytes) {
  if (descriptor_fails("write", descriptor, kNeedsRoom)) return -1;
  return NEXT(write)(descriptor, data, bytes);
}

ssize_t pwrite64(int descriptor, const void* data, size_t bytes, off64_t offset) {
  if (descriptor_fails("pwrite", descriptor, kNeedsRoom)) return -1;
  return NEXT(pwrite64)(descriptor, data, bytes, offset);
}

int ftruncate64(int descriptor, off64_t size) {
  if (descriptor_fails("ftruncate", descriptor, kChanges)) return -1;
  return NEXT(ftruncate64)(descriptor, size);
}

int fsync(int descriptor) {
  if (descriptor_fails("fsync", descriptor, kSyncs)) return -1;
  return NEXT(fsync)(descriptor);
}

int fchmod(int descriptor, mode_t mode) {
  if (descriptor_fails("fchmod", descriptor, kChanges)) return -1;
  return NEXT(fchmod)(descriptor, mode);
}

int close(int descriptor) {
  const int failed = files_armed && is_writable(descriptor) && descriptor_fails("close", descriptor, kSyncs);
  const int result = NEXT(close)(descriptor);
  if (failed) errno = file_error;
  return failed ? -1 : result;
}

int rename(const char* from, const char* to) {
  if (fails("rename", to, kNeedsRoom)) return -1;
  return NEXT(rename)(from, to);
}

int unlink(const char* path) {
  if (fails("unlink", path, kChanges)) return -1;
  return NEXT(unlink)(path);
}

int mkdir(const char* path, mode_t mode) {
  if (fails("mkdir", path, kNeedsRoom)) return -1;
  return NEXT(mkdir)(path, mode);
}

static int open_for_writing_fails(const char* path, int flags) {
  return (flags & O_ACCMODE) != O_RDONLY && fails("open", path, flags & O_CREAT ? kNeedsRoom : kChanges);
}

int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  if (open_for_writing_fails(path, flags)) return -1;
  return NEXT(open64)(path, flags, mode);
}

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  if (open_for_writing_fails(path, flags)) return -1;
  return NEXT(open)(path, flags, mode);
}

extern void* __libc_malloc(size_t);
extern void* __libc_calloc(size_t, size_t);
extern void* __libc_realloc(void*, size_t);
extern void* __libc_memalign(size_t, size_t);

static int memory_fails(size_t bytes) {
  if (!memory_armed || bytes < least_bytes) return 0;
  return atomic_fetch_add(&memory_calls, 1) + 1 == failing_memory_call;
}

static void* refuse(void) {
  errno = ENOMEM;
  return NULL;
}

void* malloc(size_t bytes) { return memory_fails(bytes) ? refuse() : __libc_malloc(bytes); }
void* calloc(size_t count, size_t bytes) {
  return memory_fails(count * bytes) ? refuse() : __libc_calloc(count, bytes);
}
void* realloc(void* data, size_t bytes) { return memory_fails(bytes) ? refuse() : __libc_realloc(data, bytes); }
void* memalign(size_t alignment, size_t bytes) {
  return memory_fails(bytes) ? refuse() : __libc_memalign(alignment, bytes);
}
void* aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }
int posix_memalign(void** result, size_t alignment, size_t bytes) {
  void* const data = memalign(alignment, bytes);
  if (data == NULL) return ENOMEM;
  *result = data;
  return 0;
}

void* mmap64(void* address, size_t bytes, int protection, int flags, int descriptor, off64_t offset) {
  if ((flags & MAP_ANONYMOUS) && memory_fails(bytes)) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  return (void*)syscall(SYS_mmap, address, bytes, protection, flags, descriptor, offset);
}
void* mmap(void* address, size_t bytes, int protection, int flags, int descriptor, off_t offset) {
  return mmap64(address, bytes, protection, flags, descriptor, offset);
}

static atomic_long clock_shift;

// Sets the clock, as far as the process sees it through the C library, so many seconds ahead of the machine's.
void shift_clock(long seconds) { clock_shift = seconds; }

int clock_gettime(clockid_t clock, struct timespec* result) {
  const int failed = (int)syscall(SYS_clock_gettime, clock, result);
  if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) result->tv_sec += clock_shift;
  return failed;
}

time_t time(time_t* result) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (result != NULL) *result = now.tv_sec;
  return now.tv_sec;
}
