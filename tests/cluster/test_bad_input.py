# SPDX-License-Identifier: Apache-2.0
"""Bad input: each a clear error that names the thing and the next step."""
import errno
import os
import re
import shutil
import socket
import time
import uuid

import pytest

import content
from harness import free_range, hf, program, run, wait_for


def daemon(conf, *more, timeout=30):
    return run([program("holdfastd"), "--config", conf, *more], check=False, timeout=timeout)


def edit(cluster, change):
    with open(cluster.conf) as f:
        text = f.read()
    new = change(text)
    assert new != text
    with open(cluster.conf, "w") as f:
        f.write(new)


@pytest.mark.parametrize("line,needles", [
    ("colour = blue", ["colour"]),
    ("copies = many", ["copies"]),
    ("copies = 9", ["copies", "9"]),
    ("min_copies = 4", ["min_copies"]),
    ('node_timeout = "soon"', ["node_timeout", "soon"]),
    ('session_ttl = "1ms"', ["session_ttl", "1ms"]),
    ("client { dirty_max = \"7\" }", ["dirty_max", "7"]),
    ("client { dirt = \"7MiB\" }", ["dirt"]),
    ('node "4" { address = "nohost" }', ["address"]),
    ('node "x" { address = "127.0.0.1:1" }', ['"x"']),
    ('cluster = "zzz"', ["cluster"]),
    ("this_node = 17", ["this_node"]),
    ('log_level = "loud"', ["log_level"]),
    ("copies = 3 }", []),
    ("node {", []),
])
def test_wrong_configuration_is_refused_with_key_and_file(make_cluster, line, needles):
    c = make_cluster()
    with open(c.conf, "a") as f:
        f.write(line + "\n")
    for p in (hf("config", "check", c.conf, check=False), daemon(c.conf, "--node", "1"),
              hf("status", "--config", c.conf, check=False),
              hf("mount", "--config", c.conf, c.dir, check=False)):
        assert p.returncode == 1, (p.returncode, p.out, p.err)
        assert c.conf in p.err and all(n in p.err for n in needles), p.err
        assert p.out == ""


def test_unknown_key_is_named_with_its_line(make_cluster):
    c = make_cluster()
    edit(c, lambda t: t.replace("min_copies", "minimum_copies"))
    line = c.read("cluster.conf").split("\n").index("minimum_copies = 2") + 1
    for p in (hf("config", "check", c.conf, check=False), daemon(c.conf)):
        assert p.returncode == 1
        assert f"cluster.conf:{line}:" in p.err and "minimum_copies" in p.err


def test_missing_configuration_is_named():
    for p in (hf("status", "--config", "/none/cluster.conf", check=False),
              daemon("/none/cluster.conf"),
              hf("mount", "--config", "/none/cluster.conf", "/mnt", check=False)):
        assert p.returncode == 1 and "/none/cluster.conf" in p.err, p.err
    p = hf("mount", "/mnt", check=False, env={"HOLDFAST_CONFIG": "/none/env.conf"})
    assert p.returncode == 1 and "/none/env.conf" in p.err


def test_daemon_without_its_number_asks_for_it(make_cluster):
    c = make_cluster()
    p = daemon(c.conf)
    assert p.returncode == 2 and "--node" in p.err
    p = daemon(c.conf, "--node", "9")
    assert p.returncode in (1, 2) and "--node" in p.err


def test_port_in_use_is_named(make_cluster):
    c = make_cluster()
    host, port = c.address(2).split(":")
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((host, int(port)))
        s.listen()
        p = daemon(f"{c.dir}/node2.conf")
        assert p.returncode == 1 and c.address(2) in p.err and "in use" in p.err, p.err
        p = c.dev("start", "2", check=False)
        assert p.returncode == 1 and "in use" in p.err
        p = c.dev("up", check=False)
        assert p.returncode == 1 and "node 2" in p.err and "in use" in p.err


def test_unreachable_cluster_fails_within_its_time_and_lists_what_was_tried(make_cluster):
    c = make_cluster(client={"open_timeout": "2s"})
    os.mkdir(f"{c.dir}/mnt-a")
    for argv in (["mount", "--config", c.conf, f"{c.dir}/mnt-a"], ["status", "--config", c.conf],
                 ["fsck", "--config", c.conf]):
        start = time.monotonic()
        p = hf(*argv, check=False)
        assert p.returncode == 1 and c.address(1) in p.err, p.err
        assert time.monotonic() - start < 12
    assert not os.path.ismount(f"{c.dir}/mnt-a")


def test_silent_metadata_node_fails_mount_and_status_in_time(make_cluster):
    c = make_cluster(client={"open_timeout": "2s"}, metadata=1)
    c.up()
    c.stop(1)
    for p in (c.mount("a", check=False), hf("status", "--config", c.conf, check=False)):
        assert p.returncode == 1 and c.address(1) in p.err, p.err
    c.cont(1)
    c.wait_healthy()
    c.mount("a")


def test_a_port_that_speaks_something_else_is_refused(make_cluster):
    c = make_cluster(client={"open_timeout": "2s"})
    host, port = c.address(1).split(":")
    with socket.socket() as s:
        s.bind((host, int(port)))
        s.listen()
        p = c.mount("a", check=False)
        assert p.returncode == 1 and c.address(1) in p.err


def test_mount_of_another_cluster_is_refused(cluster, make_cluster):
    other = make_cluster(client={"open_timeout": "3s"})
    text = cluster.read("cluster.conf").replace(cluster.uuid, other.uuid)
    with open(other.conf, "w") as f:
        f.write(text)
    p = other.mount("a", check=False)
    assert p.returncode == 1 and re.search("identity|cluster", p.err), p.err
    p = hf("status", "--config", other.conf, check=False)
    assert p.returncode == 1 and p.err


def test_mountpoint_must_be_an_existing_directory(cluster):
    p = hf("mount", "--config", cluster.conf, f"{cluster.dir}/none", check=False)
    assert p.returncode == 1 and f"{cluster.dir}/none" in p.err
    p = hf("mount", "--config", cluster.conf, cluster.conf, check=False)
    assert p.returncode == 1 and "not a directory" in p.err


@pytest.mark.parametrize("opts", ["nonsense", "dirty_max", "dirty_max=lots", "dirty_max_age=old",
                                  "cache=1", "cpu=x", "op_timeout=0"])
def test_wrong_mount_options_exit_2(make_cluster, opts):
    c = make_cluster()
    p = c.mount("a", opts, check=False)
    assert p.returncode == 2 and opts.split("=")[0] in p.err, p.err


def test_second_daemon_on_the_same_directory_is_refused(cluster):
    base = free_range(1, 7500)
    conf = f"{cluster.dir}/second.conf"
    text = cluster.read("cluster.conf").replace(cluster.address(2), f"{base}:7500")
    with open(conf, "w") as f:
        f.write(text)
    p = daemon(conf, "--node", "2")
    assert p.returncode == 1 and cluster.data_dir(2) in p.err, p.err
    assert re.search("in use|another process|has it|runs", p.err), p.err
    cluster.wait_healthy()


def test_data_directory_of_another_node_is_refused(cluster):
    cluster.terminate(2)
    cluster.terminate(3)
    edit(cluster, lambda t: t.replace(f"{cluster.dir}/n2", "SWAP").replace(
        f"{cluster.dir}/n3", f"{cluster.dir}/n2").replace("SWAP", f"{cluster.dir}/n3"))
    for n in (2, 3):
        p = daemon(f"{cluster.dir}/node{n}.conf")
        assert p.returncode == 1 and f"{cluster.dir}/n{5 - n}" in p.err, p.err
        assert "node" in p.err


def test_data_directory_of_another_cluster_is_refused(cluster):
    cluster.down()
    edit(cluster, lambda t: t.replace(cluster.uuid, str(uuid.uuid4())))
    for n in (1, 2):
        p = daemon(f"{cluster.dir}/node{n}.conf")
        assert p.returncode == 1 and cluster.data_dir(n) in p.err and "cluster" in p.err, p.err


def test_data_directory_that_is_a_file_is_refused(make_cluster):
    c = make_cluster()
    with open(c.data_dir(2), "w") as f:
        f.write("not a directory")
    p = daemon(f"{c.dir}/node2.conf")
    assert p.returncode == 1 and c.data_dir(2) in p.err, p.err


@pytest.mark.parametrize("size_bytes", [100, 1 << 20], ids=["nothing-in-the-store", "objects"])
def test_only_metadata_directory_lost_is_refused_rather_than_made_anew(make_cluster, size_bytes):
    cluster = make_cluster(metadata=1)
    cluster.up()
    top = cluster.mount("a")
    content.write_file(f"{top}/f", 1, size_bytes)
    cluster.umount("a")
    cluster.down()
    shutil.rmtree(f"{cluster.data_dir(1)}/meta")
    p = cluster.dev("up", check=False)
    assert p.returncode == 1 and f"{cluster.data_dir(1)}/meta" in p.err, p.err
    assert "missing" in p.err and "put the directory back" in p.err


def fill(path, seed):
    """Write until the file system says it is full; returns the bytes written."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    at = 0
    try:
        while True:
            at += os.write(fd, content.data(seed, at, 1 << 20))
    except OSError as e:
        assert e.errno == errno.ENOSPC, errno.errorcode[e.errno]
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    return at


@pytest.mark.limit(240)
def test_space_that_a_file_has_reserved_is_there_when_the_cluster_is_full(make_cluster):
    c = make_cluster(node={"capacity": "768MiB", "segment_size": "32MiB", "reserve": "96MiB"},
                     client={"dirty_max": "32MiB"})
    c.up()
    top = c.mount("a")
    free = os.statvfs(top)
    free = free.f_bavail * free.f_frsize
    fd = os.open(f"{top}/reserved", os.O_RDWR | os.O_CREAT)
    with pytest.raises(OSError) as e:
        os.posix_fallocate(fd, 0, free + (1 << 20))
    assert e.value.errno == errno.ENOSPC and os.fstat(fd).st_size == 0
    size = (free // 2) >> 20 << 20
    os.posix_fallocate(fd, 0, size)  # much of it was granted to this mount
    st = os.statvfs(top)
    assert st.f_bavail * st.f_frsize <= free - size
    written = fill(f"{c.mount('b')}/big", 2)
    written += fill(f"{top}/more", 3)  # what was granted to this mount
    print(f"{written >> 20} MiB beside {size >> 20} of {free >> 20} MiB")
    assert written < free - size + (32 << 20)
    for at in range(0, size, 1 << 20):
        assert os.pwrite(fd, content.data(4, at, 1 << 20), at) == 1 << 20
    os.close(fd)
    content.check_file(f"{top}/reserved", 4, size)


@pytest.mark.limit(240)
def test_full_cluster_says_enospc_deletes_work_and_space_comes_back(make_cluster):
    c = make_cluster(node={"capacity": "768MiB", "segment_size": "32MiB", "reserve": "96MiB"},
                     client={"dirty_max": "32MiB"})
    c.up()
    top = c.mount("a")
    content.write_file(f"{top}/small", 1, 1 << 20)
    total = os.statvfs(top)
    total = total.f_bavail * total.f_frsize
    assert 200 << 20 < total < 512 << 20
    written = fill(f"{top}/big", 2)
    print(f"{written >> 20} MiB fit into {total >> 20} MiB")
    assert total * 0.7 < written < 768 << 20
    c.flush("a")
    size = os.stat(f"{top}/big").st_size
    assert size <= written
    content.check_file(f"{top}/big", 2, size)
    content.check_file(f"{top}/small", 1, 1 << 20)
    assert os.statvfs(top).f_bavail << 12 < 64 << 20
    with pytest.raises(OSError) as e:
        content.write_file(f"{top}/more", 3, 64 << 20)
    assert e.value.errno == errno.ENOSPC
    os.mkdir(f"{top}/dir")  # names still work
    os.rename(f"{top}/small", f"{top}/dir/small")
    os.unlink(f"{top}/big")
    if os.path.exists(f"{top}/more"):
        os.unlink(f"{top}/more")
    wait_for("the space to come back",
             lambda: os.statvfs(top).f_bavail * os.statvfs(top).f_frsize > total * 0.8, 60, 0.5)
    content.write_file(f"{top}/again", 4, total // 2)
    content.check_file(f"{top}/again", 4, total // 2)
    content.check_file(f"{top}/dir/small", 1, 1 << 20)
    c.wait_settled()
    c.verify(top)
    c.fsck()


def test_garbage_on_the_port_closes_that_connection_and_nothing_else(cluster):
    top = cluster.mount("a")
    content.write_file(f"{top}/f", 5, 1 << 20)
    host, port = cluster.address(1).split(":")
    for garbage in (b"GET / HTTP/1.0\r\n\r\n", os.urandom(5000), b"\0" * 100, b"\xff" * 70000,
                    b""):
        for n in (1, 2):
            host, port = cluster.address(n).split(":")
            with socket.create_connection((host, int(port)), 5) as s:
                s.settimeout(20)
                try:
                    s.sendall(garbage)
                    s.shutdown(socket.SHUT_WR)
                    while s.recv(65536):
                        pass
                except OSError:  # closed while we were sending
                    pass
    content.check_file(f"{top}/f", 5, 1 << 20)
    content.write_file(f"{top}/g", 6, 1 << 20)
    assert cluster.wait_healthy()["health"] == "ok"
    log = cluster.read("n2.log")
    assert len(log) < 200_000, "a hostile peer must not fill the log"
