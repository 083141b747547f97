# SPDX-License-Identifier: Apache-2.0
"""The fault disk itself (tests/lib/faultdisk): what a power cut leaves, and what faults do. The
tests of the cluster on it, test_power.py, are worth what these say."""
import contextlib
import errno
import fcntl
import mmap
import os
import random
import shutil
import subprocess
import tempfile

import pytest

import content
from harness import Failed, FaultDisk, WORK, mounts_below, program, run, sweep

SECTOR = 512


@pytest.fixture
def disk():
    """A fault disk, mounted at disk.top."""
    directory = tempfile.mkdtemp(prefix="holdfast-test-", dir=WORK)
    with open(f"{directory}/.run", "w") as f:
        f.write(str(os.getpid()))
    d = None
    try:
        d = FaultDisk(directory, "disk", f"{directory}/mnt")
        d.top = f"{directory}/mnt"
        yield d
        d.close()
        assert not mounts_below(directory)
    finally:
        sweep(directory)
        if d:
            d.close()
        shutil.rmtree(directory, ignore_errors=True)


def sync_dir(path):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def durable(path, data=b""):
    """A file whose bytes and name are durable."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, data, 0)
    os.fsync(fd)
    os.close(fd)
    sync_dir(os.path.dirname(path))


def write(path, data, at=0, sync=False):
    fd = os.open(path, os.O_RDWR)
    try:
        assert os.pwrite(fd, data, at) == len(data)
        if sync:
            os.fdatasync(fd)
    finally:
        os.close(fd)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def cycle(disk, mode, seed=0):
    told = disk.power_cut(seed, mode)
    disk.restart()
    return told


def fails(number, call, *args):
    with pytest.raises(OSError) as e:
        call(*args)
    assert e.value.errno == number, e.value


# --- bytes


def test_unsynced_bytes_vanish_and_synced_ones_stay(disk):
    f = f"{disk.top}/f"
    durable(f, b"a" * 3000)
    write(f, b"b" * 1000, sync=True)
    write(f, b"c" * 1000, at=500)
    write(f, b"d" * 9000, at=2900)
    assert len(read(f)) == 11900
    assert disk.stats()["unsynced_bytes"] > 9000
    assert cycle(disk, "drop")["files"] == 1
    assert read(f) == b"b" * 1000 + b"a" * 2000
    assert disk.stats()["unsynced_bytes"] == 0


def test_cut_that_keeps_everything_changes_nothing(disk):
    f = f"{disk.top}/f"
    durable(f, b"a" * 3000)
    write(f, b"b" * 5000, at=1000)
    os.truncate(f, 5500)
    os.truncate(f, 7000)
    os.mkdir(f"{disk.top}/d")
    os.rename(f, f"{disk.top}/d/g")
    cycle(disk, "keep")
    assert read(f"{disk.top}/d/g") == b"a" * 1000 + b"b" * 4500 + b"\0" * 1500
    assert os.listdir(disk.top) == ["d"]


def test_writes_are_torn_between_sectors_and_nowhere_else(disk):
    f = f"{disk.top}/f"
    count = 256
    durable(f, b"a" * count * SECTOR)
    write(f, b"b" * count * SECTOR)
    cycle(disk, "torn", seed=5)
    data = read(f)
    sectors = [data[i:i + SECTOR] for i in range(0, len(data), SECTOR)]
    assert len(sectors) == count and all(len(set(s)) == 1 for s in sectors)
    kept = sum(s[0] == ord("b") for s in sectors)
    assert count / 4 < kept < count * 3 / 4


def test_sector_holds_a_prefix_of_its_writes(disk):
    """Never a later write without the earlier ones; over all seeds, each prefix."""
    f = f"{disk.top}/f"
    durable(f, b"0" * SECTOR)
    seen = set()
    for seed in range(40):
        write(f, b"0" * SECTOR, sync=True)
        for i, byte in enumerate(b"123"):
            write(f, bytes([byte]) * 100, at=i * 100)
        cycle(disk, "random", seed)
        data = read(f)
        seen.add(bytes(data[i * 100] for i in range(3)))
    assert seen == {b"000", b"100", b"120", b"123"}


def test_same_seed_and_calls_leave_the_same(disk):
    f = f"{disk.top}/f"
    left = []
    for seed in (1, 1, 2):
        durable(f, b"a" * 64 * SECTOR)
        write(f, b"b" * 64 * SECTOR)
        cycle(disk, "torn", seed)
        left.append(read(f))
    assert left[0] == left[1] != left[2]


def test_unsynced_sizes_vanish(disk):
    for name, change in (("shorter", lambda f: os.truncate(f, 10)),
                         ("longer", lambda f: os.truncate(f, 100_000)),
                         ("allocated", lambda f: allocate(f, 100_000))):
        f = f"{disk.top}/{name}"
        durable(f, b"a" * 5000)
        change(f)
        write(f, b"b", at=3)
        cycle(disk, "drop")
        assert read(f) == b"a" * 5000, name
        change(f)
        size = os.stat(f).st_size
        sync(f)
        cycle(disk, "drop")
        assert os.stat(f).st_size == size, name


def allocate(path, size):
    fd = os.open(path, os.O_RDWR)
    os.posix_fallocate(fd, 0, size)
    os.close(fd)


def sync(path):
    fd = os.open(path, os.O_RDWR)
    os.fdatasync(fd)
    os.close(fd)


def test_random_histories_leave_what_a_model_allows(disk):
    """Of each sector one of the contents it had since the last sync, for many seeds."""
    rng = random.Random(7)
    f = f"{disk.top}/f"
    durable(f)
    for seed in range(30):
        size = 40 * SECTOR
        image = bytearray(rng.randbytes(size))
        write(f, bytes(image), sync=True)
        os.truncate(f, size)
        sync(f)
        versions = [{bytes(image[i:i + SECTOR])} for i in range(0, size, SECTOR)]
        for _ in range(rng.randrange(1, 30)):
            at = rng.randrange(size)
            data = rng.randbytes(rng.randrange(1, min(5000, size - at) + 1))
            write(f, data, at=at)
            image[at:at + len(data)] = data
            for i in range(at // SECTOR, (at + len(data) - 1) // SECTOR + 1):
                versions[i].add(bytes(image[i * SECTOR:(i + 1) * SECTOR]))
        assert read(f) == image
        cycle(disk, "random", seed)
        left = read(f)
        assert len(left) == size
        for i, allowed in enumerate(versions):
            assert left[i * SECTOR:(i + 1) * SECTOR] in allowed, f"seed {seed}, sector {i}"


def test_write_with_o_dsync_is_durable(disk):
    f = f"{disk.top}/f"
    durable(f, b"a" * 100)
    fd = os.open(f, os.O_WRONLY | os.O_DSYNC)
    os.pwrite(fd, b"b" * 10, 0)
    os.close(fd)
    cycle(disk, "drop")
    assert read(f) == b"b" * 10 + b"a" * 90


def test_direct_buffered_and_mapped_views_agree(disk):
    f = f"{disk.top}/f"
    durable(f, b"a" * 8192)
    fd = os.open(f, os.O_RDWR)
    direct = os.open(f, os.O_RDWR | os.O_DIRECT)
    shared = mmap.mmap(fd, 8192)
    page = mmap.mmap(-1, 4096)
    assert shared[:3] == b"aaa"
    os.pwrite(fd, b"b" * 4096, 0)
    assert shared[:4096] == b"b" * 4096
    page[:] = b"c" * 4096
    os.pwritev(direct, [page], 4096)
    assert os.pread(fd, 4096, 4096) == shared[4096:] == b"c" * 4096
    shared[:4] = b"mmap"
    shared.flush()
    os.preadv(direct, [page], 0)
    assert page[:5] == b"mmapb"
    shared.close()
    os.close(fd)
    os.close(direct)
    cycle(disk, "drop")
    assert read(f)[:5] == b"mmapb", "msync is a sync"
    assert set(read(f)[4096:]) == set(b"c"), "of the whole file"


# --- names


def test_name_vanishes_without_a_sync_of_its_directory_and_stays_with_it(disk):
    for name in ("lost", "kept"):
        fd = os.open(f"{disk.top}/{name}", os.O_WRONLY | os.O_CREAT)
        os.write(fd, b"text")
        os.fsync(fd)
        os.close(fd)
        if name == "kept":
            sync_dir(disk.top)  # and with it what came before
            os.unlink(f"{disk.top}/lost")
            sync_dir(disk.top)
    os.mkdir(f"{disk.top}/dir")
    durable(f"{disk.top}/dir/in", b"x")
    assert cycle(disk, "drop")["names"] == 1
    assert os.listdir(disk.top) == ["kept"] and read(f"{disk.top}/kept") == b"text"


def test_unsynced_rename_and_unlink_are_undone(disk):
    durable(f"{disk.top}/old", b"old")
    durable(f"{disk.top}/new", b"new")
    durable(f"{disk.top}/gone", b"gone")
    os.mkdir(f"{disk.top}/dir")
    sync_dir(disk.top)
    os.rename(f"{disk.top}/new", f"{disk.top}/old")
    os.unlink(f"{disk.top}/gone")
    os.rmdir(f"{disk.top}/dir")
    assert os.listdir(disk.top) == ["old"] and read(f"{disk.top}/old") == b"new"
    cycle(disk, "drop")
    assert sorted(os.listdir(disk.top)) == ["dir", "gone", "new", "old"]
    assert read(f"{disk.top}/old") == b"old" and read(f"{disk.top}/gone") == b"gone"
    os.rename(f"{disk.top}/new", f"{disk.top}/old")
    os.unlink(f"{disk.top}/gone")
    sync_dir(disk.top)
    cycle(disk, "drop")
    assert sorted(os.listdir(disk.top)) == ["dir", "old"] and read(f"{disk.top}/old") == b"new"


def test_rename_between_directories_stays_whole(disk):
    for d in "ab":
        os.mkdir(f"{disk.top}/{d}")
    sync_dir(disk.top)
    for seed in range(20):
        durable(f"{disk.top}/a/f", b"x")
        os.rename(f"{disk.top}/a/f", f"{disk.top}/b/f")
        os.close(os.open(f"{disk.top}/a/{seed}", os.O_CREAT | os.O_WRONLY))
        cycle(disk, "random", seed)
        assert os.path.exists(f"{disk.top}/a/f") != os.path.exists(f"{disk.top}/b/f")
        for d in "ab":
            if os.path.exists(f"{disk.top}/{d}/f"):
                os.unlink(f"{disk.top}/{d}/f")
        sync_dir(f"{disk.top}/a")
        sync_dir(f"{disk.top}/b")


def test_prefix_of_the_changes_of_a_directory_is_left(disk):
    seen = set()
    for seed in range(40):
        for name in "abcd":
            os.close(os.open(f"{disk.top}/{name}", os.O_CREAT | os.O_WRONLY))
        os.rename(f"{disk.top}/a", f"{disk.top}/e")
        cycle(disk, "random", seed)
        left = sorted(os.listdir(disk.top))
        seen.add("".join(left))
        assert not {"a", "e"} <= set(left)
        for name in left:
            os.unlink(f"{disk.top}/{name}")
        sync_dir(disk.top)
    assert {"", "abcd", "bcde"} <= seen and len(seen) > 4, seen


def test_open_file_outlives_its_name_and_locks_work(disk):
    f = f"{disk.top}/f"
    durable(f, b"text")
    fd, other = os.open(f, os.O_RDWR), os.open(f, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    fails(errno.EAGAIN, fcntl.flock, other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fails(errno.EEXIST, os.open, f, os.O_CREAT | os.O_EXCL)
    os.link(f, f"{disk.top}/g")
    assert os.fstat(fd).st_nlink == 2
    os.unlink(f)
    os.unlink(f"{disk.top}/g")
    sync_dir(disk.top)
    os.pwrite(fd, b"more", 4)
    os.fsync(fd)
    assert os.pread(other, 100, 0) == b"textmore" and os.fstat(fd).st_size == 8
    os.close(fd)
    os.close(other)
    assert os.listdir(disk.top) == []
    fails(errno.ENOENT, os.unlink, f)
    os.makedirs(f"{disk.top}/d/e")
    fails(errno.ENOTEMPTY, os.rmdir, f"{disk.top}/d")
    fails(errno.EISDIR, os.unlink, f"{disk.top}/d")
    assert os.statvfs(disk.top).f_bavail > 0


# --- power


def test_everything_fails_while_the_power_is_off_and_open_files_are_lost_with_it(disk):
    f = f"{disk.top}/f"
    durable(f, b"a" * 100)
    fd = os.open(f, os.O_RDWR)
    disk.power_cut(0, "drop")
    assert disk.stats()["off"]
    fails(errno.EIO, os.pwrite, fd, b"b", 0)
    fails(errno.EIO, os.fsync, fd)
    fails(errno.EIO, os.listdir, disk.top)
    fails(errno.EIO, os.stat, f"{disk.top}/other")
    p = run([program("faultdisk"), "ctl", disk.socket, "power-cut"], check=False)
    assert p.returncode == 1 and "off already" in p.err
    disk.restart()
    assert not disk.stats()["off"] and disk.stats()["cuts"] == 1
    for call in (lambda: os.pwrite(fd, b"b", 0), lambda: os.fsync(fd)):
        with pytest.raises(OSError):
            call()
    os.close(fd)
    assert read(f) == b"a" * 100
    assert len(mounts_below(os.path.dirname(disk.top))) == 1


def test_power_comes_back_on_one_new_mount_every_time(disk):
    for i in range(60):
        fd = os.open(f"{disk.top}/f", os.O_RDWR | os.O_CREAT)  # the old mount is busy
        cycle(disk, "keep")
        assert os.listdir(disk.top) == ["f"]
        assert len(mounts_below(os.path.dirname(disk.top))) == 1
        if i % 2:
            with contextlib.suppress(OSError):  # of the old mount
                os.close(fd)


def test_pages_that_were_mapped_and_dirty_are_forgotten(disk):
    f = f"{disk.top}/f"
    durable(f, b"a" * 4096)
    child = subprocess.Popen(
        ["/usr/bin/python3", "-c", "import mmap,os,sys; m = mmap.mmap(os.open(sys.argv[1], os.O_RDWR), "
         "4096); m[:] = b'b' * 4096; print('dirty', flush=True); sys.stdin.read()", f],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"dirty\n"
    assert read(f) == b"b" * 4096
    child.kill()
    child.communicate()
    cycle(disk, "drop")
    assert read(f) == b"a" * 4096


def test_fault_disk_that_was_killed_is_started_again_on_its_files(disk):
    directory = os.path.dirname(disk.top)
    durable(f"{disk.top}/f", b"text")
    os.unlink(f"{disk.top}/f")
    os.close(os.open(f"{disk.top}/g", os.O_CREAT | os.O_WRONLY))
    disk.process.kill()
    disk.process.wait()
    run(["umount", "-l", disk.top])
    again = FaultDisk(directory, "disk", disk.top)
    try:
        assert os.listdir(disk.top) == ["g"]
        assert os.listdir(f"{directory}/disk/attic") == []
    finally:
        again.close()


# --- faults


def test_faults_strike_the_calls_they_name(disk):
    durable(f"{disk.top}/one", b"a" * 8192)
    durable(f"{disk.top}/two", b"a" * 8192)
    disk.fail("write", path="one", after=1, count=2)
    fd = os.open(f"{disk.top}/one", os.O_RDWR)
    os.pwrite(fd, b"b", 0)
    fails(errno.EIO, os.pwrite, fd, b"c", 0)
    fails(errno.EIO, os.ftruncate, fd, 0)
    os.pwrite(fd, b"d", 1)
    write(f"{disk.top}/two", b"b")
    assert os.pread(fd, 3, 0) == b"bda"
    disk.fail("write", errno="ENOSPC")
    fails(errno.ENOSPC, os.posix_fallocate, fd, 0, 100_000)
    fails(errno.ENOSPC, write, f"{disk.top}/two", b"b")
    disk.fail("name", path="/new")
    fails(errno.EIO, os.mkdir, f"{disk.top}/new")
    fails(errno.EIO, os.rename, f"{disk.top}/two", f"{disk.top}/new")
    os.mkdir(f"{disk.top}/other")
    disk.clear()
    write(f"{disk.top}/two", b"b")
    os.close(fd)
    struck = disk.stats()["struck"]
    assert struck == {"read": 0, "write": 4, "sync": 0, "name": 2}, struck


def test_read_fault_strikes_what_the_page_cache_does_not_have(disk):
    f = f"{disk.top}/f"
    durable(f, b"a" * 4096)
    direct = os.open(f, os.O_RDONLY | os.O_DIRECT)
    page = mmap.mmap(-1, 4096)
    disk.fail("read", count=1)
    fails(errno.EIO, os.preadv, direct, [page], 0)
    assert os.preadv(direct, [page], 0) == 4096
    os.close(direct)


def test_no_later_sync_saves_what_a_failed_sync_lost(disk):
    f = f"{disk.top}/f"
    size = 64 * SECTOR
    lost = 0
    for _ in range(12):
        durable(f, b"a" * size)
        fd = os.open(f, os.O_RDWR)
        os.pwrite(fd, b"b" * size, 0)
        disk.fail("sync", count=1)
        fails(errno.EIO, os.fsync, fd)
        os.fsync(fd)
        os.pwrite(fd, b"c" * SECTOR, 0)
        os.fsync(fd)
        assert os.pread(fd, size, 0) == b"c" * SECTOR + b"b" * (size - SECTOR), "still cached"
        os.close(fd)
        cycle(disk, "keep")
        data = read(f)
        assert data[:SECTOR] == b"c" * SECTOR, "written again, and synced"
        assert set(data[SECTOR:]) <= set(b"ab") and len(data) == size
        lost += data.count(b"a") // SECTOR
    assert 0 < lost < 12 * 63


def test_directory_whose_sync_failed_never_syncs_again(disk):
    os.mkdir(f"{disk.top}/d")
    sync_dir(disk.top)
    os.close(os.open(f"{disk.top}/d/f", os.O_CREAT | os.O_WRONLY))
    disk.fail("sync", path="/d", count=1)
    fails(errno.EIO, sync_dir, f"{disk.top}/d")
    fails(errno.EIO, sync_dir, f"{disk.top}/d")
    cycle(disk, "drop")
    assert os.listdir(f"{disk.top}/d") == []
    sync_dir(f"{disk.top}/d")


def test_disk_that_lies_loses_what_it_said_was_synced(disk):
    f = f"{disk.top}/f"
    durable(f, b"a" * 100)
    disk.lie()
    write(f, b"b" * 100, sync=True)
    durable(f"{disk.top}/g", b"g")
    cycle(disk, "drop")
    assert os.listdir(disk.top) == ["f"] and read(f) == b"a" * 100
    write(f, b"b" * 100, sync=True)
    cycle(disk, "drop")
    assert read(f) == b"b" * 100


def test_power_goes_at_a_certain_call(disk):
    f = f"{disk.top}/f"
    durable(f, b"a" * 100)
    disk.fail("sync", path="/f", after=1, errno="OFF")
    write(f, b"b" * 100, sync=True)
    fails(errno.EIO, write, f, b"c" * 100, 0, True)
    fails(errno.EIO, os.listdir, disk.top)
    assert disk.stats()["off"] and disk.stats()["unsynced_bytes"] == 512
    with pytest.raises(Failed):
        disk.restart()
    cycle(disk, "drop")
    assert read(f) == b"b" * 100


def test_slow_calls_do_not_hold_up_others(disk):
    durable(f"{disk.top}/f", b"a")
    disk.delay("sync", 60_000)
    slow = subprocess.Popen(["/usr/bin/python3", "-c", "import os,sys; os.fsync(os.open(sys.argv[1], "
                             "os.O_RDWR))", f"{disk.top}/f"])
    write(f"{disk.top}/f", b"b")
    assert read(f"{disk.top}/f") == b"b"
    assert slow.poll() is None
    disk.process.kill()  # nobody waits the minute out
    disk.process.wait()
    assert slow.wait(20) != 0
    run(["umount", "-l", disk.top])


def test_rot_is_seen_through_the_page_cache(disk):
    f = f"{disk.top}/f"
    durable(f, content.data(1, 0, 8192))
    assert read(f) == content.data(1, 0, 8192)
    disk.ctl("rot", "/f", 5000, 0x41)
    data = read(f)
    assert data[5000] == content.data(1, 5000, 1)[0] ^ 0x41
    assert data[:5000] + data[5001:] == content.data(1, 0, 5000) + content.data(1, 5001, 3191)


# --- the command


def test_command_says_what_is_wrong(disk):
    def ctl(*words):
        p = run([program("faultdisk"), "ctl", disk.socket, *words], check=False)
        return p.returncode, p.err

    for words in (["nothing"], ["power-cut", "--mode", "half"], ["power-cut", "--path", "x"],
                  ["fail", "writes"], ["fail", "write", "--count"], ["delay", "sync"],
                  ["delay", "sync", "-1"], ["rot", "f", "x"], ["stats", "all"]):
        code, err = ctl(*words)
        assert code == 2 and words[0] in err, (words, err)
    assert ctl("rot", "missing", "1")[0] == 1
    assert ctl("restart")[0] == 1
    for _ in range(16):
        disk.fail("read")
    assert ctl("fail", "read") == (1, "faultdisk: 16 faults are armed already; 'clear' removes them\n")
    p = run([program("faultdisk"), "ctl", disk.socket + "x", "stats"], check=False)
    assert p.returncode == 1 and "No such file" in p.err
    assert run([program("faultdisk")], check=False).returncode == 2
    assert "power-cut" in run([program("faultdisk"), "--help"]).out
    p = run([program("faultdisk"), "serve", disk.top + "/../b", disk.top + "/none", disk.socket + "y"],
            check=False)
    assert p.returncode == 1 and "none" in p.err
