# SPDX-License-Identifier: Apache-2.0
"""root_squash: root may on the mount what the ordinary user may whom it acts as, no more and no less.
The judge is the kernel: the same call by that user on a mount without the option."""
import contextlib
import errno
import mmap
import os
import shutil
import signal
import stat
import struct
import subprocess
import sys

import pytest

import harness
from test_posix_smoke import EXCHANGE, fallocate, get, libc, put, raises, renameat2

CLUSTER = {"nodes": 1, "metadata": 1}  # thousands of changes, each by a round of disks
ANON = 65534
OWNER, GROUP = 1000, 1000  # somebody else
ACL_ACCESS, ACL_DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
LINKS_PROTECTED = open("/proc/sys/fs/protected_hardlinks").read().strip() == "1"


@contextlib.contextmanager
def user(uid, gid, groups=()):
    """The kernel's checks go by the effective user, who has no capability."""
    before = os.getgroups()
    os.setgroups(groups)
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


def acl(*entries):
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)


def acl_for(uid, perm, group=0, other=0):
    return acl((1, 7, 0), (2, perm, uid), (4, group, 0), (16, 7, 0), (32, other, 0))


def utimensat(path, atime, mtime):
    times = struct.pack("<qqqq", 0, atime, 0, mtime)
    if libc.utimensat(-100, os.fsencode(path), times, 0) != 0:
        import ctypes
        raise OSError(ctypes.get_errno(), "utimensat")


@pytest.fixture(scope="module")
def squashed(shared):
    return shared.mount("s", "root_squash")


def opened(path, flags, mode=0o666):
    os.close(os.open(path, flags, mode))


def written(path):
    with open(path, "r+b", buffering=0) as f:
        f.write(b"x")


# Each in a directory d with files f and h, a directory sub with a file in it, a link, and beside it the
# directory d2 with a file f2. Those that change nothing come first.
LOOKS = {
    "stat": lambda d: os.stat(f"{d}/f"),
    "stat of nothing": lambda d: os.stat(f"{d}/none"),
    "stat below": lambda d: os.stat(f"{d}/sub/inner"),
    "stat of itself": lambda d: os.stat(d),
    "list": lambda d: os.listdir(d),
    "list with attributes": lambda d: [e.stat() for e in os.scandir(d)],
    "readlink": lambda d: os.readlink(f"{d}/link"),
    "follow": lambda d: os.stat(f"{d}/link"),
    "read": lambda d: get(f"{d}/f"),
    "open to write": lambda d: opened(f"{d}/f", os.O_WRONLY),
    "open to append": lambda d: opened(f"{d}/f", os.O_WRONLY | os.O_APPEND),
    "open for both": lambda d: opened(f"{d}/f", os.O_RDWR),
    "open for neither": lambda d: opened(f"{d}/f", os.O_ACCMODE),
    "open without atime": lambda d: opened(f"{d}/f", os.O_RDONLY | os.O_NOATIME),
    "get user attribute": lambda d: os.getxattr(f"{d}/f", "user.a"),
    "get attribute of directory": lambda d: os.getxattr(d, "user.a"),
    "get trusted attribute": lambda d: os.getxattr(f"{d}/f", "trusted.a"),
    "get security attribute": lambda d: os.getxattr(f"{d}/f", "security.a"),
    "get ACL": lambda d: os.getxattr(f"{d}/f", ACL_ACCESS),
    "list attributes": lambda d: sorted(os.listxattr(f"{d}/f")),
}
CHANGES = {
    "write": lambda d: written(f"{d}/f"),
    "open to truncate": lambda d: opened(f"{d}/f", os.O_WRONLY | os.O_TRUNC),
    "open to read and truncate": lambda d: opened(f"{d}/f", os.O_RDONLY | os.O_TRUNC),
    "truncate": lambda d: os.truncate(f"{d}/f", 1),
    "chmod": lambda d: os.chmod(f"{d}/f", 0o6775),
    "chmod directory": lambda d: os.chmod(d, 0o2711),
    "chown to root": lambda d: os.chown(f"{d}/f", 0, -1),
    "chown to other": lambda d: os.chown(f"{d}/f", OWNER, -1),
    "chown to self": lambda d: os.chown(f"{d}/f", ANON, -1),
    "chgrp to own": lambda d: os.chown(f"{d}/f", -1, ANON),
    "chgrp to other": lambda d: os.chown(f"{d}/f", -1, GROUP),
    "chgrp to third": lambda d: os.chown(f"{d}/f", -1, 77),
    "times to now": lambda d: os.utime(f"{d}/f"),
    "times": lambda d: os.utime(f"{d}/f", ns=(5, 5)),
    "one time to now": lambda d: utimensat(f"{d}/f", UTIME_NOW, UTIME_OMIT),
    "set user attribute": lambda d: os.setxattr(f"{d}/f", "user.b", b"1"),
    "set attribute of directory": lambda d: os.setxattr(d, "user.b", b"1"),
    "remove user attribute": lambda d: os.removexattr(f"{d}/f", "user.a"),
    "set trusted attribute": lambda d: os.setxattr(f"{d}/f", "trusted.b", b"1"),
    "remove trusted attribute": lambda d: os.removexattr(f"{d}/f", "trusted.a"),
    "set security attribute": lambda d: os.setxattr(f"{d}/f", "security.b", b"1"),
    "set ACL": lambda d: os.setxattr(f"{d}/f", ACL_ACCESS, acl_for(5, 6)),
    "remove ACL": lambda d: os.removexattr(f"{d}/f", ACL_ACCESS),
    "set default ACL": lambda d: os.setxattr(d, ACL_DEFAULT, acl_for(5, 6)),
    "create": lambda d: opened(f"{d}/new", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o2775),
    "create in sub": lambda d: opened(f"{d}/sub/new", os.O_CREAT | os.O_RDWR),
    "open what may be created": lambda d: opened(f"{d}/f", os.O_CREAT | os.O_WRONLY),
    "mkdir": lambda d: os.mkdir(f"{d}/new", 0o777),
    "mkdir of what is there": lambda d: os.mkdir(f"{d}/sub"),
    "symlink": lambda d: os.symlink("x", f"{d}/new"),
    "mkfifo": lambda d: os.mkfifo(f"{d}/new", 0o666),
    "mknod": lambda d: os.mknod(f"{d}/new", stat.S_IFCHR | 0o666, os.makedev(1, 3)),
    "whiteout": lambda d: os.mknod(f"{d}/new", stat.S_IFCHR | 0o666, 0),
    "link": lambda d: os.link(f"{d}/f", f"{d}/new"),
    "link from elsewhere": lambda d: os.link(f"{d}2/f2", f"{d}/new"),
    "unlink": lambda d: os.unlink(f"{d}/f"),
    "unlink own": lambda d: os.unlink(f"{d}/mine"),
    "unlink below": lambda d: os.unlink(f"{d}/sub/inner"),
    "rmdir": lambda d: os.rmdir(f"{d}/empty"),
    "rmdir of a full one": lambda d: os.rmdir(f"{d}/sub"),
    "rename": lambda d: os.rename(f"{d}/f", f"{d}/new"),
    "rename over": lambda d: os.rename(f"{d}/f", f"{d}/h"),
    "rename own over": lambda d: os.rename(f"{d}/mine", f"{d}/h"),
    "rename away": lambda d: os.rename(f"{d}/f", f"{d}2/new"),
    "rename to here": lambda d: os.rename(f"{d}2/f2", f"{d}/new"),
    "rename directory": lambda d: os.rename(f"{d}/sub", f"{d}/new"),
    "rename directory away": lambda d: os.rename(f"{d}/sub", f"{d}2/new"),
    "rename closed directory": lambda d: os.rename(f"{d}/closed", f"{d}/new"),
    "rename closed directory away": lambda d: os.rename(f"{d}/closed", f"{d}2/new"),
    "exchange closed directory": lambda d: renameat2(f"{d}2/f2", f"{d}/closed", EXCHANGE),
    "exchange": lambda d: renameat2(f"{d}/f", f"{d}2/f2", EXCHANGE),
    "exchange directory": lambda d: renameat2(f"{d}2/f2", f"{d}/sub", EXCHANGE),
}
# who the directory and what is in it belong to, their modes, an ACL of both
CASES = {
    "all is others'": (OWNER, GROUP, 0o755, 0o644, None),
    "all is its own": (ANON, ANON, 0o700, 0o600, None),
    "its own, without rights": (ANON, ANON, 0o077, 0o077, None),
    "others', and closed": (OWNER, GROUP, 0o700, 0o600, None),
    "others', only to pass": (OWNER, GROUP, 0o711, 0o666, None),
    "others', only to list": (OWNER, GROUP, 0o744, 0o666, None),
    "open to all": (OWNER, GROUP, 0o777, 0o666, None),
    "open to all, its group shut out": (OWNER, ANON, 0o707, 0o606, None),
    "open to its group": (OWNER, ANON, 0o770, 0o660, None),
    "sticky": (OWNER, GROUP, 0o1777, 0o666, None),
    "sticky and its own": (ANON, GROUP, 0o1777, 0o666, None),
    "set-group-ID": (ANON, GROUP, 0o2775, 0o2775, None),
    "set-user-ID": (OWNER, GROUP, 0o777, 0o4777, None),
    "an ACL gives": (OWNER, GROUP, 0o700, 0o600, acl_for(ANON, 7)),
    "an ACL takes": (OWNER, GROUP, 0o777, 0o666, acl_for(ANON, 0, 7, 7)),
    "an ACL gives to the group": (OWNER, GROUP, 0o700, 0o600, acl(
        (1, 7, 0), (4, 0, 0), (8, 7, ANON), (16, 7, 0), (32, 0, 0))),
}


def build(top, case):
    uid, gid, dir_mode, mode, an_acl = CASES[case]
    d = f"{top}/d"
    shutil.rmtree(top, ignore_errors=True)
    for p in (top, d, f"{d}2", f"{d}/sub", f"{d}/empty", f"{d}/closed"):
        os.mkdir(p)
    for p in (f"{d}/f", f"{d}/h", f"{d}/sub/inner", f"{d}2/f2", f"{d}/mine"):
        put(p, "contents")
    os.symlink("f", f"{d}/link")
    for name in ("user.a", "trusted.a", "security.a"):
        os.setxattr(f"{d}/f", name, b"v")
    os.setxattr(d, "user.a", b"v")
    for p in (f"{d}/f", f"{d}/h", f"{d}/sub/inner", f"{d}/sub", f"{d}/empty", f"{d}/link", d):
        os.chown(p, uid, gid, follow_symlinks=False)
    os.chown(f"{d}/closed", OWNER, GROUP)
    for p in (f"{d}2", f"{d}2/f2", f"{d}/mine"):
        os.chown(p, ANON, ANON)
    for p in (f"{d}/f", f"{d}/h", f"{d}/sub/inner"):
        os.chmod(p, mode)
    for p in (f"{d}/sub", f"{d}/empty", d):
        os.chmod(p, dir_mode)
    if an_acl:
        for p in (f"{d}/f", f"{d}/sub", d):
            os.setxattr(p, ACL_ACCESS, an_acl)
    return d


def outcome(fn, d):
    try:
        value = fn(d)
    except OSError as e:
        return errno.errorcode[e.errno]
    return sorted(value) if isinstance(value, list) and isinstance(value[0], str) else \
        value if isinstance(value, (bytes, str)) else "done"


def state(top):
    """Names, kinds, modes, owners, contents, attributes."""
    found = {}
    for base, dirs, files in os.walk(top):
        for p in [base] + [f"{base}/{n}" for n in files + dirs]:
            s = os.lstat(p)
            found[p[len(top):]] = (
                oct(s.st_mode), s.st_uid, s.st_gid, s.st_nlink, s.st_size,
                s.st_mtime_ns if s.st_mtime_ns < 10 else "later",
                [(n, os.getxattr(p, n, follow_symlinks=False))
                 for n in sorted(os.listxattr(p, follow_symlinks=False))])
    return found


def skipped(case, what):
    if "link" in what and not LINKS_PROTECTED:
        return True  # the option protects always
    # the kernel itself compares the owner with root here (fs.protected_regular)
    return case.startswith("sticky") and what == "open what may be created"


@pytest.mark.limit(300)
@pytest.mark.parametrize("case", CASES)
def test_root_may_what_the_user_may(shared, squashed, work, case):
    name = os.path.basename(work)
    differing = []
    os.chmod(work, 0o755)
    fresh = None
    for what, fn in {**LOOKS, **CHANGES}.items():
        if skipped(case, what):
            continue
        if fresh is None:  # only then: each change is a round of the cluster
            for tree in ("theirs", "ours"):
                build(f"{work}/{tree}", case)
            fresh = state(f"{work}/ours")
        with user(ANON, ANON):
            want = outcome(fn, f"{work}/theirs/d")
        got = outcome(fn, f"{squashed}/{name}/ours/d")
        want_state = got_state = fresh
        if what in CHANGES and "done" in (want, got):
            want_state, got_state = state(f"{work}/theirs"), state(f"{work}/ours")
            fresh = fresh if fresh == want_state == got_state else None
        if (want, want_state) != (got, got_state):
            fresh = None
            differing.append((what, want, got, [
                (p, want_state.get(p), got_state.get(p)) for p in {**want_state, **got_state}
                if want_state.get(p) != got_state.get(p)]))
    assert not differing, "\n".join(map(str, differing))


def test_what_root_makes_belongs_to_the_user(shared, squashed, work):
    os.chmod(work, 0o777)
    d = f"{squashed}/{os.path.basename(work)}"
    put(f"{d}/f", "x")
    os.mkdir(f"{d}/d")
    os.symlink("x", f"{d}/l")
    os.mkfifo(f"{d}/p")
    os.mkdir(f"{d}/d/below")
    for p in ("f", "d", "l", "p", "d/below"):
        for top in (d, work):
            s = os.lstat(f"{top}/{p}")
            assert (s.st_uid, s.st_gid) == (ANON, ANON), p
    raises(errno.EPERM, os.chown, f"{d}/f", 0, 0)
    raises(errno.EPERM, os.chown, f"{d}/f", OWNER, GROUP)


def test_the_user_may_be_another_and_has_no_groups(shared, work):
    other = shared.mount("o", "root_squash,anonuid=1234,anongid=4321")
    d = f"{other}/{os.path.basename(work)}"
    os.chmod(work, 0o777)
    put(f"{d}/f", "x")
    assert (os.stat(f"{work}/f").st_uid, os.stat(f"{work}/f").st_gid) == (1234, 4321)
    put(f"{work}/root", "x")
    os.chown(f"{work}/root", 0, 0)
    os.chmod(f"{work}/root", 0o770)
    put(f"{work}/group", "x")
    os.chown(f"{work}/group", 0, 42)
    os.chmod(f"{work}/group", 0o770)
    with user(0, 0, [0, 42]):
        raises(errno.EACCES, get, f"{d}/root")
        raises(errno.EACCES, get, f"{d}/group")
    with user(1234, 4321):  # anybody else is who they are
        raises(errno.EACCES, get, f"{d}/group")
    with user(OWNER, 42):
        assert get(f"{d}/group") == b"x"
        put(f"{d}/theirs", "x")
    assert os.stat(f"{work}/theirs").st_uid == OWNER
    shared.umount("o")


def test_what_the_kernel_has_cached_opens_no_door(shared, squashed, work):
    name = os.path.basename(work)
    os.chown(work, OWNER, GROUP)
    os.chmod(work, 0o700)
    with user(OWNER, GROUP):
        put(f"{squashed}/{name}/f", "secret")
        os.mkdir(f"{squashed}/{name}/d")
        put(f"{squashed}/{name}/d/g", "secret")
        assert get(f"{squashed}/{name}/f") == b"secret"  # its pages, its name, its attributes
        os.stat(f"{squashed}/{name}/d/g")
    raises(errno.EACCES, get, f"{squashed}/{name}/f")
    raises(errno.EACCES, os.stat, f"{squashed}/{name}/f")
    raises(errno.EACCES, os.stat, f"{squashed}/{name}/d/g")
    raises(errno.EACCES, os.listdir, f"{squashed}/{name}")
    with user(OWNER, GROUP):
        assert get(f"{squashed}/{name}/d/g") == b"secret"
    here = os.open(f"{squashed}/{name}", os.O_PATH)  # as chdir: the kernel asks nobody
    raises(errno.EACCES, os.stat, "f", dir_fd=here)
    raises(errno.EACCES, os.open, ".", os.O_RDONLY, dir_fd=here)
    os.close(here)
    os.chmod(work, 0o711)  # a change counts from the next call on
    raises(errno.EACCES, os.listdir, f"{squashed}/{name}")
    assert os.stat(f"{squashed}/{name}/f").st_size == 6


def test_an_open_file_goes_on(shared, squashed, work):
    """Rights are asked for when it is opened: also for what the kernel writes back as root."""
    name = os.path.basename(work)
    os.chmod(work, 0o777)
    path = f"{squashed}/{name}/f"
    with user(OWNER, GROUP):
        put(path, b"a" * 8192)
        fd = os.open(path, os.O_RDWR)
        mapping = mmap.mmap(fd, 8192)
    root = os.open(f"{squashed}/{name}/mine", os.O_RDWR | os.O_CREAT, 0o600)
    os.chmod(work, 0o700)
    os.chown(work, OWNER, GROUP)
    mapping[0:2] = b"bb"
    mapping.flush()
    os.pwrite(fd, b"cc", 4)  # root, by the descriptor
    os.ftruncate(fd, 6)
    fallocate(fd, 0, 0, 10)
    os.fsync(fd)
    assert get(f"{work}/f") == b"bbaacc" + b"\0" * 4
    os.write(root, b"more")
    assert os.copy_file_range(fd, root, 4, 0, 0) == 4
    os.fsync(root)
    os.fchmod(root, 0o640)  # its own
    raises(errno.EPERM, os.fchmod, fd, 0o666)
    raises(errno.EPERM, os.fchown, root, 0, 0)
    assert get(f"{work}/mine") == b"bbaa"
    mapping.close()
    os.close(fd)
    os.close(root)


def test_a_write_takes_set_id_bits_as_a_users_would(squashed, work):
    name = os.path.basename(work)
    os.chmod(work, 0o777)
    put(f"{work}/f", "x")
    os.chmod(f"{work}/f", 0o6777)
    written(f"{squashed}/{name}/f")
    assert oct(os.stat(f"{work}/f").st_mode) == "0o100777"
    os.chmod(f"{work}/f", 0o6777)
    os.truncate(f"{squashed}/{name}/f", 0)
    assert oct(os.stat(f"{work}/f").st_mode) == "0o100777"


def test_programs_run_by_the_right_to_run_them(squashed, work):
    name = os.path.basename(work)
    shutil.copy("/bin/true", f"{work}/true")
    os.chmod(work, 0o755)
    for mode, may in ((0o755, True), (0o711, True), (0o744, False), (0o700, False)):
        os.chmod(f"{work}/true", mode)
        try:
            ran = subprocess.run([f"{squashed}/{name}/true"], check=False).returncode == 0
        except PermissionError:
            ran = False
        assert ran == may, oct(mode)


def test_gone_files_keep_their_owner(squashed, work):
    """What was removed while it was held is judged by what it was."""
    name = os.path.basename(work)
    os.chmod(work, 0o777)
    os.mkdir(f"{squashed}/{name}/d")
    held = os.open(f"{squashed}/{name}/d", os.O_RDONLY)
    os.rmdir(f"{squashed}/{name}/d")
    os.fchmod(held, 0o750)
    assert stat.S_IMODE(os.fstat(held).st_mode) == 0o750
    raises(errno.EPERM, os.fchown, held, 0, 0)
    os.close(held)
    with user(OWNER, GROUP):
        os.mkdir(f"{squashed}/{name}/d", 0o755)
    held = os.open(f"{squashed}/{name}/d", os.O_RDONLY)
    with user(OWNER, GROUP):
        os.rmdir(f"{squashed}/{name}/d")
    raises(errno.EPERM, os.fchmod, held, 0o777)
    os.close(held)
    f = os.open(f"{squashed}/{name}/f", os.O_CREAT | os.O_RDWR)
    os.unlink(f"{squashed}/{name}/f")
    os.fchmod(f, 0o600)
    os.write(f, b"x")
    os.close(f)


def test_mount_options_are_as_they_say(shared, squashed):
    for name, what in (("a", None), ("s", None)):
        line = next(x for x in open("/proc/self/mounts") if x.split()[1] == shared.mounts[name])
        options = line.split()[3].split(",")
        assert "nosuid" in options and "nodev" in options and "default_permissions" in options, line
    top = shared.mount("noexec", "noexec,noatime")
    shutil.copy("/bin/true", f"{top}/true")
    with pytest.raises(PermissionError):
        subprocess.run([f"{top}/true"], check=True)
    os.unlink(f"{top}/true")
    shared.umount("noexec")
    for opts, says in (("root_squash,anonuid=0", "0 would be root again"),
                       ("root_squash,anonuid=nobody", "a number from 1 to 4294967294"),
                       ("root_squash,anongid=4294967295", "a number from 1 to 4294967294"),
                       ("root_squash,anonuid=-1", "a number from 1"),
                       ("root_squash,anongid", "a number from 1"),
                       ("anonuid=5", "add root_squash"),
                       ("no_root_squash,anongid=5", "add root_squash")):
        p = shared.mount("bad", opts, check=False)
        assert p.returncode == 2 and says in p.err, (opts, p.returncode, p.err)
    assert "root_squash" in shared.hf("mount", "--help").out


def test_the_clusters_file_may_say_it_for_all_mounts(make_cluster):
    c = make_cluster(nodes=1, metadata=1, client={"root_squash": True, "anonuid": 1234, "anongid": 99})
    c.up()
    plain = c.mount("plain", "no_root_squash")
    os.mkdir(f"{plain}/d")
    os.chmod(f"{plain}/d", 0o777)
    squashed = f"{c.dir}/mnt-b"  # as mount(8) does for a line of fstab
    os.makedirs(squashed)
    harness.run([harness.program("mount.holdfast"), c.conf, squashed, "-o", "rw,_netdev"],
                env={**os.environ, "HOLDFAST_CONFIG": c.conf})
    c.mounts["b"] = squashed
    raises(errno.EACCES, put, f"{squashed}/f", "x")
    put(f"{squashed}/d/f", "x")
    s = os.stat(f"{plain}/d/f")
    assert (s.st_uid, s.st_gid) == (1234, 99)
    put(f"{plain}/d/g", "x")
    assert os.stat(f"{plain}/d/g").st_uid == 0


def test_a_read_only_mount_changes_nothing(shared, work):
    name = os.path.basename(work)
    build(f"{work}/t", "open to all")
    mounts = [shared.mount("ro", "ro"), shared.mount("ros", "ro,root_squash")]
    before = state(f"{work}/t")
    atime = os.stat(f"{work}/t/d/f").st_atime_ns
    refused = {"mkdir of what is there": "EEXIST"}  # as on any file system
    squash_first = ("trusted", "security", "mknod", "chown", "chgrp", "one time", "times", "chmod",
                    "ACL")
    for top in mounts:
        d = f"{top}/{name}/t/d"
        for what, fn in CHANGES.items():
            got = outcome(fn, d)
            assert got == refused.get(what, "EROFS") or (
                top == mounts[1] and got in ("EPERM", "EACCES") and
                any(w in what for w in squash_first)), (top, what, got)
        for what, fn in LOOKS.items():
            want = "EROFS" if what in ("open to write", "open to append", "open for both",
                                       "open for neither") else outcome(fn, f"{work}/t/d")
            got = outcome(fn, d)
            assert got == want or top == mounts[1], (top, what, got)
        assert get(f"{d}/f") == b"contents"
    assert state(f"{work}/t") == before
    assert os.stat(f"{work}/t/d/f").st_atime_ns == atime
    os.rename(f"{work}/t/d/f", f"{work}/t/d/z")  # what others change is seen
    put(f"{work}/t/d/z", "new")
    for name_, top in (("ro", mounts[0]), ("ros", mounts[1])):
        assert get(f"{top}/{name}/t/d/z") == b"new"
        shared.umount(name_)


HOLDER = "import os, sys; fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT); print(flush=True); " \
         "input(); os.fchmod(fd, 0o600)"


def test_what_waits_for_the_cluster_can_be_ended(shared, squashed, work):
    """Root's request is held before libfuse sees it: a signal, and the mount's end, find it there."""
    os.chmod(work, 0o777)
    other = shared.mount("e", "root_squash")
    waiting = [subprocess.Popen([sys.executable, "-c", HOLDER, f"{top}/{os.path.basename(work)}/{n}"],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
               for top, n in ((squashed, "f"), (squashed, "g"), (other, "h"))]
    for p in waiting:
        p.stdout.readline()
    shared.stop(1)
    try:
        for p in waiting:
            p.stdin.write(b"\n")
            p.stdin.flush()
        harness.wait_for("they wait", lambda: all(
            "fuse_do_setattr" in open(f"/proc/{p.pid}/stack").read() for p in waiting), 10)
        waiting[0].terminate()
        subprocess.run(["umount", "-f", other], stderr=subprocess.DEVNULL, check=False)  # cut off
    finally:
        shared.cont(1)
    assert [p.wait(30) for p in waiting] == [-signal.SIGTERM, 0, 1]
    subprocess.run(["umount", "-l", other], stderr=subprocess.DEVNULL, check=False)
    shared.mounts.pop("e")
    harness.wait_for("the mount's end", lambda: not harness.processes_below(other), 30)
    os.chmod(f"{squashed}/{os.path.basename(work)}/f", 0o640)  # it goes on
