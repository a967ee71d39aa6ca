// Loaded before a program's own libraries (LD_PRELOAD), it makes the program's wall clock wrong by the number of
// seconds in the file that WRONG_CLOCK_FILE names: 8 bytes, which may change at any time. The monotonic clock stays
// right, as on a machine whose date is wrong. Debian's faketime does the same, but not to a program with jemalloc,
// which Redis is: it asks for the time before faketime is ready.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *offset_sec;

__attribute__((constructor)) static void find_offset(void) {
  const char *file = getenv("WRONG_CLOCK_FILE");
  int fd = file == NULL ? -1 : open(file, O_RDONLY | O_CLOEXEC);
  if (fd < 0) abort();
  void *page = mmap(NULL, sizeof *offset_sec, PROT_READ, MAP_SHARED, fd, 0);
  if (page == MAP_FAILED) abort();
  close(fd);
  offset_sec = page;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
  long result = syscall(SYS_clock_gettime, clock, at);
  int is_wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
  if (result == 0 && is_wall && offset_sec != NULL) at->tv_sec += *offset_sec;
  return (int)result;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
  (void)zone;
  struct timespec now;
  int result = clock_gettime(CLOCK_REALTIME, &now);
  at->tv_sec = now.tv_sec;
  at->tv_usec = now.tv_nsec / 1000;
  return result;
}

time_t time(time_t *at) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (at != NULL) *at = now.tv_sec;
  return now.tv_sec;
}
