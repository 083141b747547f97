#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The include law: which room may include which, where third-party headers may stand, and that the
world (clock, network, disk, threads, randomness) is touched in common/env alone.

Exits 1 and lists every breach."""
import os
import re
import subprocess
import sys

# room -> rooms below it that it may include (its own is always allowed)
BASE = ["common/base"]
COMMON = BASE + ["common/env", "common/log", "common/checksum"]
LAW = {
    "common/base": [],
    "common/env": BASE,
    "common/log": BASE,
    "common/checksum": BASE,
    "common/config": BASE + ["common/log"],
    "common/metrics": BASE,
    "common/table": COMMON,
    "common/placement": BASE + ["common/checksum"],
    "common/wire": COMMON + ["common/placement", "proto"],
    "common/rpc": COMMON,
    "proto": [],
    "server/seglog": COMMON,
    "server/raft": COMMON + ["server/seglog"],
    "server/store": COMMON + ["common/table", "server/seglog"],
    "server/meta": COMMON + ["common/table", "common/placement", "common/wire"],
    "server/repair": COMMON + ["common/placement"],
    "server/node": COMMON + ["common/table", "common/placement", "common/wire", "common/rpc",
                             "common/config", "common/metrics", "server/store", "server/raft",
                             "server/meta", "server/repair"],
    "server": COMMON + ["common/config", "server/node"],
    "client/meta": COMMON + ["common/placement", "common/wire", "common/rpc"],
    "client/io": COMMON + ["common/placement", "common/wire", "common/rpc", "client/meta"],
    "client/fs": COMMON + ["common/placement", "common/wire", "client/meta", "client/io"],
    "client/fuse": COMMON + ["common/placement", "common/wire", "common/rpc", "client/meta",
                             "client/io", "client/fs"],
    "client/cli": COMMON + ["common/placement", "common/wire", "common/rpc", "common/config",
                            "client/meta", "client/io", "client/fuse"],
}

# file -> rooms that it may include beyond what its room may
FILES = {
    "server/raft/wire.c": ["common/wire", "proto"],  # encodes; the core beside it stays pure
}

# third-party header -> rooms or files where it may stand
THIRD = {
    r"event2/.*": ["common/env"],
    r"systemd/.*": ["common/env"],
    r"lmdb\.h": ["common/table"],
    r"fuse_.*\.h|fuse3/.*|linux/fuse\.h": ["client/fuse"],
    r"openssl/.*": ["common/rpc"],
    r"xxh.*\.h": ["common/checksum"],
    r"confuse\.h": ["common/config"],
    r"protobuf-c/.*|proto/.*\.pb-c\.h|holdfast\.pb-c\.h": ["common/wire", "server/raft/wire.c"],
}

# calls that belong to common/env (client/cli is a program beside the cluster's code; the log sink stands
# outside every environment and stamps its lines by itself)
WORLD = re.compile(r"(?<![\w.>])(clock_gettime|gettimeofday|getrandom|rand|random|srand|socket|"
                   r"connect|bind|listen|accept4?|fsync|fdatasync|pwritev?|preadv?|"
                   r"pthread_create|eventfd|epoll_\w+)\s*\(")
WORLD_FREE = ("common/env/", "common/log/", "client/cli/", "tests/", "bench/")


def room_of(path):
    rooms = [r for r in LAW if path.startswith(r + "/")]
    return max(rooms, key=len) if rooms else None


def strip_comments(text):
    text = re.sub(r"/\*.*?\*/", lambda m: "\n" * m.group().count("\n"), text, flags=re.S)
    text = re.sub(r'"(\\.|[^"\\\n])*"', '""', text)
    return re.sub(r"//[^\n]*", "", text)


def check(path, text):
    room = room_of(path)
    if room:
        for m in re.finditer(r'^#include "([^"]+)"', text, re.M):
            line = text[:m.start()].count("\n") + 1
            target = room_of(m[1])
            if target and target != room and target not in LAW[room] + FILES.get(path, []):
                yield f"{path}:{line}: {room} may not include {target} ({m[1]})"
            if "/" not in m[1] and not m[1].endswith(".pb-c.h"):
                yield f'{path}:{line}: "{m[1]}": paths are from the root'
        for m in re.finditer(r'^#include [<"]([^>"]+)[>"]', text, re.M):
            line = text[:m.start()].count("\n") + 1
            for pattern, rooms in THIRD.items():
                if re.fullmatch(pattern, m[1]) and not {room, path} & set(rooms):
                    yield f"{path}:{line}: <{m[1]}> belongs in {', '.join(rooms)}"
    if not path.startswith(WORLD_FREE):
        code = strip_comments(text)
        for m in WORLD.finditer(code):
            line = code[:m.start()].count("\n") + 1
            yield f"{path}:{line}: {m[1]}() is reached through struct hf_env only"


def main():
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.c", "*.h"],
                           check=True, capture_output=True, text=True).stdout.split()
    breaches = []
    for path in files:
        if os.path.exists(path):
            with open(path, encoding="utf-8") as f:
                breaches += check(path, f.read())
    for b in breaches:
        print(b)
    print(f"include law: {len(files)} files, {len(breaches)} breaches")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
