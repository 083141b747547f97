# SPDX-License-Identifier: Apache-2.0
"""locker.py flock|fcntl FILE: wait for the lock, say so, hold it until stdin closes.
locker.py count FILE N: add one to the number in FILE, N times, each under the lock."""
import fcntl
import os
import sys

kind, path = sys.argv[1:3]
fd = os.open(path, os.O_RDWR)
if kind == "count":
    for i in range(int(sys.argv[3])):
        fcntl.flock(fd, fcntl.LOCK_EX)
        again = os.open(path, os.O_RDWR)  # close-to-open: a new open sees the last close
        value = int(os.pread(again, 20, 0))
        os.pwrite(again, b"%d" % (value + 1), 0)
        os.close(again)
        fcntl.flock(fd, fcntl.LOCK_UN)
    sys.exit()
print("waiting", flush=True)
(fcntl.flock if kind == "flock" else fcntl.lockf)(fd, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
