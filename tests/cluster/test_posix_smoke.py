# SPDX-License-Identifier: Apache-2.0
"""One mount behaves as a local file system does: a broad smoke, call by call."""
import ctypes
import errno
import mmap
import os
import stat
import subprocess
import threading

import pytest

import content
import harness

libc = ctypes.CDLL(None, use_errno=True)
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
KEEP_SIZE, PUNCH_HOLE, COLLAPSE, ZERO_RANGE = 1, 2, 8, 16
SEEK_DATA, SEEK_HOLE = os.SEEK_DATA, os.SEEK_HOLE
AT_FDCWD = -100


def call(name, *args):
    ctypes.set_errno(0)
    if getattr(libc, name)(*args) != 0:
        e = ctypes.get_errno()
        raise OSError(e, f"{name}: {os.strerror(e)}")


def renameat2(a, b, flags):
    call("renameat2", AT_FDCWD, os.fsencode(a), AT_FDCWD, os.fsencode(b), ctypes.c_uint(flags))


def fallocate(fd, mode, offset, length):
    call("fallocate", fd, mode, ctypes.c_long(offset), ctypes.c_long(length))


def raises(number, fn, *args, **more):
    with pytest.raises(OSError) as e:
        fn(*args, **more)
    assert e.value.errno == number, f"{errno.errorcode.get(e.value.errno)}, not {errno.errorcode[number]}"


def put(path, text):
    with open(path, "wb") as f:
        f.write(text if isinstance(text, bytes) else text.encode())
    return path


def get(path):
    with open(path, "rb") as f:
        return f.read()


# --- names

def test_rename_replaces_atomically_and_refuses_what_it_must(work):
    a, b, d, e = (f"{work}/{n}" for n in "abde")
    put(a, "A")
    put(b, "B")
    os.rename(a, b)
    assert get(b) == b"A" and not os.path.exists(a)
    os.mkdir(d)
    os.mkdir(e)
    put(f"{e}/x", "x")
    raises(errno.ENOTEMPTY, os.rename, d, e)
    raises(errno.EISDIR, os.rename, b, d)
    raises(errno.ENOTDIR, os.rename, d, b)
    os.mkdir(f"{d}/in")
    raises(errno.EINVAL, os.rename, d, f"{d}/in/d")
    raises(errno.ENOENT, os.rename, a, b)
    os.rmdir(f"{d}/in")
    os.rename(e, d)
    assert get(f"{d}/x") == b"x" and not os.path.exists(e)
    os.rename(b, b)
    os.link(b, f"{work}/b2")
    os.rename(b, f"{work}/b2")  # the same file: nothing happens
    assert os.path.exists(b) and os.stat(b).st_nlink == 2


def test_rename_noreplace_and_exchange(work):
    a, b, d = (f"{work}/{n}" for n in "abd")
    put(a, "A")
    put(b, "B")
    raises(errno.EEXIST, renameat2, a, b, NOREPLACE)
    renameat2(a, f"{work}/c", NOREPLACE)
    assert get(f"{work}/c") == b"A"
    os.mkdir(d)
    put(f"{d}/x", "x")
    renameat2(b, d, EXCHANGE)
    assert get(d) == b"B" and get(f"{b}/x") == b"x"
    assert os.stat(work).st_nlink == 3
    raises(errno.ENOENT, renameat2, a, b, EXCHANGE)


def test_hard_links_count_and_keep_the_file(work):
    a = put(f"{work}/a", "one")
    for i in range(50):
        os.link(a, f"{work}/l{i}")
    st = os.stat(a)
    assert st.st_nlink == 51
    assert os.stat(f"{work}/l49").st_ino == st.st_ino
    os.unlink(a)
    put(f"{work}/l7", "two")
    assert get(f"{work}/l31") == b"two" and os.stat(f"{work}/l31").st_nlink == 50
    raises(errno.EPERM, os.link, work, f"{work}/dir")
    raises(errno.EEXIST, os.link, f"{work}/l1", f"{work}/l2")


def test_symlinks_short_long_dangling_and_looping(work):
    put(f"{work}/target", "t")
    os.symlink("target", f"{work}/s")
    assert os.readlink(f"{work}/s") == "target" and get(f"{work}/s") == b"t"
    assert os.lstat(f"{work}/s").st_size == 6
    long = "x/" * 2040
    os.symlink(long, f"{work}/long")
    assert os.readlink(f"{work}/long") == long
    os.symlink("nowhere", f"{work}/dangling")
    raises(errno.ENOENT, os.stat, f"{work}/dangling")
    os.symlink("loop", f"{work}/loop")
    raises(errno.ELOOP, os.stat, f"{work}/loop")
    raises(errno.EEXIST, os.symlink, "a", f"{work}/s")
    os.unlink(f"{work}/s")
    assert get(f"{work}/target") == b"t"


def test_names_of_255_bytes_and_odd_bytes(work):
    for name in (b"n" * 255, "ü".encode() * 127, b"\xff\xfe\x01", b"new\nline", b" ", b"-rf"):
        path = os.fsencode(work) + b"/" + name
        with open(path, "wb") as f:
            f.write(name)
        assert name in os.listdir(os.fsencode(work))
        assert get(path) == name
    raises(errno.ENAMETOOLONG, open, f"{work}/{'n' * 256}", "w")


def test_special_files_can_be_made(work):
    os.mkfifo(f"{work}/fifo", 0o640)
    assert stat.S_ISFIFO(os.stat(f"{work}/fifo").st_mode)
    os.mknod(f"{work}/dev", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    st = os.stat(f"{work}/dev")
    assert stat.S_ISCHR(st.st_mode) and st.st_rdev == os.makedev(1, 3)
    import socket
    with socket.socket(socket.AF_UNIX) as s:
        here = os.getcwd()
        os.chdir(work)
        try:
            s.bind("sock")
        finally:
            os.chdir(here)
    assert stat.S_ISSOCK(os.stat(f"{work}/sock").st_mode)
    out = []
    t = threading.Thread(target=lambda: out.append(get(f"{work}/fifo")))
    t.start()
    put(f"{work}/fifo", "through")
    t.join(20)
    assert out == [b"through"]


def test_directories_link_counts_and_rmdir(work):
    os.mkdir(f"{work}/d", 0o750)
    assert stat.S_IMODE(os.stat(f"{work}/d").st_mode) == 0o750
    for i in range(3):
        os.mkdir(f"{work}/d/{i}")
    assert os.stat(f"{work}/d").st_nlink == 5
    raises(errno.ENOTEMPTY, os.rmdir, f"{work}/d")
    raises(errno.EISDIR, os.unlink, f"{work}/d")
    os.rmdir(f"{work}/d/0")
    assert os.stat(f"{work}/d").st_nlink == 4
    os.mkdir(f"{work}/e")
    os.rename(f"{work}/d/1", f"{work}/e/1")
    assert os.stat(f"{work}/d").st_nlink == 3 and os.stat(f"{work}/e").st_nlink == 3
    assert os.stat(f"{work}/e/1/..").st_ino == os.stat(f"{work}/e").st_ino
    put(f"{work}/f", "")
    raises(errno.ENOTDIR, os.rmdir, f"{work}/f")
    raises(errno.EEXIST, os.mkdir, f"{work}/d")


def test_readdir_lists_5000_entries_once_while_others_go(work):
    d = f"{work}/many"
    os.mkdir(d)
    for i in range(5000):
        os.close(os.open(f"{d}/f{i:05}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    assert sorted(os.listdir(d)) == [f"f{i:05}" for i in range(5000)]
    seen = []
    with os.scandir(d) as it:
        for n, entry in enumerate(it):
            seen.append(entry.name)
            if n % 2 == 0:
                os.unlink(f"{d}/{entry.name}")
            if n == 1000:
                put(f"{d}/new", "")
    assert len(seen) == len(set(seen)), "an entry came twice"
    assert {f"f{i:05}" for i in range(5000)} <= set(seen), "an entry that was always there was skipped"
    left = os.listdir(d)
    assert set(left) == ({f"f{i:05}" for i in range(5000)} | {"new"}) - set(seen[::2])
    for name in left:
        os.unlink(f"{d}/{name}")
    os.rmdir(d)


def test_unlinked_file_lives_while_it_is_open(work):
    path = f"{work}/f"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.write(fd, content.data(1, 0, 100000))
    os.unlink(path)
    assert not os.path.exists(path) and os.fstat(fd).st_nlink == 0
    os.write(fd, content.data(1, 100000, 100000))
    os.fsync(fd)
    content.check(os.pread(fd, 200000, 0), 1, 0)
    os.ftruncate(fd, 10)
    assert os.fstat(fd).st_size == 10
    put(path, "another")
    content.check(os.pread(fd, 100, 0), 1, 0)
    os.close(fd)
    assert get(path) == b"another"


def test_removed_directory_that_is_held_takes_no_entries(work):
    os.mkdir(f"{work}/d")
    fd = os.open(f"{work}/d", os.O_RDONLY)
    os.rmdir(f"{work}/d")
    raises(errno.ENOENT, os.open, "x", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    os.close(fd)


# --- attributes

def test_chmod_chown_and_times_to_the_nanosecond(work):
    f = put(f"{work}/f", "x")
    before = os.stat(f).st_ctime_ns
    os.chmod(f, 0o4751)
    os.utime(f, ns=(1234567890123456789, 987654321987654321))
    st = os.stat(f)
    assert (st.st_atime_ns, st.st_mtime_ns) == (1234567890123456789, 987654321987654321)
    assert stat.S_IMODE(st.st_mode) == 0o4751 and st.st_ctime_ns > before
    os.utime(f, ns=(-1_500_000_000, 2**33 * 10**9 + 5))
    st = os.stat(f)
    assert st.st_atime_ns == -1_500_000_000 and st.st_mtime_ns == 2**33 * 10**9 + 5
    os.chown(f, 1234, 4321)
    st = os.stat(f)
    assert (st.st_uid, st.st_gid) == (1234, 4321)
    assert stat.S_IMODE(st.st_mode) == 0o751, "chown takes set-user-id away"
    os.chown(f, -1, 5)
    assert (os.stat(f).st_uid, os.stat(f).st_gid) == (1234, 5)


def test_writing_takes_set_user_id_away(work):
    f = put(f"{work}/f", "x")
    os.chmod(f, 0o6777)
    harness.run(["sh", "-c", f"echo more >>'{f}'"], user=harness.USER)
    assert stat.S_IMODE(os.stat(f).st_mode) == 0o777
    os.chmod(f, 0o6777)
    harness.run(["truncate", "-s", "1", f], user=harness.USER)
    assert stat.S_IMODE(os.stat(f).st_mode) == 0o777


def test_mtime_and_ctime_move_with_every_change(work):
    f = put(f"{work}/f", "x")
    os.utime(f, ns=(1, 1))
    with open(f, "ab") as o:
        o.write(b"y")
    m1 = os.stat(f).st_mtime_ns
    assert m1 > 10**18
    d1 = os.stat(work).st_mtime_ns
    put(f"{work}/g", "")
    d2 = os.stat(work).st_mtime_ns
    assert d2 > d1
    os.unlink(f"{work}/g")
    assert os.stat(work).st_mtime_ns > d2
    c1 = os.stat(f).st_ctime_ns
    os.link(f, f"{work}/h")
    assert os.stat(f).st_ctime_ns > c1 and os.stat(f).st_mtime_ns == m1
    os.truncate(f, 0)
    assert os.stat(f).st_mtime_ns > m1


def test_permissions_are_those_of_the_caller(work):
    put(f"{work}/secret", "s")
    os.chmod(f"{work}/secret", 0o600)
    os.chmod(work, 0o755)
    p = harness.run(["cat", f"{work}/secret"], user=harness.USER, check=False)
    assert p.returncode == 1 and "Permission denied" in p.err
    p = harness.run(["touch", f"{work}/new"], user=harness.USER, check=False)
    assert p.returncode == 1
    os.chmod(work, 0o1777)
    harness.run(["touch", f"{work}/new"], user=harness.USER)
    assert os.stat(f"{work}/new").st_uid == harness.USER
    p = harness.run(["rm", "-f", f"{work}/secret"], user=harness.USER, check=False)
    assert p.returncode == 1, "the sticky bit protects another's file"
    p = harness.run(["chmod", "777", f"{work}/secret"], user=harness.USER, check=False)
    assert p.returncode == 1 and "Operation not permitted" in p.err


def test_set_group_id_of_a_directory_is_inherited(work):
    d = f"{work}/d"
    os.mkdir(d)
    os.chown(d, 0, 4242)
    os.chmod(d, 0o2775)
    put(f"{d}/f", "")
    os.mkdir(f"{d}/sub")
    assert os.stat(f"{d}/f").st_gid == 4242
    st = os.stat(f"{d}/sub")
    assert st.st_gid == 4242 and st.st_mode & stat.S_ISGID


def test_xattrs_of_files_and_directories(work):
    f = put(f"{work}/f", "")
    for path in (f, work):
        os.setxattr(path, "user.a", b"1")
        os.setxattr(path, "user.big", content.data(3, 0, 60000))
        os.setxattr(path, "trusted.t", b"")
        assert set(os.listxattr(path)) >= {"user.a", "user.big", "trusted.t"}
        assert os.getxattr(path, "user.big") == content.data(3, 0, 60000)
        raises(errno.EEXIST, os.setxattr, path, "user.a", b"2", os.XATTR_CREATE)
        os.setxattr(path, "user.a", b"2", os.XATTR_REPLACE)
        assert os.getxattr(path, "user.a") == b"2"
        os.removexattr(path, "user.a")
        raises(errno.ENODATA, os.getxattr, path, "user.a")
        raises(errno.ENODATA, os.setxattr, path, "user.a", b"2", os.XATTR_REPLACE)
        raises(errno.ENODATA, os.removexattr, path, "user.a")
    os.rename(f, f"{work}/g")
    assert os.getxattr(f"{work}/g", "user.big") == content.data(3, 0, 60000)


def test_posix_acls_grant_inherit_and_follow_chmod(work):
    os.chmod(work, 0o755)
    f = put(f"{work}/f", "secret")
    os.chmod(f, 0o600)
    harness.run(["setfacl", "-m", f"u:{harness.USER}:r", f])
    assert harness.run(["cat", f], user=harness.USER).out == "secret"
    out = harness.run(["getfacl", "-cn", f]).out
    assert f"user:{harness.USER}:r--" in out and "mask::r--" in out
    os.chmod(f, 0o600)  # the mask goes, and with it the grant
    assert "mask::---" in harness.run(["getfacl", "-cn", f]).out
    assert harness.run(["cat", f], user=harness.USER, check=False).returncode == 1
    d = f"{work}/d"
    os.mkdir(d)
    harness.run(["setfacl", "-d", "-m", f"u:{harness.USER}:rwx", d])
    put(f"{d}/child", "")
    os.mkdir(f"{d}/sub")
    assert f"user:{harness.USER}:rwx" in harness.run(["getfacl", "-cn", f"{d}/child"]).out
    assert f"default:user:{harness.USER}:rwx" in harness.run(["getfacl", "-cn", f"{d}/sub"]).out
    harness.run(["setfacl", "-b", f])
    assert f"user:{harness.USER}" not in harness.run(["getfacl", "-cn", f]).out


def test_statfs_tells_space_and_name_length(work, shared):
    s = os.statvfs(work)
    assert s.f_namemax == 255 and s.f_blocks > 0 and 0 < s.f_bavail <= s.f_blocks
    free = min(n["stats"]["free_bytes"] for n in shared.status()["nodes"])
    assert s.f_bavail * s.f_frsize <= free * 1.05


def test_blocks_follow_what_is_written(work):
    f = f"{work}/f"
    content.write_file(f, 5, 1 << 20)
    assert abs(os.stat(f).st_blocks * 512 - (1 << 20)) <= 8192
    os.truncate(f, 1 << 30)
    assert os.stat(f).st_size == 1 << 30
    assert os.stat(f).st_blocks * 512 <= (1 << 20) + 8192


# --- contents

def test_sparse_file_reads_zeroes_in_its_holes(work):
    f = f"{work}/f"
    fd = os.open(f, os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, content.data(6, 0, 5000), (3 << 30) + 123)
    assert os.fstat(fd).st_size == (3 << 30) + 5123
    assert os.pread(fd, 4096, 1 << 30) == bytes(4096)
    assert os.pread(fd, 223, (3 << 30) - 100) == bytes(223)
    content.check(os.pread(fd, 9999, (3 << 30) + 123), 6, 0)
    os.close(fd)
    fd = os.open(f, os.O_RDONLY)
    assert os.pread(fd, 8192, (3 << 30) - 8192) == bytes(8192)
    content.check(os.pread(fd, 5000, (3 << 30) + 123), 6, 0)
    os.close(fd)


def test_seek_data_and_hole_find_the_edges(work):
    fd = os.open(f"{work}/f", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, content.data(7, 0, 65536), 1 << 20)
    os.pwrite(fd, content.data(7, 0, 65536), 64 << 20)
    os.ftruncate(fd, 100 << 20)
    os.fsync(fd)

    def walk():
        return [os.lseek(fd, 0, SEEK_DATA), os.lseek(fd, 1 << 20, SEEK_HOLE),
                os.lseek(fd, 2 << 20, SEEK_DATA), os.lseek(fd, 64 << 20, SEEK_HOLE),
                os.lseek(fd, 0, SEEK_HOLE)]

    assert walk() == [1 << 20, (1 << 20) + 65536, 64 << 20, (64 << 20) + 65536, 0]
    raises(errno.ENXIO, os.lseek, fd, 80 << 20, SEEK_DATA)
    raises(errno.ENXIO, os.lseek, fd, 200 << 20, SEEK_HOLE)
    assert os.lseek(fd, 80 << 20, SEEK_HOLE) == 80 << 20
    os.close(fd)


def test_fallocate_extends_punches_and_zeroes(work):
    f = f"{work}/f"
    content.write_file(f, 8, 10 << 20)
    fd = os.open(f, os.O_RDWR)
    fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 100, (5 << 20) + 1000)
    got = os.pread(fd, 6 << 20, 0)
    content.check(got[:100], 8, 0)
    assert got[100:(5 << 20) + 1100] == bytes((5 << 20) + 1000)
    content.check(got[(5 << 20) + 1100:], 8, (5 << 20) + 1100)
    os.fsync(fd)
    got = os.pread(fd, 6 << 20, 0)
    assert got[100:(5 << 20) + 1100] == bytes((5 << 20) + 1000)
    content.check(got[(5 << 20) + 1100:], 8, (5 << 20) + 1100)
    fallocate(fd, 0, 9 << 20, 3 << 20)
    assert os.fstat(fd).st_size == 12 << 20
    content.check(os.pread(fd, 1 << 20, 9 << 20), 8, 9 << 20)
    assert os.pread(fd, 4 << 20, 10 << 20) == bytes(2 << 20)
    fallocate(fd, KEEP_SIZE, 12 << 20, 1 << 20)
    assert os.fstat(fd).st_size == 12 << 20
    try:
        fallocate(fd, ZERO_RANGE, 7 << 20, 4096)
        assert os.pread(fd, 4096, 7 << 20) == bytes(4096)
    except OSError as e:
        assert e.errno == errno.EOPNOTSUPP
    raises(errno.EOPNOTSUPP, fallocate, fd, COLLAPSE, 0, 4096)
    os.close(fd)


def test_truncate_down_and_up_leaves_zeroes(work):
    f = f"{work}/f"
    content.write_file(f, 9, 9 << 20)
    os.truncate(f, (4 << 20) + 777)
    os.truncate(f, 9 << 20)
    got = get(f)
    assert len(got) == 9 << 20
    content.check(got[:(4 << 20) + 777], 9, 0)
    assert got[(4 << 20) + 777:] == bytes((9 << 20) - (4 << 20) - 777)
    fd = os.open(f, os.O_WRONLY | os.O_TRUNC)
    assert os.fstat(fd).st_size == 0
    os.write(fd, b"new")
    os.close(fd)
    assert get(f) == b"new"


def test_dirty_file_truncated_before_it_was_flushed(work):
    fd = os.open(f"{work}/f", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, content.data(10, 0, 300000), 0)
    os.ftruncate(fd, 1000)
    os.pwrite(fd, b"tail", 5000)
    want = content.data(10, 0, 1000) + bytes(4000) + b"tail"
    assert os.pread(fd, 10000, 0) == want
    os.fsync(fd)
    os.close(fd)
    assert get(f"{work}/f") == want


def test_overlapping_writes_of_odd_sizes_end_as_written(work):
    import random
    rng = random.Random(11)
    size = 6 << 20
    want = bytearray(size)
    fd = os.open(f"{work}/f", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, size)
    for i in range(600):
        length = rng.choice((1, 17, 511, 4096, 4097, 70000, 300000))
        at = rng.randrange(size - length)
        piece = content.data(100 + i, at, length)
        assert os.pwrite(fd, piece, at) == length
        want[at:at + length] = piece
        if i % 7 == 0:
            a = rng.randrange(size - 100000)
            assert os.pread(fd, 100000, a) == want[a:a + 100000]
        if i % 50 == 0:
            os.fsync(fd)
    os.close(fd)
    assert get(f"{work}/f") == want


def test_append_goes_to_the_end_from_several_handles(work):
    f = f"{work}/f"
    a = os.open(f, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    b = os.open(f, os.O_WRONLY | os.O_APPEND)
    want = b""
    for i in range(200):
        line = f"{i:06}\n".encode()
        os.write(a if i % 2 else b, line)
        want += line
    os.lseek(a, 0, os.SEEK_SET)
    os.write(a, b"end")
    os.close(a)
    os.close(b)
    assert get(f) == want + b"end"


def test_o_direct_writes_and_reads(work):
    f = f"{work}/f"
    size = 8 << 20
    buf = mmap.mmap(-1, size)
    buf[:] = content.data(12, 0, size)
    fd = os.open(f, os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    for at in range(0, size, 1 << 20):
        assert os.pwritev(fd, [memoryview(buf)[at:at + (1 << 20)]], at) == 1 << 20
    back = mmap.mmap(-1, size)
    assert os.preadv(fd, [back], 0) == size
    content.check(back[:], 12, 0)
    os.close(fd)
    content.check_file(f, 12, size)


def test_o_tmpfile_gets_a_name_or_goes(work):
    fd = os.open(work, os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(fd, content.data(14, 0, 300_000))
    assert os.listdir(work) == []
    harness.Cluster.name_it(fd, f"{work}/f")
    content.check_file(f"{work}/f", 14, 300_000)
    os.close(fd)
    content.check_file(f"{work}/f", 14, 300_000)


def test_mmap_private_and_shared(work):
    f = f"{work}/f"
    content.write_file(f, 13, 1 << 20)
    code = f"""
import mmap, os, sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
import content
fd = os.open({f!r}, os.O_RDWR)
m = mmap.mmap(fd, 1 << 20, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
content.check(m[:], 13, 0)
m[5000:5000 + 9] = b"by a page"
m[1048576 - 4:] = b"last"
m.flush()
assert os.pread(fd, 9, 5000) == b"by a page"
os.pwrite(fd, b"by a call", 70000)
assert m[70000:70009] == b"by a call", m[70000:70009]
p = mmap.mmap(fd, 1 << 20, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
p[0:7] = b"private"
m.close(); p.close(); os.close(fd)
"""
    subprocess.run(["/usr/bin/python3", "-c", code], check=True, timeout=60)
    want = bytearray(content.data(13, 0, 1 << 20))
    want[5000:5009] = b"by a page"
    want[70000:70009] = b"by a call"
    want[-4:] = b"last"
    assert get(f) == want


def test_programs_run_from_the_mount(work):
    harness.run(["cp", "/bin/true", f"{work}/true"])
    harness.run([f"{work}/true"])
    raises(errno.ETXTBSY, _write_while_running, work)


def _write_while_running(work):
    harness.run(["cp", "/bin/sleep", f"{work}/sleep"])
    p = subprocess.Popen([f"{work}/sleep", "30"])
    try:
        os.close(os.open(f"{work}/sleep", os.O_WRONLY))
    finally:
        p.kill()
        p.wait()


def test_copy_file_range_copies(work):
    f, g = f"{work}/f", f"{work}/g"
    content.write_file(f, 14, 12 << 20)
    with open(f, "rb") as a, open(g, "wb") as b:
        left = 12 << 20
        while left:
            n = os.copy_file_range(a.fileno(), b.fileno(), left)
            assert n > 0
            left -= n
    content.check_file(g, 14, 12 << 20)
    with open(f, "r+b") as a:
        a.write(b"changed")
    content.check_file(g, 14, 12 << 20)


def test_files_from_empty_to_many_extents_read_back(work, shared):
    sizes = [0, 1, 4095, 4096, 4097, 32768, 32769, 100001, (4 << 20) - 1, 4 << 20, (4 << 20) + 1,
             9_999_999]
    for n in sizes:
        content.write_file(f"{work}/{n}", n + 1, n)
    hf_top = shared.mounts["a"]
    harness.hf("flush", "--wait", hf_top)
    for n in sizes:
        content.check_file(f"{work}/{n}", n + 1, n)


def test_locks_between_processes_of_one_mount(work):
    import fcntl
    f = put(f"{work}/f", "x" * 100)
    fd = os.open(f, os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX, 10, 20)
    code = f"""
import fcntl, os
fd = os.open({f!r}, os.O_RDWR)
fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 0)
fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 40)
try:
    fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB, 5, 25)
except OSError as e:
    assert e.errno in (11, 13), e
else:
    raise SystemExit("the lock was given twice")
"""
    harness.run(["/usr/bin/python3", "-c", code])
    fcntl.lockf(fd, fcntl.LOCK_UN, 10, 20)
    g = os.open(f, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    raises(errno.EWOULDBLOCK, fcntl.flock, g, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)
    fcntl.flock(g, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(g)


def test_everything_is_still_there_after_a_new_mount(shared, work):
    content.write_file(f"{work}/f", 15, 3_333_333)
    os.symlink("f", f"{work}/s")
    os.setxattr(f"{work}/f", "user.k", b"v")
    os.chmod(f"{work}/f", 0o640)
    os.utime(f"{work}/f", ns=(5, 7))
    shared.remount("a")
    content.check_file(f"{work}/s", 15, 3_333_333)
    assert os.getxattr(f"{work}/f", "user.k") == b"v"
    st = os.stat(f"{work}/f")
    assert stat.S_IMODE(st.st_mode) == 0o640 and st.st_mtime_ns == 7
