# SPDX-License-Identifier: Apache-2.0
"""Under a service manager: what the daemon and the mount tell it, and when."""
import os
import shutil
import signal
import socket
import subprocess

import pytest

import content
from harness import USER, hf, program, run, wait_for


class Manager:
    """What systemd is to a service of Type=notify: a datagram socket."""

    def __init__(self, directory):
        self.path = f"{directory}/notify.sock"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.env = {**os.environ, "NOTIFY_SOCKET": self.path}

    def hear(self, timeout=30):
        self.socket.settimeout(timeout)
        return self.socket.recv(4096).decode().split("\n")

    def silent(self):
        self.socket.settimeout(0)
        with pytest.raises(BlockingIOError):
            self.socket.recv(4096)


def start(cluster, name, argv, env):
    with open(f"{cluster.dir}/{name}.log", "wb") as log:
        return subprocess.Popen(argv, stdout=log, stderr=log, env=env, cwd=cluster.dir)


def test_daemon_says_ready_once_it_serves_and_stopping_before_it_ends(make_cluster):
    c = make_cluster()
    manager = Manager(c.dir)
    argv = [program("holdfastd"), "--config", c.conf, "--node", "2"]
    p = start(c, "n2", argv, manager.env)
    try:
        ready = manager.hear()
        assert ready[0] == "READY=1" and c.address(2) in ready[1], ready
        hf("status", "--config", c.conf, "--node", 2)  # at once, without trying again
        manager.silent()
        p.send_signal(signal.SIGTERM)
        assert manager.hear()[0] == "STOPPING=1"
        assert p.wait(30) == 0
        manager.silent()
    finally:
        p.kill()
        p.wait()


def test_daemon_that_cannot_serve_never_says_ready(make_cluster):
    c = make_cluster()
    manager = Manager(c.dir)
    with open(c.data_dir(2), "w"):  # a file where its directory should be
        pass
    p = start(c, "n2", [program("holdfastd"), "--config", c.conf, "--node", "2"], manager.env)
    assert p.wait(30) == 1
    manager.silent()


def test_mount_in_the_foreground_says_ready_when_it_can_be_used(cluster):
    manager = Manager(cluster.dir)
    top = f"{cluster.dir}/mnt-s"
    os.mkdir(top)
    p = start(cluster, "mnt-s", [program("holdfast"), "mount", "--foreground", "--config",
                                 cluster.conf, top], manager.env)
    cluster.mounts["s"] = top
    assert manager.hear()[0] == "READY=1"
    content.write_file(f"{top}/f", 6, 300000)
    manager.silent()
    p.send_signal(signal.SIGTERM)
    assert manager.hear()[0] == "STOPPING=1"
    assert p.wait(60) == 0
    del cluster.mounts["s"]
    wait_for("the end of the mount", lambda: not os.path.ismount(top), 10)
    content.check_file(f"{cluster.mount('a')}/f", 6, 300000)


FUSERMOUNT = """#!/bin/sh
fusermount3=%s
case $1 in
-u) "$fusermount3" "$@"; code=$?; sleep 2; exit $code ;;
esac
exec "$fusermount3" "$@"
"""


def test_mount_outlives_what_detaches_it(cluster, tmp_path):
    """A user's mount is detached by a program, which may return after all else is over."""
    with open(tmp_path / "fusermount3", "w") as f:
        f.write(FUSERMOUNT % shutil.which("fusermount3"))
    for p in (tmp_path / "fusermount3", tmp_path, *tmp_path.parents):
        os.chmod(p, os.stat(p).st_mode | 0o011 | (0o555 if p.is_file() else 0))
    top = f"{cluster.dir}/mnt-u"
    os.mkdir(top)
    os.chown(top, USER, USER)
    device = 'mknod "$1" c 10 229 && chmod 666 "$1" && mount --bind "$1" /dev/fuse && shift && exec "$@"'
    argv = ["unshare", "--mount", "sh", "-c", device, "sh", f"{cluster.dir}/fuse",
            "setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups",
            program("holdfast"), "mount", "--foreground", "--config", cluster.conf, top]
    manager = Manager(cluster.dir)
    os.chmod(manager.path, 0o666)
    # what is freed is overwritten, so that its use ends the process
    env = {**manager.env, "PATH": f"{tmp_path}:{os.environ['PATH']}", "MALLOC_PERTURB_": "165"}
    p = start(cluster, "mnt-u", argv, env)
    cluster.mounts["u"] = top
    assert manager.hear()[0] == "READY=1"
    p.send_signal(signal.SIGTERM)
    assert manager.hear()[0] == "STOPPING=1"
    assert p.wait(60) == 0
    del cluster.mounts["u"]


def test_what_lies_over_a_mount_is_not_taken_away_with_it(cluster):
    top = cluster.mount("a")
    pid = cluster.mount_pid("a")
    content.write_file(f"{top}/f", 6, 300000)
    below = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    run(["mount", "-t", "tmpfs", "over", top])
    try:
        content.write_file(f"{top}/other", 7, 1000)
        os.kill(pid, signal.SIGTERM)
        wait_for("the mount to say that it goes on",
                 lambda: "something else is mounted over it" in cluster.read("mnt-a.log"), 10)
        failed = hf("umount", top, check=False)
        assert failed.returncode == 1 and "not in a Holdfast mount" in failed.stderr, failed
        content.check_file(f"{top}/other", 7, 1000)
        content.check_file(f"/proc/self/fd/{below}/f", 6, 300000)
    finally:
        os.close(below)
        run(["umount", top])
    content.check_file(f"{top}/f", 6, 300000)
    os.kill(pid, signal.SIGTERM)
    wait_for("the end of the mount", lambda: not os.path.ismount(top), 10)
    wait_for("the end of its process", lambda: not os.path.exists(f"/proc/{pid}"), 60)
    del cluster.mounts["a"]


def test_mount_in_the_background_tells_a_manager_nothing(cluster):
    manager = Manager(cluster.dir)
    top = f"{cluster.dir}/mnt-b"
    os.mkdir(top)
    hf("mount", "--config", cluster.conf, "--log", f"{cluster.dir}/mnt-b.log", top,
       env=manager.env)
    cluster.mounts["b"] = top
    cluster.umount("b")
    manager.silent()
