# SPDX-License-Identifier: Apache-2.0
"""The verifying workload itself: no error where there is none, and what is planted is found."""
import json
import os
import signal

import pytest

import workload
from harness import run as run_command
from workload import Workload, verify


@pytest.fixture
def finished(tmp_path):
    """(directory, list) of a run on a local file system."""
    top, path = str(tmp_path / "d"), str(tmp_path / "list")
    r = workload.Run(top, path, "5", workers=2, rest=0)
    r.prepare()
    r.go(1)
    assert not r.list.unexpected and r.list.acknowledged > 100
    assert verify(top, path)[0] == []
    return top, path


def a_file(top, path, size=5000):
    model = workload.Model(path)
    name = next(n for n, f in sorted(model.files.items()) if f.size >= size)
    return name, os.path.join(top, name)


def append_record(path, record):
    with open(path, "a") as f:
        f.write(json.dumps(record) + "\n")


def one_problem(top, path, *needles):
    problems, _ = verify(top, path)
    assert len(problems) == 1 and all(n in problems[0] for n in needles), problems


def test_changed_byte_is_found(finished):
    name, path = a_file(*finished)
    with open(path, "r+b") as f:
        f.seek(4321)
        byte = f.read(1)[0]
        f.seek(4321)
        f.write(bytes([byte ^ 1]))
    one_problem(*finished, name, "offset 4321")


def test_deleted_file_is_found(finished):
    name, path = a_file(*finished)
    os.unlink(path)
    one_problem(*finished, name, "missing")


def test_lost_tail_and_longer_file_are_found(finished):
    name, path = a_file(*finished)
    size = os.stat(path).st_size
    os.truncate(path, size - 1)
    one_problem(*finished, name, f"{size - 1} bytes, not {size}")
    os.truncate(path, size + 1)
    problems, _ = verify(*finished)
    assert len(problems) == 1 and name in problems[0]


def test_file_that_nobody_made_is_found(finished):
    with open(os.path.join(finished[0], "w0", "garbage"), "w"):
        pass
    one_problem(*finished, "w0/garbage", "nobody made it")


def test_exchanged_files_are_found(finished):
    names = sorted(n for n, f in workload.Model(finished[1]).files.items() if f.size >= 4096)[:2]
    a, b = (os.path.join(finished[0], n) for n in names)
    os.rename(a, a + "x")
    os.rename(b, a)
    os.rename(a + "x", b)
    problems, _ = verify(*finished)
    assert len(problems) == 2


def test_open_operation_explains_both_of_its_states_and_no_third(finished):
    top, path = finished
    name, at = a_file(top, path)
    append_record(path, {"begin": 10**6, "op": "rename", "args": [name, "w0/new"], "at": 0})
    assert verify(top, path)[0] == []
    os.rename(at, os.path.join(top, "w0/new"))
    assert verify(top, path)[0] == []
    os.unlink(os.path.join(top, "w0/new"))
    one_problem(top, path, "no state that an open operation explains")


def test_open_append_may_show_its_bytes_or_zeroes_but_no_others(finished):
    top, path = finished
    name, at = a_file(top, path)
    f = workload.Model(path).files[name]
    append_record(path, {"begin": 10**6, "op": "append", "args": [name, 1000], "at": 0})
    assert verify(top, path)[0] == []
    with open(at, "ab") as out:
        out.write(workload.bytes_of(f.key, f.size, 600) + bytes(100))
    assert verify(top, path)[0] == []
    with open(at, "ab") as out:
        out.write(b"garbage" * 20)
    one_problem(top, path, "garbage")


def test_failed_operation_counts_as_open_and_an_unexpected_error_is_told(finished):
    top, path = finished
    name, at = a_file(top, path)
    append_record(path, {"begin": 10**6, "op": "unlink", "args": [name], "at": 0})
    append_record(path, {"failed": 10**6, "errno": "EIO", "expected": True, "ms": {}})
    assert verify(top, path)[0] == []
    os.unlink(at)
    assert verify(top, path)[0] == []
    append_record(path, {"begin": 10**6 + 1, "op": "mkdir", "args": ["w0/x"], "at": 0})
    append_record(path, {"failed": 10**6 + 1, "errno": "EEXIST", "expected": False, "ms": {}})
    one_problem(top, path, "EEXIST")


def test_times_tell_the_longest_step_that_was_under_way(tmp_path):
    path = str(tmp_path / "list")
    for r in ({"begin": 1, "op": "create", "args": [], "at": 100.0},
              {"ok": 1, "ms": {"create": 2500.0, "fsync": 3.0}},
              {"timed": "read", "at": 110.0, "ms": {"read": 700.0}}):
        append_record(path, r)
    times = workload.Times(path)
    assert times.longest(workload.METADATA) == 2500.0
    assert times.longest(workload.METADATA, since=101) == 2500.0
    assert times.longest(workload.METADATA, since=103) == 0
    assert times.longest(workload.METADATA, until=99) == 0
    assert times.longest(workload.READS, 109, 111) == 700.0
    assert len(times.slow()) == 2


def test_store_node_killed_under_load_damages_nothing(cluster):
    load = Workload(cluster, cluster.mount("a"))
    cluster.kill(3)
    cluster.wait_status("node 3 to be down", lambda s: cluster.node_status(3, s)["state"] == "down",
                        20)
    load.go_on(200)
    cluster.start(3)
    cluster.wait_healthy()
    load.go_on(50)
    times = load.finish()
    print(f"longest: metadata {times.longest(workload.METADATA)} ms, "
          f"reads {times.longest(workload.READS)} ms; slow: {times.slow()}")
    top = cluster.mount("b")
    figures = load.check(top)
    assert figures["open"] == 0 and figures["acknowledged"] > 100
    cluster.wait_copied()
    cluster.verify(top)
    cluster.fsck()
    # and what is planted in a mount is found through the other
    name, path = a_file(f"{cluster.mounts['a']}/{load.name}", load.list)
    with open(path, "r+b") as f:
        f.write(b"planted")
    problems, _ = verify(f"{top}/{load.name}", load.list)
    assert len(problems) == 1 and "differs at offset 0" in problems[0]
    os.unlink(path)
    problems, _ = verify(f"{top}/{load.name}", load.list)
    assert problems == [f"{name}: is missing"]


def test_workload_that_is_killed_leaves_a_list_that_explains_what_is_there(cluster):
    load = Workload(cluster, cluster.mount("a"))
    load.process.send_signal(signal.SIGKILL)
    load.process.wait(30)
    cluster.flush("a")
    assert load.check(cluster.mount("b"))["acknowledged"] >= 20


def test_workload_as_a_command(tmp_path):
    words = [os.path.join(os.path.dirname(__file__), "workload.py")]
    top, path = tmp_path / "d", tmp_path / "list"
    p = run_command(["/usr/bin/python3", *words, "run", top, path, "1", "--seconds", "0.5"])
    assert "acknowledged" in p.out
    assert run_command(["/usr/bin/python3", *words, "verify", top, path]).err == ""
    (top / "w0" / "garbage").write_text("")
    p = run_command(["/usr/bin/python3", *words, "verify", top, path], check=False)
    assert p.returncode == 1 and "nobody made it" in p.err
