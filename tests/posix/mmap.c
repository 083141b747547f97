/* SPDX-License-Identifier: Apache-2.0 */
/* mmap() of files: POSIX.1-2024 mmap, munmap, mprotect; mmap(2), mremap(2), madvise(2). */
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "tests/posix/posix.h"

#define PAGE 4096u
#define RW   (PROT_READ | PROT_WRITE)

static int open_filled(size_t len, unsigned seed)
{
    int fd;

    NEED(px_make_filled("f", len, seed) == 0);
    fd = open("f", O_RDWR);
    NEED(fd >= 0);
    return fd;
}

static uint8_t *map_file(int fd, size_t len, int prot, int flags)
{
    uint8_t *map = mmap(NULL, len, prot, flags, fd, 0);

    NEED(map != MAP_FAILED);
    return map;
}

static sigjmp_buf back;

static void on_fault(int number)
{
    siglongjmp(back, number);
}

/* The signal that a read (or a write) there gives, or 0. */
static int fault_at(volatile uint8_t *at, bool write)
{
    int number;

    (void)signal(SIGBUS, on_fault);
    (void)signal(SIGSEGV, on_fault);
    number = sigsetjmp(back, 1);
    if (number == 0) {
        uint8_t byte = *at;

        if (write) {
            *at = byte;
        }
    }
    return number;
}

/* Who may map what: by how the file is open. */

static void open_modes(void)
{
    static const struct {
        const char *name;
        int flags;
        bool shared_read, shared_write, private;
    } rows[] = {{"O_RDONLY", O_RDONLY, true, false, true},
                {"O_WRONLY", O_WRONLY, false, false, false},
                {"O_RDWR", O_RDWR, true, true, true},
                {"O_RDWR with O_APPEND", O_RDWR | O_APPEND, true, true, true}};

    NEED(px_make_filled("f", PAGE, 1) == 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct {
            const char *name;
            int prot, flags;
            bool may;
        } maps[] = {{"shared, to read", PROT_READ, MAP_SHARED, rows[i].shared_read},
                    {"shared, to write", PROT_WRITE, MAP_SHARED, rows[i].shared_write},
                    {"shared, to read and write", RW, MAP_SHARED, rows[i].shared_write},
                    {"shared, for nothing", PROT_NONE, MAP_SHARED, rows[i].shared_read},
                    {"private, to read", PROT_READ, MAP_PRIVATE, rows[i].private},
                    {"private, to read and write", RW, MAP_PRIVATE, rows[i].private}};
        int fd = open("f", rows[i].flags);

        NEED(fd >= 0);
        for (size_t k = 0; k < sizeof(maps) / sizeof(maps[0]); k++) {
            void *map = mmap(NULL, PAGE, maps[k].prot, maps[k].flags, fd, 0);

            if (maps[k].may) {
                CLAIM(map != MAP_FAILED, "%s, %s", rows[i].name, maps[k].name);
            } else {
                FAILS(map == MAP_FAILED ? -1 : 0, EACCES, "%s, %s", rows[i].name, maps[k].name);
            }
            NEED(map == MAP_FAILED || munmap(map, PAGE) == 0);
        }
        NEED(close(fd) == 0);
    }
}

static void protection(void)
{
    int fd = open_filled(PAGE, 1), r = open("f", O_RDONLY);
    uint8_t *map;

    NEED(r >= 0);
    map = map_file(r, PAGE, PROT_READ, MAP_SHARED);
    FAILS(mprotect(map, PAGE, RW), EACCES, "a file open for reading does not become writable");
    EQUAL(fault_at(map, true), SIGSEGV, "a store to what is mapped for reading");
    NEED(munmap(map, PAGE) == 0);
    map = map_file(r, PAGE, PROT_READ, MAP_PRIVATE);
    OK(mprotect(map, PAGE, RW), "a private mapping does");
    EQUAL(fault_at(map, true), 0, "and takes a store");
    NEED(munmap(map, PAGE) == 0);
    map = map_file(fd, PAGE, PROT_NONE, MAP_SHARED);
    EQUAL(fault_at(map, false), SIGSEGV, "a load from what is mapped for nothing");
    OK(mprotect(map, PAGE, RW), "a mapping of a file open for both becomes writable");
    EQUAL(fault_at(map, true), 0, "and is");
    NEED(munmap(map, PAGE) == 0);
    EQUAL(fault_at(map, false), SIGSEGV, "a load from what was unmapped");
    NEED(close(fd) == 0 && close(r) == 0);
}

static void bad_arguments(void)
{
    int fd = open_filled(PAGE, 1), dir = open(".", O_RDONLY), path = open("f", O_PATH), fifo;
    struct {
        const char *name;
        size_t len;
        int flags, fd, error;
        off_t at;
    } rows[] = {
        {"no length", 0, MAP_SHARED, fd, EINVAL, 0},
        {"neither shared nor private", PAGE, 0, fd, EINVAL, 0},
        {"an offset inside of a page", PAGE, MAP_SHARED, fd, EINVAL, 1},
        {"no descriptor", PAGE, MAP_SHARED, -1, EBADF, 0},
        {"an O_PATH descriptor", PAGE, MAP_SHARED, path, EBADF, 0},
        {"a directory", PAGE, MAP_SHARED, dir, ENODEV, 0},
        {"a FIFO", PAGE, MAP_SHARED, -1, ENODEV, 0},
        {"an unknown flag to be validated", PAGE, MAP_SHARED_VALIDATE | 1 << 24, fd, EOPNOTSUPP, 0},
        {"MAP_SYNC of what is no memory", PAGE, MAP_SHARED_VALIDATE | MAP_SYNC, fd, EOPNOTSUPP, 0},
        {"an end past the last offset", 2 * PAGE, MAP_SHARED, fd, EOVERFLOW, INT64_MAX - PAGE + 1}};

    NEED(mkfifo("p", 0644) == 0);
    fifo = open("p", O_RDWR);
    rows[6].fd = fifo;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        void *map = mmap(NULL, rows[i].len, PROT_READ, rows[i].flags, rows[i].fd, rows[i].at);

        FAILS(map == MAP_FAILED ? -1 : 0, rows[i].error, "%s", rows[i].name);
    }
    NEED(close(fd) == 0 && close(dir) == 0 && close(path) == 0 && close(fifo) == 0);
}

/* What a mapping shows, for many sizes: the file, zeroes to the page's end, SIGBUS behind it. */

static void the_end(void)
{
    static const size_t sizes[] = {1, 100, 4095, 4096, 4097, 100000};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t size = sizes[i], pages = (size + PAGE - 1) / PAGE * PAGE;
        int fd = open_filled(size, 1);
        uint8_t *map = map_file(fd, pages + 2 * PAGE, RW, MAP_SHARED), byte;

        CLAIM(px_is_filled(map, size, 0, 1), "%zu bytes: the file", size);
        CLAIM(px_is_zero(map + size, pages - size), "%zu bytes: zeroes to the page's end", size);
        EQUAL(fault_at(map + pages, false), SIGBUS, "%zu bytes: a load from the page behind", size);
        EQUAL(fault_at(map + pages, true), SIGBUS, "%zu bytes: a store to the page behind", size);
        if (size < pages) {
            map[pages - 1] = 7;
            OK(msync(map, pages, MS_SYNC), "%zu bytes: something is stored behind the end", size);
            EQUAL(px_stat("f").st_size, size, "%zu bytes: the size does not change with it", size);
            NEED(ftruncate(fd, (off_t)pages) == 0);
            EQUAL(pread(fd, &byte, 1, (off_t)pages - 1), 1, "%zu bytes: the file grows", size);
            EQUAL(byte, 0, "%zu bytes: and does not show what was stored behind its end", size);
        }
        NEED(ftruncate(fd, (off_t)pages + 1) == 0);
        EQUAL(fault_at(map + pages, true), 0, "%zu bytes: the page behind is there when it grew",
              size);
        NEED(munmap(map, pages + 2 * PAGE) == 0 && close(fd) == 0);
    }
}

static void cut(void)
{
    for (int is_private = 0; is_private < 2; is_private++) {
        const char *name = is_private ? "private" : "shared";
        int fd = open_filled(4 * PAGE, 1);
        uint8_t *map = map_file(fd, 4 * PAGE, RW, is_private ? MAP_PRIVATE : MAP_SHARED);

        map[2 * PAGE] = 9;
        CLAIM(px_is_filled(map, 2 * PAGE, 0, 1), "%s: all is there before", name);
        NEED(ftruncate(fd, PAGE + 100) == 0);
        EQUAL(fault_at(map + 2 * PAGE, false), SIGBUS, "%s: a page that was cut off", name);
        CLAIM(px_is_filled(map, PAGE + 100, 0, 1), "%s: what is left", name);
        CLAIM(px_is_zero(map + PAGE + 100, PAGE - 100), "%s: zeroes in the page of the end", name);
        NEED(ftruncate(fd, 4 * PAGE) == 0);
        EQUAL(fault_at(map + 2 * PAGE, false), 0, "%s: the page is there again", name);
        CLAIM(px_is_zero(map + PAGE + 100, 3 * PAGE - 100), "%s: and is zero", name);
        NEED(munmap(map, 4 * PAGE) == 0 && close(fd) == 0);
    }
}

/* Mappings, reads and writes of one file agree, without msync. */

static void agree(void)
{
    int fd = open_filled(64 * PAGE, 1), other = open("f", O_RDWR);
    uint8_t *map = map_file(fd, 64 * PAGE, RW, MAP_SHARED), bytes[5000];
    uint8_t *twin = map_file(other, 64 * PAGE, PROT_READ, MAP_SHARED);

    for (unsigned i = 0; i < 20; i++) {
        size_t at = i * 12345 % (60 * PAGE);

        px_fill(map + at, 5000, at, i + 10);
        CLAIM(px_holds(other, at, 5000, i + 10), "what is stored is read through another open, %u",
              i);
        CLAIM(px_is_filled(twin + at, 5000, at, i + 10), "and seen in another mapping, %u", i);
        px_fill(bytes, 5000, at + 777, i + 40);
        NEED(pwrite(other, bytes, 5000, (off_t)at + 777) == 5000);
        CLAIM(px_is_filled(map + at + 777, 5000, at + 777, i + 40),
              "what is written is seen in the mapping, %u", i);
        CLAIM(px_is_filled(map + at, 777, at, i + 10), "beside what was stored, %u", i);
    }
    memcpy(bytes, map, 5000);
    NEED(munmap(map, 64 * PAGE) == 0 && munmap(twin, 64 * PAGE) == 0);
    NEED(close(fd) == 0 && close(other) == 0);
    fd = open("f", O_RDONLY);
    NEED(fd >= 0 && pread(fd, bytes + 100, 4000, 100) == 4000);
    map = map_file(fd, PAGE, PROT_READ, MAP_SHARED);
    CLAIM(memcmp(bytes, map, PAGE) == 0, "a new mapping shows what the last one did");
    NEED(munmap(map, PAGE) == 0 && close(fd) == 0);
}

static void written_into_itself(void)
{
    int fd = open_filled(4 * PAGE, 1);
    uint8_t *map = map_file(fd, 4 * PAGE, RW, MAP_SHARED);

    EQUAL(pwrite(fd, map, 2 * PAGE, 2 * PAGE), 2 * PAGE, "a file is written from its own mapping");
    CLAIM(px_is_filled(map + 2 * PAGE, 2 * PAGE, 0, 1), "and holds it");
    EQUAL(pread(fd, map + PAGE, PAGE, 0), PAGE, "a file is read into its own mapping");
    CLAIM(px_is_filled(map + PAGE, PAGE, 0, 1), "which shows it");
    CLAIM(px_holds(fd, 0, PAGE, 1), "what was read stays");
    NEED(munmap(map, 4 * PAGE) == 0 && close(fd) == 0);
}

static void private_ones(void)
{
    int fd = open_filled(2 * PAGE, 1);
    uint8_t *map = map_file(fd, 2 * PAGE, RW, MAP_PRIVATE);

    px_fill(map, PAGE, 0, 2);
    CLAIM(px_holds(fd, 0, 2 * PAGE, 1), "a store to a private mapping does not reach the file");
    CLAIM(px_is_filled(map, PAGE, 0, 2), "but is seen in it");
    OK(msync(map, 2 * PAGE, MS_SYNC), "msync of a private mapping");
    CLAIM(px_holds(fd, 0, 2 * PAGE, 1), "changes nothing");
    OK(madvise(map, PAGE, MADV_DONTNEED), "MADV_DONTNEED");
    CLAIM(px_is_filled(map, PAGE, 0, 1), "shows the file again");
    NEED(munmap(map, 2 * PAGE) == 0 && close(fd) == 0);
}

/* What outlives the descriptor, and the name. */

static void outlives(void)
{
    int fd = open_filled(4 * PAGE, 1), again;
    uint8_t *map = map_file(fd, 4 * PAGE, RW, MAP_SHARED);

    NEED(close(fd) == 0);
    CLAIM(px_is_filled(map, 4 * PAGE, 0, 1),
          "the descriptor is closed: the mapping shows the file");
    px_fill(map, PAGE, 0, 2);
    again = open("f", O_RDONLY);
    NEED(again >= 0);
    CLAIM(px_holds(again, 0, PAGE, 2), "a store after the close is read through a new descriptor");
    NEED(close(again) == 0 && unlink("f") == 0);
    CLAIM(px_is_filled(map, PAGE, 0, 2), "the name is gone: the mapping shows the file");
    CLAIM(px_is_filled(map + 2 * PAGE, 2 * PAGE, 2 * PAGE, 1), "pages not touched before as well");
    px_fill(map + PAGE, PAGE, PAGE, 3);
    OK(msync(map, 4 * PAGE, MS_SYNC), "msync without a name");
    NEED(px_make_filled("f", 4 * PAGE, 4) == 0);
    CLAIM(px_is_filled(map + PAGE, PAGE, PAGE, 3), "another file of that name is another file");
    again = open("f", O_RDONLY);
    CLAIM(px_holds(again, 0, 4 * PAGE, 4), "which shows nothing of the mapping");
    NEED(munmap(map, 4 * PAGE) == 0 && close(again) == 0);
}

static int child_stores(void *arg)
{
    uint8_t *map = arg;
    int fd = open("f", O_RDWR);
    uint8_t *own = mmap(NULL, 2 * PAGE, RW, MAP_SHARED, fd, 0);

    if (own == MAP_FAILED || !px_is_filled(own, PAGE, 0, 2) || !px_is_filled(map, PAGE, 0, 2)) {
        return 1;
    }
    px_fill(own + PAGE, PAGE, PAGE, 3);
    map[0] = 77;
    return 0;
}

static void between_processes(void)
{
    int fd = open_filled(2 * PAGE, 1);
    uint8_t *map = map_file(fd, 2 * PAGE, RW, MAP_SHARED);

    px_fill(map, PAGE, 0, 2);
    EQUAL(px_child(child_stores, map), 0, "a child sees what was stored, in both its mappings");
    CLAIM(px_is_filled(map + PAGE, PAGE, PAGE, 3), "what it stores in its own is seen here");
    EQUAL(map[0], 77, "and in the inherited one");
    CLAIM(px_holds(fd, PAGE, PAGE, 3), "and read from the file");
    NEED(munmap(map, 2 * PAGE) == 0 && close(fd) == 0);
}

static void times(void)
{
    int fd = open_filled(PAGE, 1);
    uint8_t *map = map_file(fd, PAGE, RW, MAP_SHARED);
    const struct timespec old[2] = {{.tv_sec = 1000000}, {.tv_sec = 1000000}};
    struct stat before;

    NEED(fsync(fd) == 0);
    before = px_stat("f");
    px_tick();
    map[5] = 1;
    NEED(msync(map, PAGE, MS_SYNC) == 0);
    CLAIM(px_later(px_stat("f").st_mtim, before.st_mtim), "a store moves mtime on by the msync");
    CLAIM(px_later(px_stat("f").st_ctim, before.st_ctim), "and ctime");
    map[6] = 1;
    CLAIM(futimens(fd, old) == 0 && px_stat("f").st_mtim.tv_sec == 1000000, "it can be set back");
    NEED(munmap(map, PAGE) == 0 && close(fd) == 0);
    CLAIM(px_stat("f").st_mtim.tv_sec == 1000000,
          "and what was stored before that does not move it on when the mapping goes");
}

static void moved_and_advised(void)
{
    int fd = open_filled(64 * PAGE, 1);
    uint8_t *map = map_file(fd, 2 * PAGE, RW, MAP_SHARED);

    map = mremap(map, 2 * PAGE, 64 * PAGE, MREMAP_MAYMOVE);
    CLAIM(map != MAP_FAILED, "a mapping is made longer");
    NEED(map != MAP_FAILED);
    CLAIM(px_is_filled(map, 64 * PAGE, 0, 1), "and shows more of the file");
    OK(madvise(map, 64 * PAGE, MADV_WILLNEED), "MADV_WILLNEED");
    OK(madvise(map, 64 * PAGE, MADV_RANDOM), "MADV_RANDOM");
    px_fill(map, PAGE, 0, 2);
    OK(madvise(map, 64 * PAGE, MADV_DONTNEED), "MADV_DONTNEED of a shared mapping");
    CLAIM(px_is_filled(map, PAGE, 0, 2), "loses no store");
    OK(madvise(map + PAGE, PAGE, MADV_REMOVE), "MADV_REMOVE");
    CLAIM(px_is_zero(map + PAGE, PAGE), "makes a hole");
    CLAIM(px_holds(fd, PAGE, PAGE, 0) && px_holds(fd, 2 * PAGE, 62 * PAGE, 1), "of just that");
    NEED(munmap(map, 64 * PAGE) == 0 && close(fd) == 0);
}

static void sparse(void)
{
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    const size_t len = (size_t)64 << 20;
    uint8_t *map;
    bool right = true;

    NEED(fd >= 0 && ftruncate(fd, (off_t)len) == 0);
    map = map_file(fd, len, RW, MAP_SHARED);
    for (size_t at = 0; at < len; at += (size_t)3 << 20) {
        right = right && map[at] == 0;
        px_fill(map + at, 10, at, 5);
    }
    CLAIM(right, "holes are zero in a mapping");
    OK(msync(map, len, MS_SYNC), "stores to holes are synced");
    NEED(munmap(map, len) == 0);
    for (size_t at = 0; at < len; at += (size_t)3 << 20) {
        right = right && px_holds(fd, at, 10, 5) && px_holds(fd, at + 10, 1000, 0);
    }
    CLAIM(right, "and are in the file");
    CLAIM(px_stat("f").st_blocks < (blkcnt_t)(len / 512 / 2), "which is sparse still");
    NEED(close(fd) == 0);
}

/* Two mounts: what was msynced is seen by a mapping made after. */

static void seen_elsewhere(void)
{
    static const size_t sizes[] = {100, PAGE, 100000, (size_t)3 << 20};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t size = sizes[i];
        int fd = open_filled(size, 1), there;
        uint8_t *map = map_file(fd, size, RW, MAP_SHARED), *seen;

        NEED(fsync(fd) == 0);
        there = open(px_other("f"), O_RDONLY);
        NEED(there >= 0);
        seen = map_file(there, size, PROT_READ, MAP_SHARED);
        CLAIM(px_is_filled(seen, size, 0, 1), "%zu bytes written here are mapped there", size);
        NEED(munmap(seen, size) == 0 && close(there) == 0);
        px_fill(map, size, 0, 2);
        OK(msync(map, size, MS_SYNC), "%zu bytes are msynced here", size);
        there = open(px_other("f"), O_RDWR);
        NEED(there >= 0);
        seen = map_file(there, size, RW, MAP_SHARED);
        CLAIM(px_is_filled(seen, size, 0, 2), "%zu msynced bytes are mapped there", size);
        NEED(munmap(map, size) == 0 && close(fd) == 0);
        px_fill(seen, size, 0, 3);
        NEED(munmap(seen, size) == 0 && close(there) == 0);
        fd = open("f", O_RDONLY);
        NEED(fd >= 0);
        CLAIM(px_holds(fd, 0, size, 3), "%zu bytes unmapped and closed there are read here", size);
        NEED(close(fd) == 0);
    }
}

const struct px_group px_mmap[] = {
    {"open-modes", open_modes, 0},
    {"protection", protection, 0},
    {"bad-arguments", bad_arguments, 0},
    {"the-end", the_end, 0},
    {"cut", cut, 0},
    {"agree", agree, 0},
    {"written-into-itself", written_into_itself, 0},
    {"private-ones", private_ones, 0},
    {"outlives", outlives, 0},
    {"between-processes", between_processes, 0},
    {"times", times, 0},
    {"moved-and-advised", moved_and_advised, 0},
    {"sparse", sparse, 0},
    {"seen-elsewhere", seen_elsewhere, PX_TWO},
    {NULL, NULL, 0},
};
