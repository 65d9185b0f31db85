/* Wall time as a test wants it, for one program (LD_PRELOAD): so many seconds off, kept by NTP or not.
 *
 * The file that WRONG_TIME names holds two numbers of 64 bits, which may change at any time.
 * Monotonic time stays the kernel's. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *wanted;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("WRONG_TIME");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *page = mmap(NULL, 16, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (page != MAP_FAILED)
        wanted = page;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int status = syscall(SYS_clock_gettime, clock, now);
    if (status == 0 && wanted && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += wanted[0];
    return status;
}

time_t time(time_t *into)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (into)
        *into = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

int adjtimex(struct timex *kernel)
{
    int status = syscall(SYS_adjtimex, kernel);
    if (wanted) {
        kernel->status = wanted[1] ? kernel->status & ~STA_UNSYNC : kernel->status | STA_UNSYNC;
        return wanted[1] ? TIME_OK : TIME_ERROR;
    }
    return status;
}
