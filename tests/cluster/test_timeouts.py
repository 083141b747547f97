# SPDX-License-Identifier: Apache-2.0
"""Nothing hangs beyond its time-out: not enough stores, no cluster, the end of a mount at work."""
import errno
import mmap
import os
import re
import signal
import subprocess

import pytest

import content
from harness import ASAN, hf, processes_below, wait_for

OP_TIMEOUT = 4.0
# node_timeout until the map says that stores are down, op_timeout, a put's own time-out, and work
BOUND = 3.0 + OP_TIMEOUT + 10.0 + (20.0 if ASAN else 5.0)
CLIENT = {"op_timeout": f"{OP_TIMEOUT:g}s", "dirty_max": "16MiB"}


def probes(cluster, top, calls):
    """Processes that have a file open each, and wait for the word."""
    for call in calls:
        content.write_file(f"{top}/{call}", len(call), 8 << 20)
    cluster.flush()
    running = {call: cluster.spawn("timeouts_probe.py", call, f"{top}/{call}") for call in calls}
    wait_for("probes", lambda: all(cluster.lines(p) == ["ready"] for p in running.values()), 30)
    return running


def outcomes(cluster, running, timeout):
    for p in running.values():
        p.stdin.write(b"\n")
        p.stdin.flush()
    wait_for(lambda: f"ends of {[c for c, p in running.items() if p.poll() is None]}",
             lambda: all(p.poll() is not None for p in running.values()), timeout)
    return {call: "SIGBUS" if p.returncode == -signal.SIGBUS else cluster.lines(p)[1].split()[1]
            for call, p in running.items()}


def test_without_enough_stores_writes_fail_in_time_and_go_on_later(make_cluster):
    c = make_cluster(metadata=1, client=CLIENT)
    c.up()
    top = c.mount()
    running = probes(c, top, ["fsync", "close", "fill", "msync", "direct", "read", "stat", "list"])
    c.kill(2)
    c.kill(3)
    got = outcomes(c, running, BOUND * 2)
    for call in ("fsync", "close", "fill", "msync", "direct"):
        assert got[call] == "EIO", got
    assert (got["read"], got["stat"], got["list"]) == ("ok", "ENOENT", "ok"), got
    c.start(2)
    c.start(3)
    c.wait_healthy()
    c.flush()  # what was kept goes now
    other = c.mount("b")
    with open(f"{other}/fsync", "rb") as f:
        assert f.read(500000) == b"fsync" * 100000
    with open(f"{other}/close", "rb") as f:
        assert f.read(500000) == b"close" * 100000
    c.wait_copied()
    c.verify(top)


def test_a_failed_direct_write_leaves_what_another_mount_wrote_behind_it(make_cluster):
    """After such a write the kernel cuts the file at the end that it knows."""
    c = make_cluster(metadata=1, client=CLIENT)
    c.up()
    a, b = c.mount("a"), c.mount("b")
    block = mmap.mmap(-1, 1 << 20)
    block[:] = content.data(5, 0, 1 << 20)
    there = content.data(6, 0, 1 << 20)
    seen, unseen = (os.open(f"{a}/{n}", os.O_CREAT | os.O_WRONLY | os.O_DIRECT)
                    for n in ("seen", "unseen"))
    for fd in (seen, unseen):
        assert os.write(fd, block) == 1 << 20
    assert os.fstat(seen).st_size == 1 << 20
    os.close(unseen)
    unseen = os.open(f"{a}/unseen", os.O_WRONLY | os.O_DIRECT)
    for name in ("seen", "unseen"):
        other = os.open(f"{b}/{name}", os.O_WRONLY)
        os.pwrite(other, there, 4 << 20)
        os.fsync(other)
        os.close(other)
    c.kill(2)
    c.kill(3)
    c.wait_status("two stores down", lambda s: sum(n["state"] == "down" for n in s["nodes"]) == 2)
    for fd in (seen, unseen):
        with pytest.raises(OSError) as e:
            os.pwrite(fd, block, 1 << 20)
        assert e.value.errno == errno.EIO
    c.start(2)
    c.start(3)
    c.wait_healthy()
    for name in ("seen", "unseen"):
        with open(f"{b}/{name}", "rb") as f:
            assert f.read(1 << 20) == block[:]
            assert f.seek(0, 2) == 5 << 20
            f.seek(4 << 20)
            assert f.read() == there
    os.ftruncate(seen, 1 << 20)  # the user's own is one
    assert os.stat(f"{b}/seen").st_size == 1 << 20
    os.close(seen)
    os.close(unseen)


def test_an_unmount_without_enough_stores_ends(make_cluster):
    c = make_cluster(metadata=1, client=CLIENT)
    c.up()
    top = c.mount()
    content.write_file(f"{top}/synced", 3, 1 << 20)
    c.flush()
    c.kill(2)
    c.kill(3)
    c.wait_status("two stores down", lambda s: sum(n["state"] == "down" for n in s["nodes"]) == 2)
    fd = os.open(f"{top}/dirty", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"d" * (1 << 20))
    p = hf("umount", top, timeout=BOUND * 2, check=False)
    assert p.returncode == 1, p  # says that it cannot be written, and leaves it mounted
    assert os.path.ismount(top)
    with pytest.raises(OSError):
        os.close(fd)
    subprocess.run(["umount", top], check=True, timeout=BOUND)
    c.mounts.pop("a")
    wait_for("the mount's end", lambda: not processes_below(top), BOUND * 2)
    log = open(f"{c.dir}/mnt-a.log").read()
    assert re.search(r"not everything was written.*lost_bytes=1048576", log), log[-2000:]
    c.start(2)
    c.start(3)
    c.wait_healthy()
    assert open(f"{c.mount('b')}/synced", "rb").read() == content.data(3, 0, 1 << 20)


def test_without_a_cluster_every_call_ends_in_time(make_cluster):
    c = make_cluster(client=CLIENT)
    c.up()
    top = c.mount()
    calls = ["fsync", "close", "fill", "msync", "direct", "open", "stat", "list", "lock", "rename",
             "read"]
    running = probes(c, top, calls)
    for n in (1, 2, 3):
        c.kill(n)
    got = outcomes(c, running, BOUND * 2)
    assert got.pop("msync") in ("EIO", "SIGBUS"), got  # the page cannot be had
    assert got.pop("read") in ("EIO", "ok"), got  # it may be in the client's memory
    assert set(got.values()) == {"EIO"}, got
    for n in (1, 2, 3):
        c.start(n)
    c.wait_healthy()
    with pytest.raises(OSError):  # the session is lost: nothing passes that hides it
        os.stat(f"{top}/fsync")
    subprocess.run(["umount", "-l", top], check=True)
    c.mounts.pop("a")
    wait_for("the mount's end", lambda: not processes_below(top), 30)
    top = c.mount("b")
    for call in calls:
        if call not in ("fsync", "close", "fill", "msync", "direct"):
            path = f"{top}/{call}" if os.path.exists(f"{top}/{call}") else f"{top}/{call}.moved"
            assert open(path, "rb").read() == content.data(len(call), 0, 8 << 20), call


WRITER = """
import os, sys, time
top, n = sys.argv[1], sys.argv[2]
synced = 0
try:
    for i in range(100000):
        fd = os.open(f"{top}/w{n}-{i}", os.O_CREAT | os.O_WRONLY)
        os.write(fd, bytes([i % 251]) * 300000)
        os.fsync(fd)
        os.close(fd)
        synced = i + 1
        print(synced, flush=True)
except OSError as e:
    print("error", e.errno, flush=True)
"""


@pytest.mark.parametrize("how", ["lazy", "forced"])
def test_an_unmount_under_writers(make_cluster, how):
    """Busy: refused. Lazily: who works goes on, or is told. By force: who works is told."""
    c = make_cluster()
    c.up()
    top = c.mount()
    os.mkdir(f"{top}/d")
    logs = [open(f"{c.dir}/writer{n}", "w+") for n in range(4)]
    writers = [subprocess.Popen(["python3", "-c", WRITER, f"{top}/d", str(n)], stdout=logs[n],
                                cwd="/") for n in range(4)]
    try:
        wait_for("writers at work", lambda: all(os.path.getsize(log.name) > 40 for log in logs), 30)
        p = hf("umount", top, check=False, timeout=60)
        assert p.returncode == 1 and "in use" in p.err, p
        subprocess.run(["umount", "-l" if how == "lazy" else "-f", top], check=False,
                       stderr=subprocess.DEVNULL)
        for w in writers:
            w.wait(30)
    finally:
        for w in writers:
            w.kill()
            w.wait()
    subprocess.run(["umount", "-l", top], check=False, stderr=subprocess.DEVNULL)
    c.mounts.pop("a")
    wait_for("the mount's end", lambda: not processes_below(top), 60)
    other = c.mount("b")
    for n, log in enumerate(logs):
        log.seek(0)
        lines = log.read().split("\n")[:-1]
        assert lines[-1].startswith("error"), (n, lines[-3:])
        for i in range(int(lines[-2])):
            with open(f"{other}/d/w{n}-{i}", "rb") as f:
                assert f.read() == bytes([i % 251]) * 300000, (n, i)
        log.close()
    c.verify(other)
