# SPDX-License-Identifier: Apache-2.0
"""What the cluster's file lets clients do, by the address they come from."""
import errno
import fcntl
import os
import subprocess

import harness
from test_posix_smoke import get, put, raises
from test_squash import CHANGES, LOOKS, build, outcome, state


def export(cluster, *rules):
    """In the cluster's file, and in force."""
    with open(cluster.conf, "a") as f:
        f.writelines(f"export {{ {rule} }}\n" for rule in rules)
    harness.run([harness.program("holdfast"), "config", "check", cluster.conf])
    cluster.terminate(1)
    cluster.start(1)
    cluster.wait_healthy()


def one_node(make_cluster):
    c = make_cluster(nodes=1, metadata=1)
    c.up()
    return c


def options(mountpoint):
    line = next(x for x in open("/proc/self/mounts") if x.split()[1] == mountpoint)
    return line.split()[3].split(",")


def test_who_may_only_read_changes_nothing(make_cluster):
    c = one_node(make_cluster)
    a = c.mount("a")
    d = build(f"{a}/t", "open to all")
    held = os.open(f"{d}/f", os.O_RDWR)
    export(c, 'client = "10.0.0.0/8"', 'client = "127.0.0.0/8" read_only = true')
    b = c.mount("b")
    assert "ro" in options(b) and "rw" in options(a)
    before = state(f"{b}/t")
    subprocess.run(["mount", "-o", "remount,rw", b], check=False)  # root's own affair
    for what, fn in CHANGES.items():
        got = outcome(fn, f"{b}/t/d")
        assert got == "EROFS" or (what, got) == ("mkdir of what is there", "EEXIST"), (what, got)
    for what, fn in LOOKS.items():
        if not what.startswith("open"):
            assert outcome(fn, f"{b}/t/d") == outcome(fn, d), what
    with open(f"{b}/t/d/f", "rb") as f:  # a lock changes nothing
        fcntl.flock(f, fcntl.LOCK_SH)
    # who had a session before is refused by the leader itself, and goes on
    for what in ("mkdir", "unlink", "rename", "chmod", "truncate", "set user attribute", "link", "create"):
        assert outcome(CHANGES[what], d) == "EROFS", what
    os.pwrite(held, b"x", 0)
    raises(errno.EROFS, os.fsync, held)
    assert get(f"{d}/h") == b"contents"
    assert state(f"{b}/t") == before
    os.close(held)


def test_root_is_who_the_cluster_says(make_cluster):
    c = one_node(make_cluster)
    a = c.mount("a")
    os.mkdir(f"{a}/d")
    os.chmod(f"{a}/d", 0o777)
    export(c, 'client = "127.0.0.1" root_squash = true anonuid = 1234 anongid = 4321', 'client = "*"')
    b = c.mount("b", "no_root_squash")  # not for the client to say
    raises(errno.EACCES, put, f"{b}/f", "x")
    put(f"{b}/d/f", "x")
    s = os.stat(f"{a}/d/f")
    assert (s.st_uid, s.st_gid) == (1234, 4321)
    assert "rw" in options(b)


def test_whom_no_export_fits_may_do_everything(make_cluster):
    c = one_node(make_cluster)
    export(c, 'client = "10.0.0.0/8" read_only = true root_squash = true')
    a = c.mount("a")
    put(f"{a}/f", "x")
    assert os.stat(f"{a}/f").st_uid == 0
