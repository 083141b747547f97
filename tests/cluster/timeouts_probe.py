# SPDX-License-Identifier: Apache-2.0
"""One call on a mount whose cluster does not answer: what came of it, and after how long.

    timeouts_probe.py CALL PATH      prints "CALL RESULT SECONDS"; RESULT is ok or an errno's name
"""
import errno
import fcntl
import mmap
import os
import sys
import time

BIG = 40 << 20  # more than the test's mounts may hold dirty


def fill(fd):
    for _ in range(BIG >> 20):
        os.write(fd, b"f" * (1 << 20))


def msync(fd):
    with mmap.mmap(fd, 1 << 20) as m:  # more than goes into the metadata log
        m[:] = b"mmap" * (1 << 18)
        m.flush()


CALLS = {
    "fsync": lambda fd, path: (os.pwrite(fd, b"fsync" * 100000, 0), os.fsync(fd)),
    "close": lambda fd, path: (os.pwrite(fd, b"close" * 100000, 0), os.close(fd)),
    "fill": lambda fd, path: fill(fd),
    "msync": lambda fd, path: msync(fd),
    "direct": lambda fd, path: os.write(os.open(path, os.O_WRONLY | os.O_DIRECT),
                                        mmap.mmap(-1, 1 << 20)),
    "open": lambda fd, path: os.open(path + ".new", os.O_CREAT | os.O_WRONLY),
    "stat": lambda fd, path: os.stat(path + ".none"),
    "list": lambda fd, path: os.listdir(os.path.dirname(path)),
    "lock": lambda fd, path: fcntl.lockf(fd, fcntl.LOCK_EX),
    "rename": lambda fd, path: os.rename(path, path + ".moved"),
    "read": lambda fd, path: os.pread(fd, 4096, 4 << 20),
}


def main():
    call, path = sys.argv[1:]
    fd = os.open(path, os.O_RDWR)
    print("ready", flush=True)
    sys.stdin.readline()
    begun = time.monotonic()
    try:
        CALLS[call](fd, path)
        result = "ok"
    except OSError as e:
        result = errno.errorcode[e.errno]
    print(call, result, round(time.monotonic() - begun, 1), flush=True)
    os._exit(0)  # without the close, which is a call of its own


main()
