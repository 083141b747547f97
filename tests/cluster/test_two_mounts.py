# SPDX-License-Identifier: Apache-2.0
"""Two mounts of one cluster stand for two machines: what one did, the other sees."""
import errno
import fcntl
import multiprocessing
import os
import random
import threading
import time

import pytest

import content
import harness
from harness import wait_for



@pytest.fixture
def two(shared, work):
    """The same new directory through both mounts."""
    if "b" not in shared.mounts:
        shared.mount("b")
    return work, os.path.join(shared.mounts["b"], os.path.basename(work))


def put(path, data):
    with open(path, "wb") as f:
        f.write(data)


def get(path):
    with open(path, "rb") as f:
        return f.read()


def test_what_was_closed_here_is_read_there(two):
    a, b = two
    for n, size in enumerate((0, 1, 5000, 40000, 1 << 20, 9_000_001)):
        content.write_file(f"{a}/f{n}", n, size)
        content.check_file(f"{b}/f{n}", n, size)
        assert os.stat(f"{b}/f{n}").st_size == size


def test_rewriting_is_seen_by_the_next_open(two):
    a, b = two
    for n in range(30):
        here, there = (a, b) if n % 2 else (b, a)
        size = 100 + 3000 * n
        put(f"{here}/f", content.data(n, 0, size))
        assert get(f"{there}/f") == content.data(n, 0, size), f"round {n}"


def record(writer, number):
    text = f"{writer}.{number}:"
    return text + text[0] * (random.Random(text).randrange(60 if number % 10 else 60_000)) + "\n"


def append_records(path, writer, count):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    for number in range(count):
        data = record(writer, number).encode()
        assert os.write(fd, data) == len(data)
        if number % 7 == writer:
            os.fsync(fd)
    os.close(fd)


def test_records_appended_at_once_are_all_there_whole_and_in_order(two):
    """Four processes on two mounts, none of which waits for another."""
    a, b = two
    put(f"{a}/log", b"")
    count = 200
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=append_records, args=(f"{(a, b)[w % 2]}/log", w, count))
               for w in range(4)]
    for w in writers:
        w.start()
    reader = os.open(f"{a}/log", os.O_RDONLY)
    seen = b""
    while any(w.is_alive() for w in writers):
        seen += os.read(reader, 1 << 20)  # as `tail -f`: what was read stays where it was
        time.sleep(0.01)
    for w in writers:
        w.join(60)
        assert w.exitcode == 0
    while more := os.read(reader, 1 << 20):
        seen += more
    os.close(reader)
    assert seen == get(f"{b}/log")
    next_of = [0] * 4
    for line in seen.decode().splitlines(keepends=True):
        w = int(line.split(".")[0])
        assert line == record(w, next_of[w]), line[:40]
        next_of[w] += 1
    assert next_of == [count] * 4


def test_fsynced_bytes_are_seen_by_a_file_that_is_open_there(two):
    a, b = two
    fa = os.open(f"{a}/f", os.O_RDWR | os.O_CREAT)
    os.write(fa, b"first")
    os.fsync(fa)
    fb = os.open(f"{b}/f", os.O_RDONLY)
    assert os.pread(fb, 100, 0) == b"first"
    os.pwrite(fa, b"FIRST and more", 0)
    os.fsync(fa)
    assert os.pread(fb, 100, 0) == b"FIRST and more"
    assert os.fstat(fb).st_size == 14
    os.close(fa)
    os.close(fb)


def test_names_made_renamed_and_removed_are_seen_at_once(two):
    a, b = two
    for i in range(100):
        os.mkdir(f"{a}/d{i}")
        put(f"{a}/d{i}/f", b"%d" % i)
        os.rename(f"{b}/d{i}/f", f"{b}/d{i}/g")
        assert os.listdir(f"{a}/d{i}") == ["g"]
        os.unlink(f"{a}/d{i}/g")
        assert not os.path.exists(f"{b}/d{i}/g")
        os.rmdir(f"{b}/d{i}")
        assert not os.path.exists(f"{a}/d{i}")
    assert os.listdir(a) == os.listdir(b) == []


def test_a_name_is_created_by_one_of_two(two):
    a, b = two
    wins = {a: [], b: []}

    def create(top):
        for i in range(300):
            try:
                os.close(os.open(f"{top}/n{i}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                wins[top].append(i)
            except FileExistsError:
                pass

    threads = [threading.Thread(target=create, args=(top,)) for top in two]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(wins[a] + wins[b]) == list(range(300))
    assert len(os.listdir(a)) == 300


def test_a_file_replaced_by_rename_is_old_or_new_never_else(two):
    a, b = two
    put(f"{a}/f", b"old" * 1000)
    stop = threading.Event()
    seen, wrong = set(), []

    def read():
        while not stop.is_set():
            try:
                data = get(f"{b}/f")
            except OSError as e:
                wrong.append(e)
                continue
            if len(data) == 3000 and data in (b"old" * 1000, b"new" * 1000):
                seen.add(data[:3])
            else:
                wrong.append(data[:20])

    t = threading.Thread(target=read)
    t.start()
    for i in range(60):
        put(f"{a}/t", (b"new" if i % 2 == 0 else b"old") * 1000)
        os.rename(f"{a}/t", f"{a}/f")
    stop.set()
    t.join()
    assert not wrong, wrong[:3]
    assert seen


def test_file_unlinked_there_stays_readable_here(two):
    a, b = two
    content.write_file(f"{a}/f", 20, 5 << 20)
    fd = os.open(f"{a}/f", os.O_RDONLY)
    content.check(os.pread(fd, 1000, 0), 20, 0)
    os.unlink(f"{b}/f")
    assert not os.path.exists(f"{a}/f")
    time.sleep(1)
    for at in range(0, 5 << 20, 1 << 20):
        content.check(os.pread(fd, 1 << 20, at), 20, at)
    os.close(fd)


def test_file_replaced_there_stays_readable_here(two):
    a, b = two
    content.write_file(f"{a}/f", 21, 3 << 20)
    fd = os.open(f"{a}/f", os.O_RDONLY)
    content.write_file(f"{b}/new", 22, 1 << 20)
    os.rename(f"{b}/new", f"{b}/f")
    for at in range(0, 3 << 20, 1 << 20):
        content.check(os.pread(fd, 1 << 20, at), 21, at)
    os.close(fd)
    content.check_file(f"{a}/f", 22, 1 << 20)


def test_truncation_is_seen(two):
    a, b = two
    content.write_file(f"{a}/f", 23, 6 << 20)
    fd = os.open(f"{b}/f", os.O_RDWR)
    content.check(os.pread(fd, 4096, 5 << 20), 23, 5 << 20)
    os.truncate(f"{a}/f", 1000)
    assert os.fstat(fd).st_size == 1000
    assert os.pread(fd, 4096, 5 << 20) == b""
    content.check(os.pread(fd, 4096, 0), 23, 0)
    os.truncate(f"{a}/f", 8192)
    assert os.pread(fd, 100000, 0) == content.data(23, 0, 1000) + bytes(7192)
    os.close(fd)


def test_both_append_in_turn_and_nothing_is_lost(two):
    a, b = two
    want = b""
    for i in range(60):
        line = b"%s line %04d\n" % (b"ab"[i % 2:i % 2 + 1], i)
        with open(f"{two[i % 2]}/log", "ab") as f:
            f.write(line)
        want += line
    assert get(f"{a}/log") == get(f"{b}/log") == want


def test_writes_to_different_parts_of_one_file_do_not_disturb_each_other(two):
    a, b = two
    block = 4096
    put(f"{a}/f", bytes(512 * block))

    def write(top, parity):
        fd = os.open(f"{top}/f", os.O_WRONLY)
        for i in range(parity, 512, 2):
            os.pwrite(fd, content.data(30 + parity, i * block, block), i * block)
        os.fsync(fd)
        os.close(fd)

    threads = [threading.Thread(target=write, args=(top, n)) for n, top in enumerate(two)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for top in two:
        got = get(f"{top}/f")
        for i in range(512):
            content.check(got[i * block:(i + 1) * block], 30 + i % 2, i * block)


@pytest.mark.parametrize("kind", ["flock", "fcntl"])
def test_a_lock_excludes_the_other_mount_and_is_handed_over(shared, two, kind):
    a, b = two
    put(f"{a}/f", bytes(100))
    fd = os.open(f"{a}/f", os.O_RDWR)
    lock = fcntl.flock if kind == "flock" else fcntl.lockf
    lock(fd, fcntl.LOCK_EX)
    other = os.open(f"{b}/f", os.O_RDWR)
    with pytest.raises(OSError) as e:
        lock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert e.value.errno in (errno.EAGAIN, errno.EACCES)
    os.close(other)
    waiter = shared.spawn("locker.py", kind, f"{b}/f")
    wait_for("the waiter's start", lambda: shared.lines(waiter), 20)
    time.sleep(0.5)
    assert shared.lines(waiter) == ["waiting"]
    start = time.monotonic()
    lock(fd, fcntl.LOCK_UN)
    wait_for("the lock to be handed over", lambda: shared.lines(waiter) == ["waiting", "locked"], 20)
    print(f"handed over after {time.monotonic() - start:.3f} s")
    with pytest.raises(OSError):
        lock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    waiter.kill()  # its locks go with it
    waiter.wait()
    wait_for("the dead holder's lock", lambda: _try(lock, fd), 20)
    os.close(fd)


def _try(lock, fd):
    try:
        lock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False


def test_readers_share_and_ranges_do_not_collide(two):
    a, b = two
    put(f"{a}/f", bytes(100))
    fa, fb = os.open(f"{a}/f", os.O_RDWR), os.open(f"{b}/f", os.O_RDWR)
    fcntl.lockf(fa, fcntl.LOCK_SH | fcntl.LOCK_NB, 50, 0)
    fcntl.lockf(fb, fcntl.LOCK_SH | fcntl.LOCK_NB, 50, 0)
    with pytest.raises(OSError):
        fcntl.lockf(fb, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 10)
    fcntl.lockf(fb, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 60)
    fcntl.lockf(fa, fcntl.LOCK_UN, 50, 0)
    fcntl.lockf(fb, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 10)
    os.close(fa)
    os.close(fb)


def test_counter_under_a_lock_loses_no_step(shared, two):
    a, b = two
    put(f"{a}/counter", b"0")
    helpers = [shared.spawn("locker.py", "count", f"{top}/counter", 60) for top in two]
    for h in helpers:
        assert h.wait(90) == 0, open(h.log + ".err").read()
    assert get(f"{a}/counter") == get(f"{b}/counter") == b"120"


def test_lock_of_a_dead_mount_is_released(make_cluster):
    c = make_cluster(config={"session_ttl": "4s"})
    c.up()
    a, b = c.mount("a"), c.mount("b")
    put(f"{b}/f", b"x")
    holder = c.spawn("locker.py", "flock", f"{a}/f")
    wait_for("the holder's lock", lambda: "locked" in c.lines(holder), 20)
    holder.kill()
    c.kill_mount("a")
    fd = os.open(f"{b}/f", os.O_RDWR)
    wait_for("the dead mount's lock", lambda: _try(fcntl.flock, fd), 20)
    os.close(fd)


def test_three_mounts_agree_on_a_tree(shared, two):
    a, b = two
    c = os.path.join(shared.mounts.get("c") or shared.mount("c"), os.path.basename(a))
    harness.run(["cp", "-a", "/usr/include/linux", f"{a}/tree"])
    for top in (b, c):
        out = harness.run(["diff", "-r", "/usr/include/linux", f"{top}/tree"]).out
        assert out == ""
    harness.run(["rm", "-rf", f"{b}/tree"])
    assert os.listdir(a) == os.listdir(c) == []
