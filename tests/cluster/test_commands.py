# SPDX-License-Identifier: Apache-2.0
"""The command line keeps its contract: shapes, exit codes, JSON."""
import json
import os
import re

import pytest

import content
from harness import hf, program, run, wait_for


def commands():
    return [m.group(1) for m in re.finditer(r"^  (\S+(?: \S+)?)  +\S", hf("help").out, re.M)]


def test_help_lists_every_command_of_the_contract():
    assert set(commands()) >= {
        "status", "mount", "umount", "info", "verify", "dirty", "flush", "set", "fsck",
        "config check", "dev up", "dev down", "dev status", "dev kill", "dev stop", "dev cont",
        "dev start", "completion", "help", "node ls", "meta status", "meta transfer",
        "meta add-voter", "meta remove-voter"}


def test_help_of_every_command_exits_0():
    for name in commands():
        p = hf(*name.split(), "--help")
        assert p.out.startswith(f"usage: holdfast {name}"), p.out
        assert p.err == ""
        assert hf("help", *name.split()).out == p.out
    assert run([program("holdfastd"), "--help"]).out.startswith("usage: holdfastd")
    assert run([program("mount.holdfast"), "--help"]).out.startswith("usage: mount.holdfast")


@pytest.mark.parametrize("argv", [
    [], ["nonsense"], ["status", "--nonsense"], ["status", "--config"], ["mount"], ["umount"],
    ["info"], ["verify"], ["flush"], ["set", "/"], ["set", "/", "nonsense"], ["dev"],
    ["dev", "up"], ["dev", "up", "--dir", "/var/tmp/x-hf", "--nodes", "0"],
    ["dev", "up", "--dir", "/var/tmp/x-hf", "--nodes", "three"],
    ["dev", "up", "--dir", "/var/tmp/x-hf", "--metadata", "2"],
    ["dev", "up", "--dir", "/var/tmp/x-hf", "--nodes", "1", "--metadata", "3"],
    ["dev", "up", "--dir", "/var/tmp/x-hf", "--loopback", "10.0.0.1"], ["dev", "kill"],
    ["meta"], ["node"], ["meta", "add-voter"], ["meta", "remove-voter", "1", "2"],
    ["config", "check"], ["completion", "fish"], ["help", "nonsense"], ["umount", "/a", "/b"],
])
def test_misuse_exits_2_and_says_how(argv):
    p = hf(*argv, check=False)
    if os.path.isdir("/var/tmp/x-hf"):
        os.rmdir("/var/tmp/x-hf")
    assert p.returncode == 2, (argv, p.out, p.err)
    assert p.err.strip() and p.out == ""


def test_daemon_misuse_exits_2():
    for argv in ([], ["--nonsense"], ["--config"], ["--config", "/x", "y"],
                 ["--config", "/x", "--node", "zero"]):
        p = run([program("holdfastd"), *argv], check=False)
        assert p.returncode == 2, (argv, p.err)


def test_completion_is_valid_bash_and_completes(tmp_path):
    script = tmp_path / "completion"
    script.write_text(hf("completion", "bash").out)
    run(["bash", "-n", script])
    out = run(["bash", "-c", f"""
source {script}
complete -p holdfast >&2
try() {{ COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${{#COMP_LINE}}
  COMPREPLY=(); $(complete -p holdfast | sed 's/.*-F \\([^ ]*\\).*/\\1/') holdfast "${{@: -1}}" x
  echo "${{COMPREPLY[*]}}"; }}
try holdfast sta
try holdfast dev ki
try holdfast status --js
try holdfast me
try holdfast meta add
"""]).out.split("\n")
    assert "status" in out[0] and "kill" in out[1] and "--json" in out[2], out
    assert "meta" in out[3].split() and out[4] == "add-voter", out


def test_config_check_prints_a_file_that_it_accepts(make_cluster, tmp_path):
    c = make_cluster()
    once = hf("config", "check", c.conf).out
    assert c.uuid in once and c.address(3) in once and "dirty_max" in once
    again = tmp_path / "printed.conf"
    again.write_text(once)
    assert hf("config", "check", again).out == once


def test_dev_up_writes_its_own_configuration_and_is_repeatable(make_cluster):
    c = make_cluster()
    for name in os.listdir(c.dir):
        if name.endswith(".conf"):
            os.unlink(f"{c.dir}/{name}")
    p = c.dev("up", "--nodes", "3", "--loopback", c.base, "--port", str(c.port))
    assert p.out.strip() == c.conf
    pids = [c.read(f"n{n}.pid") for n in (1, 2, 3)]
    c.dev("up")
    assert pids == [c.read(f"n{n}.pid") for n in (1, 2, 3)], "nodes that run are left alone"
    assert all(c.address(n) in hf("config", "check", c.conf).out for n in (1, 2, 3))
    states = json.loads(c.dev("status", "--json").out)
    assert [o["state"] for o in states] == ["running"] * 3
    c.stop(2)
    p = c.dev("status", "--json", check=False)
    assert p.returncode == 1 and json.loads(p.out)[1]["state"] == "stopped"
    c.cont(2)
    c.kill(3)
    p = c.dev("status", check=False)
    assert p.returncode == 1 and "dead" in p.out
    assert c.dev("kill", "3", check=False).returncode == 1
    c.start(3)
    c.wait_healthy()
    c.down()
    assert c.dev("status", check=False).out.count("dead") == 3
    c.up()


def test_one_node_with_one_copy_is_a_cluster(make_cluster):
    c = make_cluster(nodes=1)
    c.up()
    top = c.mount()
    content.write_file(f"{top}/f", 1, 5 << 20)
    c.remount()
    content.check_file(f"{top}/f", 1, 5 << 20)
    c.verify(top)
    assert c.status()["health"] == "ok"


def test_status_info_verify_dirty_flush_and_set(cluster):
    top = cluster.mount("a", "dirty_max_age=60s")
    content.write_file(f"{top}/f", 2, 10 << 20)
    s = cluster.status()
    assert s["health"] == "ok" and s["cluster"] == cluster.uuid and not s["warnings"]
    assert [n["id"] for n in s["nodes"]] == [1, 2, 3]
    assert any(o["name"] for o in s["sessions"])
    for text in ("health", "metadata", "node 3", cluster.address(2)):
        assert text in hf("status", "--config", cluster.conf).out
    assert hf("status", top).out.startswith("health"), "found from the mount"

    info = cluster.info(f"{top}/f")
    assert info["size"] == 10 << 20
    at = 0
    for x in info["extents"]:
        assert x["offset"] == at and len(x["holders"]) == 3
        assert len({h["checksum"] for h in x["holders"]}) == 1
        assert all(h["copy"] == "good" for h in x["holders"])
        at += x["length"]
    assert at == 10 << 20
    assert f"inode {info['inode']}" in hf("info", f"{top}/f").out

    report = cluster.verify(top)
    assert report["files"] == 1 and report["good_copies"] == 3 * report["objects"] > 0
    assert "clean" in hf("verify", f"{top}/f").out
    cluster.fsck()

    # a process of its own: descriptors that this one holds are closed in every child it starts,
    # and close flushes
    writer = cluster.spawn("writer.py", f"{top}/d", 3, 300000, 5000)
    wait_for("the first write", lambda: cluster.lines(writer), 20)
    dirty = json.loads(hf("dirty", top, "--json").out)
    assert dirty["dirty_bytes"] >= 300000 and dirty["files"][0]["bytes"] >= 300000
    assert top in hf("dirty").out
    hf("flush", "--wait", f"{top}/d")
    assert json.loads(hf("dirty", f"{top}/d", "--json").out)["dirty_bytes"] == 0
    hf("set", top, "dirty_max_age=200ms")
    writer.stdin.write(b"go on\n")
    writer.stdin.flush()
    wait_for("the second write", lambda: len(cluster.lines(writer)) == 2, 20)
    wait_for("the dirty bytes to leave by age", lambda: json.loads(
        hf("dirty", top, "--json").out)["dirty_bytes"] == 0, 10)
    cluster.finish(writer)
    content.check_file(f"{top}/d", 3, 305000)


def test_small_synced_writes_leave_the_metadata_for_the_stores(cluster):
    top = cluster.mount()
    with open(f"{top}/log", "wb", buffering=0) as f:
        for i in range(50):
            f.write(content.data(7, i * 4096, 4096))
            os.fdatasync(f)
    wait_for("objects instead of inline bytes", lambda: not any(
        x.get("inline") for x in cluster.info(f"{top}/log")["extents"]), 20)
    assert len(cluster.info(f"{top}/log")["extents"]) <= 8
    cluster.remount()
    content.check_file(f"{top}/log", 7, 50 * 4096)


def test_status_of_one_node_needs_no_other(cluster):
    def ask(n, *more):
        return hf("status", "--config", cluster.conf, "--node", n, *more, check=False)

    assert "node 2" in ask(2).out and json.loads(ask(3, "--json").out)["node"] == 3
    leader = cluster.leader()
    assert json.loads(ask(leader, "--json").out)["metadata"]["leader"] == leader
    assert ask(4).returncode == 2 and ask("two").returncode == 2
    cluster.kill(1)
    assert [ask(n).returncode for n in (1, 2, 3)] == [1, 0, 0]
    cluster.start(1)
    cluster.wait_healthy()


def test_node_ls_lists_every_node_with_its_part(make_cluster):
    cluster = make_cluster(metadata=3)
    cluster.up()

    def ls():
        return json.loads(hf("node", "ls", "--config", cluster.conf, "--json").out)

    wait_for("a heartbeat of each", lambda: all(n["free_bytes"] is not None for n in ls()), 20)
    nodes = ls()
    assert [n["id"] for n in nodes] == [1, 2, 3]
    assert sorted(n["role"] for n in nodes) == ["leader", "voter", "voter"]
    assert all(n["state"] == "up" and n["lacking"] == 0 and n["free_bytes"] > 0 for n in nodes)
    lines = hf("node", "ls", "--config", cluster.conf).out.split("\n")
    assert lines[0].startswith("node") and cluster.address(2) in lines[2]
    cluster.kill(3)
    cluster.wait_status("node 3 to be down", lambda s: cluster.node_status(3, s)["state"] == "down")
    assert re.search(r"node-3 +down", hf("node", "ls", "--config", cluster.conf).out)


def test_commands_outside_a_mount_fail_with_1(tmp_path):
    for argv in (["info", tmp_path], ["verify", tmp_path], ["flush", tmp_path],
                 ["umount", tmp_path], ["dirty", tmp_path], ["info", tmp_path / "none"]):
        p = hf(*argv, check=False)
        assert p.returncode == 1 and str(tmp_path) in p.err, (argv, p.err)


def test_mount_helper_mounts_as_fstab_would(cluster):
    top = f"{cluster.dir}/mnt-h"
    os.mkdir(top)
    run([program("mount.holdfast"), cluster.conf, top, "-o",
         "rw,noauto,noatime,nodiratime,lazytime,relatime,dirsync,default_permissions,allow_other,"
         "dirty_max=32MiB"])
    cluster.mounts["h"] = top
    with open("/proc/self/mounts") as f:
        line = next(line for line in f if top in line)
    assert line.split()[0] == cluster.conf and line.split()[2] == "fuse.holdfast"
    content.write_file(f"{top}/f", 4, 100000)
    content.check_file(f"{top}/f", 4, 100000)


def test_read_only_mount_refuses_changes(cluster):
    rw = cluster.mount("a")
    content.write_file(f"{rw}/f", 5, 100000)
    ro = cluster.mount("b", "ro")
    content.check_file(f"{ro}/f", 5, 100000)
    for change in (lambda: open(f"{ro}/g", "w"), lambda: os.unlink(f"{ro}/f"),
                   lambda: os.mkdir(f"{ro}/d"), lambda: os.chmod(f"{ro}/f", 0)):
        with pytest.raises(OSError) as e:
            change()
        assert e.value.errno == 30


def test_umount_waits_until_all_is_durable_and_lazy_does_not_lose(cluster):
    top = cluster.mount("a", "dirty_max_age=60s")
    sha = content.write_file(f"{top}/f", 6, 40 << 20)
    fd = os.open(f"{top}/g", os.O_WRONLY | os.O_CREAT)
    os.write(fd, content.data(7, 0, 1 << 20))
    p = hf("umount", top, check=False)
    assert p.returncode == 1 and "in use" in p.err
    os.close(fd)
    cluster.umount("a")
    top = cluster.mount("a", "dirty_max_age=60s")
    assert content.check_file(f"{top}/f", 6, 40 << 20) == sha
    content.check_file(f"{top}/g", 7, 1 << 20)
    content.write_file(f"{top}/h", 8, 20 << 20)
    pid = cluster.mount_pid("a")
    cluster.umount("a", lazy=True)
    wait_for("the lazy mount's end", lambda: not os.path.exists(f"/proc/{pid}"), 60)
    top = cluster.mount("a")
    content.check_file(f"{top}/h", 8, 20 << 20)
