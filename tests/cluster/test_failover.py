# SPDX-License-Identifier: Apache-2.0
"""Three metadata nodes: any one may die, hang, be cut off or lose its disk while clients go on, and
everything acknowledged is there afterwards.

Each test runs the verifying workload (workload.py) and ends with whole(): every copy made, the list
verified through a new mount, fsck clean, the replicas' digests equal at one entry.

    pytest tests/cluster/test_failover.py [-m "not slow"] [-rP]

-rP prints the pauses; HOLDFAST_PAUSES=FILE collects them.
"""
import errno
import glob
import json
import os
import re
import shutil
import statistics
import subprocess
import threading
import time
import uuid

import pytest

import content
from harness import ASAN, Cluster, hf, mounts_below, processes_below, program, run, wait_for
from network import CLIENT, NetCluster
from workload import METADATA, READS, Workload

SLOW, PLAIN = pytest.mark.slow, pytest.mark.plain
SLOWER = 10 if ASAN else 1
METADATA_PAUSE_MS = 3000 * SLOWER  # at a leader's death
READ_PAUSE_MS = 1000 * SLOWER
GO_ON = 30 * SLOWER  # s, in which clients go on after any one failure
WHOLE = 90 * SLOWER  # s, in which a node that is back is a voter again, as far as the others


def measured(what, ms):
    line = f"PAUSE {what}: {ms:.0f} ms"
    print(line)
    if os.environ.get("HOLDFAST_PAUSES"):
        with open(os.environ["HOLDFAST_PAUSES"], "a") as f:
            f.write(line + "\n")


@pytest.fixture
def three(make_cluster):
    """Three nodes that all hold the metadata, up."""
    c = make_cluster(metadata=3)
    c.up()
    c.wait_voters()
    return c


@pytest.fixture
def net(make_cluster):
    """The same, each in a network namespace of its own."""
    c = make_cluster(kind=NetCluster, metadata=3)
    c.up()
    c.wait_voters()
    return c


def term(c):
    """The term in which a leader serves."""
    return wait_for("a leader", lambda: c.meta_all().get("term"), GO_ON, 0.2)


def others(c, *nodes):
    return [n for n in range(1, c.node_count + 1) if n not in nodes]


def whole(c, load, timeout=WHOLE):
    """Ends the load, and judges. Returns its Times."""
    load.go_on(20, GO_ON)
    c.wait_voters(timeout=timeout)
    c.wait_healthy(timeout)
    times = load.finish()
    c.wait_copied(timeout)
    for step, at, ms in times.slow():
        print(f"slow: {step} at {at:.1f} took {ms:.0f} ms")
    for name in ("a", "fresh"):
        top = c.mounts.get(name) or c.mount(name)
        print(f"verified through mount {name}: {load.check(top)}")
    c.flush("a")
    c.verify(f"{c.mounts['fresh']}/{load.name}")
    c.fsck()
    c.wait_digests(timeout=timeout)
    return times


# --- (a) kill -9


@PLAIN
@pytest.mark.limit(300)
def test_five_voters_lose_two_the_leader_first(make_cluster):
    c = make_cluster(nodes=5, metadata=5)
    c.up()
    c.wait_voters([1, 2, 3, 4, 5])
    load = Workload(c, c.mount("a"))
    dead = [c.leader()]
    c.kill(dead[0])
    load.go_on(20, GO_ON)
    dead.append(c.wait_leader(but=dead))
    c.kill(dead[1])
    c.wait_leader(but=dead)
    load.go_on(20, GO_ON)
    for node in dead:
        c.start(node)
    c.wait_voters([1, 2, 3, 4, 5], timeout=WHOLE)
    whole(c, load)


def kill_and_start(c, load, node, down=1.0):
    """Returns when it was killed."""
    at = time.monotonic()
    c.kill(node)
    load.go_on(20, GO_ON)
    time.sleep(max(0.0, at + down - time.monotonic()))
    c.start(node)
    c.wait_voters(timeout=WHOLE)
    load.go_on(20, GO_ON)
    return at


@pytest.mark.limit(300)
def test_each_node_killed_in_turn_the_leader_first(three):
    load = Workload(three, three.mount("a"))
    first = three.leader()
    for node in [first, *others(three, first)]:
        kill_and_start(three, load, node)
    kill_and_start(three, load, three.wait_leader(), down=5)
    whole(three, load)


@pytest.mark.slow
@pytest.mark.limit(1500)
def test_a_node_killed_every_20_seconds_for_10_minutes(three):
    load = Workload(three, three.mount("a"))
    end = time.monotonic() + 600
    turn = 0
    while time.monotonic() < end:
        at = time.monotonic()
        leader = three.wait_leader()
        node = leader if turn % 2 == 0 else others(three, leader)[turn // 2 % 2]
        kill_and_start(three, load, node, down=5)
        time.sleep(max(0.0, at + 20 - time.monotonic()))
        turn += 1
    print(f"{turn} kills")
    whole(three, load)


# --- (b) SIGSTOP


@PLAIN
@pytest.mark.limit(240)
@pytest.mark.parametrize("who", ["leader", "follower"])
def test_node_that_hangs_for_10_seconds(three, who):
    load = Workload(three, three.mount("a"))
    leader = three.leader()
    node = leader if who == "leader" else others(three, leader)[0]
    at = time.monotonic()
    three.stop(node)
    try:
        load.go_on(20, GO_ON)
        went_on = time.monotonic() - at
        if who == "leader":
            three.wait_leader(but=[node], timeout=GO_ON)
        time.sleep(max(0.0, at + 10 - time.monotonic()))
    finally:
        three.cont(node)
    if not ASAN:
        assert went_on < 10, "clients went on before the node did"
    times = whole(three, load)
    measured(f"SIGSTOP of the {who}, metadata", times.longest(METADATA, at, at + 12))
    measured(f"SIGSTOP of the {who}, reads", times.longest(READS, at, at + 12))


# --- (c) all at once


@pytest.mark.limit(240)
def test_all_killed_at_once_and_started(three):
    load = Workload(three, three.mount("a"))
    for node in (1, 2, 3):
        os.kill(int(three.read(f"n{node}.pid")), 9)
    wait_for("their end", lambda: not [p for p in processes_below(three.dir) if " mount " not in
                                       p[1] and "holdfastd" in p[1]], 20)
    time.sleep(1)
    for node in (3, 1, 2):
        three.start(node)
    load.go_on(20, GO_ON)
    whole(three, load)


# --- (d) the network


def still_served(net, load, leader_but, timeout=GO_ON):
    """Clients go on, with a leader among the rest."""
    load.go_on(20, timeout)
    if leader_but:
        net.wait_leader(but=leader_but, timeout=timeout)
    load.go_on(50, timeout)


@PLAIN
@pytest.mark.limit(300)
@pytest.mark.parametrize("clients", ["cut off too", pytest.param("still reached", marks=SLOW)])
def test_leader_cut_off_from_the_majority(net, clients):
    load = Workload(net, net.mount("a"))
    leader = net.leader()
    at = time.monotonic()
    net.isolate(leader, but=[CLIENT] if clients == "still reached" else [])
    still_served(net, load, [leader])
    if clients == "still reached":
        wait_for("the old leader to step down", lambda: (net.meta(leader) or {}).get("role") !=
                 "leader", GO_ON)
    net.heal()
    times = whole(net, load)
    for kind, steps in (("metadata", METADATA), ("reads", READS)):
        pause = times.longest(steps, at, at + 30)
        measured(f"leader cut off, clients {clients}, {kind}", pause)
        if clients == "cut off too":
            assert pause <= METADATA_PAUSE_MS, "silence is noticed as fast as a broken connection"


@PLAIN
@pytest.mark.limit(240)
def test_follower_cut_off(net):
    load = Workload(net, net.mount("a"))
    leader = net.leader()
    follower = others(net, leader)[0]
    before = term(net)
    net.isolate(follower)
    still_served(net, load, [follower])
    net.heal()
    whole(net, load)
    if not ASAN:
        assert term(net) == before, "a follower that comes back deposes nobody"


@PLAIN
@pytest.mark.limit(300)
@pytest.mark.parametrize("way", ["hears nobody", pytest.param("is heard by nobody", marks=SLOW)])
def test_one_way_cut_of_the_leader(net, way):
    load = Workload(net, net.mount("a"))
    leader = net.leader()
    for other in others(net, leader):
        net.cut_way(*((other, leader) if way == "hears nobody" else (leader, other)))
    still_served(net, load, [leader])
    net.heal()
    whole(net, load)


@PLAIN
@pytest.mark.limit(300)
def test_one_way_cut_of_a_follower(net):
    load = Workload(net, net.mount("a"))
    leader = net.leader()
    follower = others(net, leader)[0]
    net.cut_way(leader, follower)  # it hears nothing, and asks for votes that all hear
    still_served(net, load, [])
    net.heal()
    whole(net, load)


@PLAIN
@pytest.mark.limit(300)
@pytest.mark.parametrize("lead", ["is one of the cut ones", pytest.param("is the third", marks=SLOW)])
def test_partial_cut(net, lead):
    """A-B is cut, C sees both: there is a leader that serves, and leadership does not flap."""
    load = Workload(net, net.mount("a"))
    leader = net.leader()
    a, b = others(net, leader)
    if lead == "is one of the cut ones":
        net.cut(leader, a)
    else:
        net.cut(a, b)
    still_served(net, load, [])
    before = term(net)
    time.sleep(10)
    load.go_on(50, GO_ON)
    now = term(net)
    assert now <= before + 2, f"terms {before} to {now} in 10 s: leadership flaps"
    net.heal()
    whole(net, load)


# --- (e) a metadata directory, log, vote that is lost or damaged


def meta_dir(c, node):
    return f"{c.data_dir(node)}/meta"


def flip(path, offset, count=64):
    with open(path, "r+b") as f:
        f.seek(offset)
        old = f.read(count)
        f.seek(offset)
        f.write(bytes(b ^ 0x5a for b in old))
        f.flush()
        os.fsync(f.fileno())


def written_bytes(path):
    """Up to the last byte that is not zero: files are made longer than they are full."""
    with open(path, "rb") as f:
        return len(f.read().rstrip(b"\0"))


def files_below(directory):
    return sorted(p for p in glob.glob(f"{directory}/**", recursive=True) if os.path.isfile(p))


def delete_all(c, node):
    shutil.rmtree(meta_dir(c, node))


def delete_log(c, node):
    shutil.rmtree(f"{meta_dir(c, node)}/log")


def damage_log(c, node):
    """In the middle of the newest segment: not a torn tail, whole records follow."""
    newest = max(files_below(f"{meta_dir(c, node)}/log"),
                 key=lambda p: (written_bytes(p) > 3 * 4096, os.stat(p).st_mtime_ns))
    size = written_bytes(newest)
    assert size > 3 * 4096, f"{newest}: only {size} bytes are written"
    flip(newest, 4096 + (size - 4096) // 2)


def damage_vote(c, node):
    where = f"{meta_dir(c, node)}/vote"
    for path in files_below(where) or [where]:
        size = written_bytes(path)
        for at in range(0, max(size, 1), 512):
            flip(path, at)


DAMAGE = {f.__name__: f for f in (delete_all, delete_log, damage_log, damage_vote)}


@pytest.mark.limit(300)
@pytest.mark.parametrize("damage, who", [
    ("delete_all", "follower"), ("damage_log", "leader"),
    pytest.param("delete_log", "follower", marks=PLAIN),
    pytest.param("damage_vote", "follower", marks=PLAIN),
    *(pytest.param(damage, who, marks=SLOW) for damage, who in [
        ("damage_log", "follower"), ("delete_all", "leader"), ("delete_log", "leader"),
        ("damage_vote", "leader")])])
def test_metadata_lost_on_one_node_is_made_whole_while_the_cluster_serves(three, damage, who):
    load = Workload(three, three.mount("a"))
    leader = three.leader()
    node = leader if who == "leader" else others(three, leader)[0]
    three.kill(node)
    load.go_on(50, GO_ON)
    DAMAGE[damage](three, node)
    log = len(three.read(f"n{node}.log"))
    voted = [0]

    three.start(node)
    end = time.monotonic() + WHOLE
    while True:  # a voter again within the bound, and the cluster serves all the while
        load.go_on(10, GO_ON)
        own = three.meta(node) or {}
        voted[0] += own.get("role") == "leader" and bool(own.get("abstaining"))
        members = {m["node"]: m for m in three.meta_all().get("members", [])}
        m = members.get(node, {})
        if m.get("kind") == "voter" and not m.get("abstaining") and not own.get("abstaining", True):
            break
        assert time.monotonic() < end, f"node {node}: {own}; {m}\n{three.tails()}"
    assert voted[0] == 0, "a node that abstains cannot lead"
    three.wait_voters(timeout=WHOLE)
    said = three.read(f"n{node}.log")[log:]
    assert re.search("abstain|lost|damaged|missing|unreadable", said), f"silent: {said[-3000:]}"
    whole(three, load)
    # it counts again: the other two need it now, one at a time
    other = others(three, node)[0]
    three.kill(other)
    wait_for("a leader among the rest", lambda: three.leader() not in (None, other), GO_ON)
    three.start(other)
    three.wait_voters(timeout=WHOLE)


# --- (f) a full disk


@pytest.fixture
def small_disk(make_cluster):
    """Three nodes; small_disk.mounted is the directory of one on a file system of 2 GiB: of node 1,
    which leads first where the nodes start at once, or is made to."""
    c = make_cluster(metadata=3, node={"segment_size": "32MiB", "reserve": "96MiB"})
    image, where = f"{c.dir}/disk.img", c.data_dir(1)
    os.makedirs(where)
    run(["truncate", "-s", "2G", image])
    run(["mkfs.ext4", "-q", "-F", image])
    run(["mount", "-o", "loop", image, where])
    try:
        c.up()
        c.wait_voters()
        yield c
        c.down()
    finally:
        for top, _ in mounts_below(c.dir):
            if top == where:
                run(["umount", "-l", where])


def fill_disk(where):
    """With a file that is not ours, to the last block."""
    path = f"{where}/filler"
    st = os.statvfs(where)
    run(["fallocate", "-l", st.f_bavail * st.f_frsize - (8 << 20), path])
    run(["dd", "if=/dev/zero", f"of={path}2", "bs=4k"], check=False, timeout=120)
    st = os.statvfs(where)
    assert st.f_bavail * st.f_frsize < 1 << 20, "not full"
    return [path, path + "2"]


@PLAIN
@pytest.mark.limit(400)
@pytest.mark.parametrize("who", ["follower", pytest.param("leader", marks=SLOW)])
def test_full_disk_on_one_node(small_disk, who):
    c = small_disk
    want = 1 if who == "leader" else 2
    if c.wait_leader() != want:
        c.hf("meta", "transfer", want, "--config", c.conf)
        c.wait_leader(but=others(c, want))
    load = Workload(c, c.mount("a"), expect="ENOSPC")
    fillers = fill_disk(c.data_dir(1))
    try:  # more than what the node's files have room for already
        content.write_file(f"{c.mounts['a']}/big", 1, 256 << 20)
        print("256 MiB written with two of three copies")
    except OSError as e:
        assert e.errno == errno.ENOSPC, e
        print("256 MiB refused: no space")
    load.go_on(300, 60 * SLOWER)
    full = [w["what"] for w in c.wait_status("a warning", lambda s: s["warnings"])["warnings"]]
    print(f"status warns of: {full}")
    load.go_on(50, GO_ON)
    for path in fillers:
        os.unlink(path)
    if c.read("n1.pid") and os.path.exists(f"/proc/{c.read('n1.pid').strip()}"):
        c.terminate(1)  # a store that met a failed write may want a new start
    c.start(1)
    whole(c, load)
    for name in list(c.mounts):
        c.umount(name)


# --- (g) rolling restart


@pytest.mark.limit(300)
def test_rolling_restart_of_all_nodes(three):
    load = Workload(three, three.mount("a"))
    at = time.monotonic()
    for node in (1, 2, 3):
        three.terminate(node)
        load.go_on(20, GO_ON)
        three.start(node)
        three.wait_voters(timeout=WHOLE)
        three.wait_copied(WHOLE)
        load.go_on(20, GO_ON)
    end = time.monotonic()
    times = whole(three, load)
    pause = times.longest(METADATA, at, end)
    measured("rolling restart, metadata", pause)
    assert pause <= METADATA_PAUSE_MS


# --- (h) no majority


@PLAIN
@pytest.mark.limit(240)
@pytest.mark.parametrize("left", ["leader", pytest.param("follower", marks=SLOW)])
def test_two_voters_down_acknowledge_nothing_until_one_is_back(three, left):
    load = Workload(three, three.mount("a"))
    leader = three.leader()
    survivor = leader if left == "leader" else others(three, leader)[0]
    down = others(three, survivor)
    for node in down:
        three.kill(node)
    time.sleep(3)  # what was on its way
    load.stands(6)
    assert three.leader() is None, "a leader without a majority has stepped down"
    p = hf("status", "--config", three.conf, check=False)
    assert p.returncode == 1 and "no metadata node leads" in p.err, p.err
    assert all(three.address(n) in p.err for n in (1, 2, 3)), p.err
    p = hf("meta", "status", "--config", three.conf, check=False)
    assert p.returncode == 1 and three.address(survivor) in p.out and "refused" in p.out, p.out
    three.start(down[0])
    load.go_on(20, GO_ON)
    three.start(down[1])
    whole(three, load)


# --- (i) measures


def kill_leaders(c, count):
    """({"metadata": [ms of each kill], "reads": [...]}) under load."""
    load = Workload(c, c.mount("a"), workers=2)
    kills = []
    for _ in range(count):
        leader = c.wait_leader()
        kills.append(kill_and_start(c, load, leader, down=3))
        time.sleep(1)
    times = whole(c, load)
    return {kind: [times.longest(names, at, at + 10) for at in kills]
            for kind, names in (("metadata", METADATA), ("reads", READS))}


def judge_pauses(pauses):
    for kind, worst_allowed in (("metadata", METADATA_PAUSE_MS), ("reads", READ_PAUSE_MS)):
        each = pauses[kind]
        measured(f"leader killed {len(each)} times, {kind}, median", statistics.median(each))
        measured(f"leader killed {len(each)} times, {kind}, worst", max(each))
        assert max(each) <= worst_allowed, f"{kind}: {[round(ms) for ms in each]} ms"


@PLAIN
@pytest.mark.limit(300)
def test_pauses_when_the_leader_is_killed(three):
    judge_pauses(kill_leaders(three, 3))


@pytest.mark.slow
@pytest.mark.limit(1200)
def test_pauses_when_the_leader_is_killed_20_times(three):
    judge_pauses(kill_leaders(three, 20))


# --- files without a name


class Publisher(threading.Thread):
    """Makes files without a name and gives them one, until it is told to stop."""

    def __init__(self, top):
        super().__init__(daemon=True)
        self.top, self.over = top, threading.Event()
        self.sizes, self.error = [], None

    def run(self):
        try:
            while not self.over.is_set():
                seed, size = len(self.sizes), 1 + len(self.sizes) * 7919 % 300_000
                fd = os.open(self.top, os.O_TMPFILE | os.O_RDWR, 0o600)
                os.write(fd, content.data(seed, 0, size))
                Cluster.name_it(fd, f"{self.top}/{seed}")
                os.close(fd)
                self.sizes.append(size)
        except Exception as e:  # noqa: BLE001  (told to the test)
            self.error = e


@pytest.mark.limit(300)
def test_files_without_a_name_outlive_leaders(three):
    a, b = three.mount("a"), three.mount("b")
    os.mkdir(f"{a}/d")
    kept = os.open(a, os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(kept, content.data(1, 0, 3 << 20))
    os.fsync(kept)
    maker = Publisher(f"{a}/d")
    maker.start()
    for _ in range(3):
        leader = three.wait_leader()
        goal = len(maker.sizes) + 10
        three.kill(leader)
        three.wait_leader(but=[leader])
        wait_for(lambda: f"{goal} files, of {len(maker.sizes)}",
                 lambda: maker.error or len(maker.sizes) >= goal, GO_ON)
        three.start(leader)
        three.wait_voters(timeout=WHOLE)
    maker.over.set()
    maker.join(60)
    assert maker.error is None
    time.sleep(20)  # past a sweep of the last leader
    Cluster.name_it(kept, f"{a}/kept")
    content.check_file(f"{b}/kept", 1, 3 << 20)
    assert len(os.listdir(f"{b}/d")) == len(maker.sizes)
    for seed, size in enumerate(maker.sizes):
        content.check_file(f"{b}/d/{seed}", seed, size)
    os.close(kept)
    three.wait_copied()
    assert three.status()["metadata"]["orphans"] == 0
    three.fsck()
    three.wait_digests()


# --- the commands


@PLAIN
@pytest.mark.limit(240)
def test_transfer_hands_the_lead_over_without_an_error(three):
    load = Workload(three, three.mount("a"))
    at = time.monotonic()
    for _ in range(3):
        leader = three.wait_leader()
        target = others(three, leader)[0]
        p = three.hf("meta", "transfer", target, "--config", three.conf)
        assert f"node {target} leads" in p.out
        load.go_on(50, GO_ON)
    end = time.monotonic()
    leader = three.wait_leader()
    three.hf("meta", "transfer", "--config", three.conf)
    assert three.wait_leader() != leader
    p = three.hf("meta", "transfer", three.leader(), "--config", three.conf, check=False)
    assert p.returncode in (0, 1), "to the leader itself: done, or refused with a sentence"
    times = whole(three, load)
    measured("leadership transferred, metadata", times.longest(METADATA, at, end))


@pytest.mark.limit(300)
def test_voter_replaced_by_another_node_under_load(make_cluster):
    c = make_cluster(nodes=4, metadata=3)
    c.up()
    c.wait_voters()
    load = Workload(c, c.mount("a"))
    roles = {n["id"]: n["role"] for n in _node_ls(c)}
    assert sorted(roles.values()) == ["-", "leader", "voter", "voter"]
    p = c.hf("meta", "add-voter", 4, "--config", c.conf, timeout=WHOLE)
    assert "node 4 is a voter" in p.out and "metadata = true" in p.err
    c.wait_voters([1, 2, 3, 4], timeout=WHOLE)
    assert "node 4 is a voter" in c.hf("meta", "add-voter", 4, "--config", c.conf).out, "again"
    leader = c.leader()
    p = c.hf("meta", "remove-voter", leader, "--config", c.conf)
    assert f"node {leader} holds the metadata no longer" in p.out
    c.wait_leader(but=[leader])
    rest = others(c, leader)
    c.wait_voters(rest, timeout=WHOLE)
    load.go_on(50, GO_ON)
    p = c.hf("meta", "remove-voter", leader, "--config", c.conf, check=False)
    assert p.returncode == 1 and "does not hold the metadata" in p.err
    load.finish()
    c.wait_digests(rest, timeout=WHOLE)
    load.check(c.mount("b"))
    c.fsck()


@PLAIN
@pytest.mark.limit(240)
def test_replicas_compare_digests_by_themselves(three):
    load = Workload(three, three.mount("a"))

    def compared():
        meta = three.meta_all()
        return all(m.get("digest_index", 0) >= 1024 and m["digest_ok"]
                   for m in meta.get("members", []) if m["node"] != meta["leader"])

    wait_for(lambda: f"equal digests; {json.dumps(three.meta_all(), indent=1)}", compared, 90, 0.5)
    whole(three, load)
    assert not any(n["taken_out"] for n in three.meta_all()["nodes"])


def _node_ls(c):
    return json.loads(c.hf("node", "ls", "--json", "--config", c.conf).out)


@PLAIN
@pytest.mark.limit(240)
def test_removal_that_would_lose_the_majority_is_refused(three):
    leader = three.leader()
    dead, alive = others(three, leader)
    three.kill(dead)
    three.wait_status("node down", lambda s: three.node_status(dead, s)["state"] == "down", 30)
    p = three.hf("meta", "remove-voter", alive, "--config", three.conf, check=False)
    assert p.returncode == 1 and re.search("majority|down|voters", p.err), p.err
    three.start(dead)
    three.wait_voters(timeout=WHOLE)


# --- (j) start-up


def start_alone(c, node):
    """Start it, and return its log as it grows."""
    c.start(node)
    return lambda: c.read(f"n{node}.log")


@PLAIN
def test_missing_peers_are_named_while_a_node_waits_for_them(make_cluster):
    c = make_cluster(metadata=3)
    log = start_alone(c, 1)
    wait_for(lambda: f"a line that names who is waited for: {log()}", lambda: re.search(
        "waiting for", log()) and c.address(2) in log() and c.address(3) in log(), 20)
    own = c.meta(1)
    assert own["role"] != "leader" and "waiting_for" in own, own
    assert "waits for" in hf("meta", "status", "--config", c.conf, check=False).out
    c.start(2)
    time.sleep(3)
    assert c.leader() is None, "a cluster is founded by all its metadata nodes, or not at all"
    c.start(3)
    c.wait_voters(timeout=WHOLE)


@PLAIN
def test_two_of_three_serve_and_the_third_comes_later(three):
    load = Workload(three, three.mount("a"))
    last = others(three, three.leader())[0]
    for n in (1, 2, 3):
        three.kill(n)
    for n in others(three, last):
        three.start(n)
    three.wait_leader(timeout=GO_ON)
    load.go_on(50, GO_ON)
    three.start(last)
    three.wait_voters(timeout=WHOLE)
    whole(three, load)


@pytest.fixture
def wrong_clock(tmp_path):
    """Environment of a process whose time of day is off by so many seconds."""
    library = tmp_path / "wall_clock.so"
    run(["cc", "-shared", "-fPIC", "-o", library,
         os.path.join(os.path.dirname(os.path.abspath(__file__)), "wall_clock.c"), "-ldl"])
    return lambda seconds: {**os.environ, "LD_PRELOAD": str(library),
                            "WALL_CLOCK_AHEAD": str(seconds)}


@PLAIN  # a sanitizer wants to be the first library
@pytest.mark.limit(240)
@pytest.mark.parametrize("ahead", [7200, -7200])
def test_clock_far_apart_is_named_and_costs_nothing(three, wrong_clock, ahead):
    load = Workload(three, three.mount("a"))
    wrong = three.leader()
    three.terminate(wrong)
    before = {n: len(three.read(f"n{n}.log")) for n in (1, 2, 3)}
    three.hf("dev", "start", wrong, "--dir", three.dir, env=wrong_clock(ahead), cwd=three.dir)
    for n in (1, 2, 3):
        named = others(three, n) if n == wrong else [wrong]
        for other in named:
            wait_for(f"node {n} to name the clock of node {other}", lambda: re.search(
                rf"clocks apart.* node={other} seconds=-?7[12]\d\d ",
                three.read(f"n{n}.log")[before[n]:]), 30)
    three.wait_voters(timeout=WHOLE)
    assert any("clock of node" in w["what"] for w in three.status()["warnings"])
    three.hf("meta", "transfer", wrong, "--config", three.conf)
    assert three.wait_leader() == wrong
    load.go_on(50, GO_ON)
    three.kill(wrong)  # sessions and leases of its reign are counted on other clocks
    load.go_on(50, GO_ON)
    three.start(wrong)
    for n in others(three, wrong):
        wait_for(f"node {n} to see that it is right again", lambda: re.search(
            rf"clocks agree node={wrong}\b", three.read(f"n{n}.log")[before[n]:]), 30)
    whole(three, load)


def test_node_of_another_cluster_is_named_by_both_sides(three):
    three.terminate(3)
    shutil.rmtree(three.data_dir(3))
    text = three.read("cluster.conf").replace(three.uuid, str(uuid.uuid4()))
    with open(f"{three.dir}/other.conf", "w") as f:
        f.write(text)
    with open(f"{three.dir}/node3.conf") as f:
        mine = f.read()
    with open(f"{three.dir}/node3.conf", "w") as f:
        f.write(f'this_node = 3\ninclude("{three.dir}/other.conf")\n')
    before = len(three.read("n3.log"))
    three.start(3)
    wait_for(lambda: f"a word on the other cluster: {three.read('n3.log')[before:]}",
             lambda: re.search("another cluster|wrong cluster", three.read("n3.log")[before:]), 20)
    assert three.leader() in (1, 2), "the others serve"
    three.terminate(3)
    with open(f"{three.dir}/node3.conf", "w") as f:
        f.write(mine)


def test_metadata_directory_of_another_node_is_refused(three):
    """A cloned identity: node 3 finds node 2's log, vote and table."""
    three.terminate(2)
    three.terminate(3)
    shutil.rmtree(meta_dir(three, 3))
    shutil.copytree(meta_dir(three, 2), meta_dir(three, 3))
    p = three.dev("start", 3, check=False)
    if p.returncode == 0:  # it may end, or stay and say so
        wait_for("its end", lambda: not os.path.exists(
            f"/proc/{three.read('n3.pid').strip()}/exe"), 20)
    said = p.err + three.read("n3.log")[-3000:]
    assert meta_dir(three, 3) in said and "node 2" in said, said
    shutil.rmtree(meta_dir(three, 3))
    three.start(2)
    three.start(3)
    three.wait_voters(timeout=WHOLE)


def test_same_node_started_twice_on_two_machines_is_refused(three):
    """A data directory that was copied with its number: two nodes that claim to be one."""
    three.terminate(3)
    shutil.copytree(three.data_dir(3), f"{three.dir}/copy")
    three.start(3)
    three.wait_voters(timeout=WHOLE)
    host, port = three.address(3).split(":")
    text = three.read("cluster.conf").replace(three.data_dir(3), f"{three.dir}/copy").replace(
        three.address(3), f"{host}:{int(port) + 1}")
    with open(f"{three.dir}/copy.conf", "w") as f:
        f.write(text)
    load = Workload(three, three.mount("a"))
    with open(f"{three.dir}/copy.log", "wb") as out:
        copy = subprocess.Popen([program("holdfastd"), "--config", f"{three.dir}/copy.conf",
                                 "--node", "3"], stdout=out, stderr=out)
    try:
        load.go_on(200, GO_ON)  # whatever the copy tries, nothing acknowledged is at risk
        time.sleep(5)
        load.go_on(50, GO_ON)
    finally:
        copy.kill()
        copy.wait()
    assert any("node started twice" in three.read(f"n{n}.log") for n in (1, 2, 3))
    whole(three, load)
