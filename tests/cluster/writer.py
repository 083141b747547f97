# SPDX-License-Identifier: Apache-2.0
"""writer.py FILE SEED BYTES...: write that many bytes, say so, wait for a line; the next; close."""
import os
import sys

import content

path, seed = sys.argv[1], int(sys.argv[2])
fd = os.open(path, os.O_WRONLY | os.O_CREAT)
at = 0
for size in map(int, sys.argv[3:]):
    at += os.write(fd, content.data(seed, at, size))
    print(at, flush=True)
    sys.stdin.readline()
os.close(fd)
