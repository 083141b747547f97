# SPDX-License-Identifier: Apache-2.0
"""Nodes and clients die, hang, come back; disks rot. What was acknowledged stays.

The pauses that a failure costs are printed (pytest -s, or -rP), and bounded by node_timeout plus
what it takes to notice and go on.
"""
import mmap
import os
import re
import shutil
import time

import pytest

import content
import worker
from harness import ASAN, hf, processes_below, wait_for

NODE_TIMEOUT = 3.0
PAUSE_MAX_MS = 8000 if not ASAN else 30000  # node_timeout, a heartbeat, one put time-out, the work


def measured(what, ms):
    line = f"PAUSE {what}: {ms} ms"
    print(line)
    if os.environ.get("HOLDFAST_PAUSES"):
        with open(os.environ["HOLDFAST_PAUSES"], "a") as f:
            f.write(line + "\n")


def steps(cluster, helper):
    return len(cluster.lines(helper))


def wait_steps(cluster, helpers, more, timeout=60):
    """Every helper gets `more` further steps done."""
    goals = [(h, steps(cluster, h) + more) for h in helpers]

    def done():
        for h, _ in goals:
            assert h.poll() is None, f"a worker ended: {open(h.log + '.err').read()[-2000:]}"
        return all(steps(cluster, h) >= goal for h, goal in goals)

    wait_for(lambda: f"workers to go on: {[(steps(cluster, h), g) for h, g in goals]}", done,
             timeout)


class Load:
    """Workers of every kind in one mount, and the check of all that they were told is durable."""

    def __init__(self, cluster, top, reader=True):
        self.cluster, self.top = cluster, top
        os.mkdir(f"{top}/files")
        os.mkdir(f"{top}/names")
        content.write_file(f"{top}/read", 9000, 12 << 20)
        self.files = cluster.spawn("worker.py", "files", f"{top}/files", 1000)
        self.append = cluster.spawn("worker.py", "append", f"{top}/append", 77)
        self.names = cluster.spawn("worker.py", "names", f"{top}/names", 0)
        self.read = cluster.spawn("worker.py", "read", f"{top}/read", 9000) if reader else None
        self.all = [h for h in (self.files, self.append, self.names, self.read) if h]
        wait_steps(cluster, self.all, 5)

    def go_on(self, more=5, timeout=60):
        wait_steps(self.cluster, self.all, more, timeout)

    def finish(self):
        """Ends the workers; returns {kind: longest step in ms}."""
        pauses = {}
        self.done = {}
        for kind in ("files", "append", "names", "read"):
            helper = getattr(self, kind)
            if helper:
                self.done[kind], pauses[kind] = worker.parse(self.cluster.finish(helper))
        return pauses

    def check(self, top=None):
        """Through any mount: everything acknowledged is there, once, and right."""
        top = top or self.top
        for i in range(self.done["files"]):
            content.check_file(f"{top}/files/{i}", 1000 + i, worker.size_of(i))
        size = os.stat(f"{top}/append").st_size
        assert size % worker.CHUNK == 0, "an append was torn"
        assert self.done["append"] <= size // worker.CHUNK <= self.done["append"] + 1
        content.check_file(f"{top}/append", 77, size)
        worker.check_names(f"{top}/names", self.done["names"])
        content.check_file(f"{top}/read", 9000, 12 << 20)


def quiesce_and_check(cluster, load, fresh=True):
    cluster.wait_copied()
    load.check()
    if fresh:
        load.check(cluster.mount("fresh"))
    cluster.flush("a")
    cluster.verify(load.top)
    cluster.wait_settled()
    cluster.fsck()


@pytest.mark.parametrize("node", [2, 3])
def test_store_node_killed_during_work_costs_a_bounded_pause_and_nothing_else(cluster, node):
    load = Load(cluster, cluster.mount("a"))
    cluster.kill(node)
    load.go_on()
    cluster.wait_status("the node to be down", lambda s: cluster.node_status(node, s)["state"] ==
                        "down" and any("down" in w["what"] for w in s["warnings"]), 20)
    load.go_on()
    cluster.start(node)
    cluster.wait_healthy()
    load.go_on()
    pauses = load.finish()
    for kind, ms in pauses.items():
        measured(f"store node killed, {kind}", ms)
        assert ms < PAUSE_MAX_MS
    quiesce_and_check(cluster, load)
    assert cluster.status()["health"] == "ok"


def test_store_node_killed_twice_in_a_row(cluster):
    load = Load(cluster, cluster.mount("a"))
    for node in (2, 3, 2):
        cluster.kill(node)
        load.go_on(3)
        cluster.start(node)
        cluster.wait_copied()
    load.finish()
    quiesce_and_check(cluster, load)


def test_everything_is_read_while_a_store_node_is_dead(cluster):
    top = cluster.mount("a")
    for i in range(20):
        content.write_file(f"{top}/{i}", i, 2 << 20)
    cluster.remount("a")
    cluster.kill(3)
    start = time.monotonic()
    longest = 0
    for i in range(20):
        one = time.monotonic()
        content.check_file(f"{top}/{i}", i, 2 << 20)
        longest = max(longest, time.monotonic() - one)
    measured("store node dead, longest read of 2 MiB", int(longest * 1000))
    assert time.monotonic() - start < 30
    cluster.start(3)
    cluster.wait_copied()
    cluster.verify(top)


def test_returned_node_is_brought_up_to_date_with_what_it_missed(cluster):
    top = cluster.mount("a")
    content.write_file(f"{top}/before", 1, 4 << 20)
    content.write_file(f"{top}/removed", 2, 4 << 20)
    cluster.kill(2)
    cluster.wait_status("the node to be down",
                        lambda s: cluster.node_status(2, s)["state"] == "down", 20)
    content.write_file(f"{top}/during", 3, 64 << 20)
    os.unlink(f"{top}/removed")
    cluster.flush("a")
    s = cluster.status()
    assert s["metadata"]["degraded"] > 0, "objects with fewer copies are counted"
    assert any("copies are missing" in w["what"] for w in s["warnings"])
    report = cluster.verify(top, check=False)
    assert not report["clean"] and report["bad"] == 0
    cluster.start(2)
    cluster.wait_copied()
    cluster.verify(top)
    cluster.wait_settled()
    # now the others may go: node 2 alone has every byte of what it missed
    cluster.kill(3)
    cluster.remount("a")
    content.check_file(f"{top}/during", 3, 64 << 20)
    content.check_file(f"{top}/before", 1, 4 << 20)


def test_metadata_node_killed_during_work_is_waited_for_and_nothing_is_applied_twice(cluster):
    load = Load(cluster, cluster.mount("a"))
    for _ in range(3):
        cluster.kill(1)
        time.sleep(1.5)
        cluster.start(1)
        load.go_on()
    pauses = load.finish()
    for kind, ms in pauses.items():
        measured(f"metadata node killed and started 1.5 s later, {kind}", ms)
        assert ms < PAUSE_MAX_MS + 1500
    quiesce_and_check(cluster, load)


def test_metadata_node_away_longer_than_a_session_lives(make_cluster):
    c = make_cluster(config={"session_ttl": "3s"})
    c.up()
    load = Load(c, c.mount("a"))
    c.kill(1)
    time.sleep(7)
    c.start(1)
    load.go_on()
    load.finish()
    quiesce_and_check(c, load)


def test_all_nodes_killed_and_started(cluster):
    load = Load(cluster, cluster.mount("a"))
    for _ in range(2):
        for n in (3, 1, 2):
            cluster.kill(n)
        time.sleep(1)
        for n in (1, 2, 3):
            cluster.start(n)
        load.go_on(timeout=90)
    pauses = load.finish()
    for kind, ms in pauses.items():
        measured(f"all nodes killed and started 1 s later, {kind}", ms)
    quiesce_and_check(cluster, load)


def test_nodes_stopped_and_started_in_turn(cluster):
    load = Load(cluster, cluster.mount("a"))
    for n in (2, 1, 3):
        cluster.terminate(n)
        cluster.start(n)
        cluster.wait_copied()
        load.go_on(3)
    load.finish()
    quiesce_and_check(cluster, load)


def test_store_node_that_hangs_for_5_s_delays_and_loses_nothing(cluster):
    load = Load(cluster, cluster.mount("a"))
    cluster.stop(3)
    time.sleep(5)
    cluster.cont(3)
    load.go_on()
    pauses = load.finish()
    for kind, ms in pauses.items():
        measured(f"store node stopped for 5 s, {kind}", ms)
        assert ms < PAUSE_MAX_MS
    quiesce_and_check(cluster, load)


def test_metadata_node_that_hangs_for_5_s_delays_and_loses_nothing(cluster):
    load = Load(cluster, cluster.mount("a"))
    cluster.stop(1)
    time.sleep(5)
    cluster.cont(1)
    load.go_on()
    pauses = load.finish()
    for kind, ms in pauses.items():
        measured(f"metadata node stopped for 5 s, {kind}", ms)
    quiesce_and_check(cluster, load)


# --- clients

def test_client_killed_with_dirty_data_keeps_what_was_fsynced(make_cluster):
    c = make_cluster(config={"session_ttl": "4s"})
    c.up()
    top = c.mount("a", "dirty_max_age=60s")
    content.write_file(f"{top}/closed", 1, 3 << 20)
    fd = os.open(f"{top}/open", os.O_RDWR | os.O_CREAT)
    os.write(fd, content.data(2, 0, 2_000_000))
    os.fsync(fd)
    os.write(fd, content.data(2, 2_000_000, 1_000_000))  # dirty
    os.close(os.open(f"{top}/empty", os.O_CREAT | os.O_WRONLY))
    orphan = os.open(f"{top}/orphan", os.O_RDWR | os.O_CREAT)
    os.write(orphan, content.data(3, 0, 5 << 20))
    os.fsync(orphan)
    os.unlink(f"{top}/orphan")
    unnamed, named = (os.open(top, os.O_TMPFILE | os.O_RDWR, 0o600) for _ in range(2))
    for f in (unnamed, named):
        os.write(f, content.data(4, 0, 5 << 20))
    os.fsync(unnamed)
    c.name_it(named, f"{top}/named")
    c.kill_mount("a")
    for f in (fd, orphan, unnamed, named):
        with pytest.raises(OSError):
            os.fsync(f)
        try:
            os.close(f)
        except OSError:
            pass
    top = c.mount("a")
    content.check_file(f"{top}/closed", 1, 3 << 20)
    size = os.stat(f"{top}/open").st_size
    assert 2_000_000 <= size <= 3_000_000
    content.check_file(f"{top}/open", 2, size)
    content.check_file(f"{top}/named", 4, 5 << 20)  # not synced, but named
    assert sorted(os.listdir(top)) == ["closed", "empty", "named", "open"]
    c.wait_status("the dead session's end and its orphans'",
                  lambda s: len([x for x in s["sessions"] if "command" not in x["name"]]) == 1 and
                  s["metadata"]["orphans"] == 0, 30)
    c.wait_settled()
    c.verify(top)
    c.fsck()


def test_client_killed_during_work_keeps_a_prefix(make_cluster):
    c = make_cluster(config={"session_ttl": "4s"})
    c.up()
    load = Load(c, c.mount("a"), reader=False)
    load.go_on(10)
    c.kill_mount("a")
    for h in load.all:
        h.wait(30)
        assert h.returncode != 0
    load.done = {kind: worker.parse(c.lines(getattr(load, kind)))[0]
                 for kind in ("files", "append", "names")}
    top = c.mount("b")
    load.check(top)
    c.wait_settled()
    c.verify(top)
    c.fsck()


# --- rot

def segments(cluster, node):
    """The segment files of a node's store."""
    found = []
    for where, _, names in os.walk(f"{cluster.data_dir(node)}/store"):
        for name in names:
            path = os.path.join(where, name)
            with open(path, "rb") as f:
                if f.read(4) == b"HSEG":
                    found.append(path)
    assert found, f"no segments below {cluster.data_dir(node)}/store"
    return sorted(found)


def find_in_segments(cluster, node, needle):
    """[(file, offset)] where `needle` lies in the segments of a node."""
    hits = []
    for path in segments(cluster, node):
        with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:
            at = m.find(needle)
            while at >= 0:
                hits.append((path, at))
                at = m.find(needle, at + 1)
    return hits


def overwrite(path, offset, data):
    fd = os.open(path, os.O_RDWR)
    os.pwrite(fd, data, offset)
    os.fsync(fd)
    os.close(fd)


def flip_byte(path, offset):
    with open(path, "rb") as f:
        f.seek(offset)
        byte = f.read(1)[0]
    overwrite(path, offset, bytes([byte ^ 0x10]))


def test_flipped_bytes_are_never_served_and_the_copies_are_replaced(cluster):
    top = cluster.mount("a")
    size = 32 << 20
    content.write_file(f"{top}/f", 50, size)
    cluster.umount("a")
    flipped = 0
    for node in (1, 2):  # one byte in every object, on two of the three nodes
        for at in range(123 * 4096, size, 4 << 20):
            hits = find_in_segments(cluster, node, content.data(50, at, 4096))
            assert len(hits) == 1, hits
            flip_byte(hits[0][0], hits[0][1] + 1000)
            flipped += 1
    top = cluster.mount("a")
    content.check_file(f"{top}/f", 50, size)
    found = sum(n["stats"]["quarantined"] for n in cluster.status()["nodes"])
    print(f"{flipped} flipped, {found} set aside after reading the file once")
    s = cluster.wait_status("bad copies found by reading, seen in status", lambda s: any(
        n["stats"]["quarantined"] for n in s["nodes"]) or s["metadata"]["copied_objects"] > 0, 20)
    report = cluster.verify(f"{top}/f", check=False)
    print(f"verify: {report['bad']} bad, {report['good_copies']} good")
    cluster.wait_copied()
    wait_for("verify to be clean", lambda: cluster.verify(f"{top}/f", check=False)["clean"], 60)
    s = cluster.status()
    assert s["metadata"]["copied_objects"] >= flipped
    # the third node may go now: the others are good again
    cluster.kill(3)
    cluster.remount("a")
    content.check_file(f"{top}/f", 50, size)


def test_verify_finds_one_flipped_byte_and_names_the_node_and_status_tells_of_the_copy(cluster):
    top = cluster.mount("a")
    content.write_file(f"{top}/f", 51, 4 << 20)
    cluster.flush("a")
    cluster.kill(1)  # no copying while we look
    cluster.start(1)
    cluster.wait_healthy()
    hits = find_in_segments(cluster, 2, content.data(51, 777 * 4096, 4096))
    assert len(hits) == 1
    flip_byte(hits[0][0], hits[0][1])
    report = cluster.verify(f"{top}/f", check=False)
    assert report["bad"] == 1 and not report["clean"]
    assert [(p["node"], "bad" in p["problem"]) for p in report["problems"]] == [(2, True)]
    wait_for("the copy to be replaced", lambda: cluster.verify(f"{top}/f", check=False)["clean"],
             60)
    assert [n for n in (1, 2, 3) if "object-quarantined" in cluster.read(f"n{n}.log")] == [2]
    assert " 1 made since" in hf("status", "--config", cluster.conf).out
    content.check_file(f"{top}/f", 51, 4 << 20)


def test_index_deleted_is_rebuilt_from_the_segments(cluster):
    top = cluster.mount("a")
    for i in range(30):
        content.write_file(f"{top}/{i}", 100 + i, 700_000)
    for i in range(0, 30, 3):
        os.unlink(f"{top}/{i}")
    cluster.flush("a")
    objects = cluster.wait_settled()["metadata"]["objects"]
    cluster.terminate(2)
    shutil.rmtree(f"{cluster.data_dir(2)}/store/index")
    cluster.start(2)
    cluster.wait_copied()
    assert os.path.isdir(f"{cluster.data_dir(2)}/store/index")
    assert cluster.wait_settled()["metadata"]["objects"] == objects
    assert cluster.status()["metadata"]["copied_objects"] == 0, "rebuilt, not fetched"
    cluster.verify(top)
    cluster.kill(3)
    cluster.remount("a")
    for i in range(30):
        if i % 3:
            content.check_file(f"{top}/{i}", 100 + i, 700_000)


@pytest.mark.parametrize("also_index", [False, True])
def test_header_torn_in_the_middle_of_a_segment_hides_nothing_behind_it(cluster, also_index):
    top = cluster.mount("a")
    for i in range(16):
        content.write_file(f"{top}/{i}", 200 + i, 1 << 20)
        hits = []
    cluster.flush("a")
    cluster.terminate(2)
    where = {}
    for i in range(16):
        hits = find_in_segments(cluster, 2, content.data(200 + i, 0, 4096))
        assert len(hits) == 1
        where[i] = hits[0]
    order = sorted(where, key=lambda i: where[i])
    victim = order[5]
    path, at = where[victim]
    header = at - 4096
    with open(path, "rb") as f:
        while header >= 0:
            f.seek(header)
            if f.read(4) == b"HREC":
                break
            header -= 4096
    assert at - header <= 3 * 4096, "the record's header lies right before its payload"
    overwrite(path, header, b"\xa5" * 4096)
    if also_index:
        shutil.rmtree(f"{cluster.data_dir(2)}/store/index")
    cluster.start(2)
    cluster.wait_healthy()
    wait_for("verify to be clean", lambda: cluster.verify(top, check=False)["clean"], 60)
    copied = cluster.status()["metadata"]["copied_objects"]
    assert copied <= 1, f"{copied} objects were fetched; only one was hit"
    cluster.kill(3)
    cluster.remount("a")
    for i in range(16):
        content.check_file(f"{top}/{i}", 200 + i, 1 << 20)


def test_empty_store_under_a_known_number_is_refused_and_named(cluster):
    top = cluster.mount("a")
    content.write_file(f"{top}/f", 300, 9 << 20)
    cluster.flush("a")
    cluster.kill(3)
    os.rename(cluster.data_dir(3), f"{cluster.dir}/away")
    cluster.start(3)
    cluster.wait_status("a warning that names the empty store", lambda s: any(
        "node 3" in w["what"] and "store" in w["what"] and "put" in w["fix"]
        for w in s["warnings"]) and cluster.node_status(3, s)["state"] == "down", 30)
    content.check_file(f"{top}/f", 300, 9 << 20)
    cluster.kill(3)
    shutil.rmtree(cluster.data_dir(3))
    os.rename(f"{cluster.dir}/away", cluster.data_dir(3))
    cluster.start(3)
    cluster.wait_copied()
    cluster.verify(top)


def test_object_lost_everywhere_is_eio_not_garbage(make_cluster):
    c = make_cluster(nodes=1)
    c.up()
    top = c.mount("a")
    content.write_file(f"{top}/f", 60, 8 << 20)
    content.write_file(f"{top}/g", 61, 1 << 20)
    c.umount("a")
    for path, at in find_in_segments(c, 1, content.data(60, 5 << 20, 4096)):
        flip_byte(path, at + 7)
    top = c.mount("a")
    with open(f"{top}/f", "rb", buffering=0) as f:
        content.check(f.read(4096), 60, 0)
        f.seek(5 << 20)
        with pytest.raises(OSError) as e:
            f.read(4096)
        assert e.value.errno == 5
    content.check_file(f"{top}/g", 61, 1 << 20)
    assert not c.verify(f"{top}/f", check=False)["clean"]
    assert c.verify(f"{top}/g")["clean"]
    assert re.search(r"node 1", str(c.status()["warnings"]))
