# SPDX-License-Identifier: Apache-2.0
"""worker.py files|append|names|read PATH SEED: work in a mount until stdin closes.

Each line of stdout is what has been acknowledged: "INDEX MILLISECONDS"; a failed call ends the
worker with its error. What it wrote follows from the seed, so the test can check it all.

    files   PATH/INDEX, of size_of(INDEX) bytes, fsynced
    append  PATH grows by 64 KiB, fsynced, each
    names   in PATH, each step by calls that would fail when applied twice: create exclusively, link,
            mkdir, rename without replacing, unlink
    read    PATH (a file of SEED, as large as it is) over and over, checked
"""
import os
import select
import sys
import time

import content

CHUNK = 65536


def size_of(index):
    return (4096, 10_000, 300_000, 1 << 20, 5_000_001)[index % 5]


def one_file(path, seed, i):
    fd = os.open(f"{path}/{i}", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    data = content.data(seed + i, 0, size_of(i))
    at = 0
    while at < len(data):
        at += os.write(fd, data[at:at + (1 << 20)])
    os.fsync(fd)
    os.close(fd)


def one_append(path, seed, i):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    assert os.write(fd, content.data(seed, i * CHUNK, CHUNK)) == CHUNK
    os.fsync(fd)
    os.close(fd)


def one_name(path, _seed, i):
    if i == 0:
        os.close(os.open(f"{path}/base", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    os.close(os.open(f"{path}/new{i}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    os.link(f"{path}/base", f"{path}/link{i}")
    os.mkdir(f"{path}/dir{i}")
    os.rename(f"{path}/new{i}", f"{path}/dir{i}/moved")
    if i % 2:
        os.unlink(f"{path}/dir{i}/moved")
        os.rmdir(f"{path}/dir{i}")


def one_read(path, seed, i):
    content.check_file(path, seed, os.stat(path).st_size)


def check_names(path, steps, more=1):
    """The directory is what `steps` acknowledged steps make of it, or up to `more` further ones."""
    names = os.listdir(path)
    links = sum(n.startswith("link") for n in names)
    assert os.stat(f"{path}/base").st_nlink == links + 1
    assert steps <= links <= steps + more, f"{links} links after {steps} steps"
    assert {f"link{i}" for i in range(links)} <= set(names)
    want = {f"dir{i}" for i in range(0, steps, 2)}
    have = {n for n in names if n.startswith("dir")}
    assert want <= have and all(int(n[3:]) >= steps or n in want for n in have), have ^ want
    assert all(os.listdir(f"{path}/{n}") == ["moved"] for n in want)
    assert os.stat(path).st_nlink == 2 + len(have)
    assert all(int(n[3:]) >= steps for n in names if n.startswith("new"))


def main():
    kind, path, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
    step = {"files": one_file, "append": one_append, "names": one_name, "read": one_read}[kind]
    i = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        start = time.monotonic()
        step(path, seed, i)
        print(i, int((time.monotonic() - start) * 1000), flush=True)
        i += 1


def parse(lines):
    """(number of acknowledged steps, longest step in ms)"""
    rows = [tuple(map(int, line.split())) for line in lines]
    assert [r[0] for r in rows] == list(range(len(rows)))
    return len(rows), max((r[1] for r in rows), default=0)


if __name__ == "__main__":
    main()
