# SPDX-License-Identifier: Apache-2.0
"""Power cuts and sick disks under real daemons: each node's data directory lies on a fault disk
(tests/lib/faultdisk), which loses what was not synced. What was acknowledged stays.

    pytest tests/cluster/test_power.py [-m "not slow"] [-rP]

Each test prints the seed of its cuts; HOLDFAST_SEED=N takes that one again. It decides what a cut
leaves of the writes that it meets, but not which those are: the workload and the moment differ from
run to run. HOLDFAST_KEEP=1 keeps the logs of a failure.
"""
import os
import random
import re
import time

import pytest

import workload
from harness import ASAN, wait_for
from test_failover import GO_ON, WHOLE, measured, others, whole
from workload import METADATA, Workload

SLOW, PLAIN = pytest.mark.slow, pytest.mark.plain


@pytest.fixture
def rng():
    seed = int(os.environ.get("HOLDFAST_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"HOLDFAST_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def three(make_cluster):
    """Three nodes that all hold the metadata, each on a fault disk, up."""
    c = make_cluster(metadata=3, fault_disks=True)
    c.up()
    c.wait_voters()
    return c


def cut(c, nodes, rng, mode="random"):
    seed = rng.randrange(1 << 32)
    print(f"power cut of nodes {nodes}, {mode}, seed {seed}: "
          f"{c.power_cut(nodes, seed, mode)}")


def catch_unsynced(c, nodes, rng):
    """Syncs take long enough that one is under way, with what it is to sync, when the power goes."""
    for n in nodes:
        c.disks[n].delay("sync", rng.choice((0, 5, 50)))
    time.sleep(0.1 + rng.random() / 10)


def all_lose_power(c, load, rng, rounds, mode="random"):
    for _ in range(rounds):
        load.go_on(rng.randrange(20, 200), GO_ON)
        catch_unsynced(c, [1, 2, 3], rng)
        cut(c, [1, 2, 3], rng, mode)
        c.power_on([1, 2, 3])
        load.go_on(20, GO_ON)


# --- power cuts


@pytest.mark.limit(300)
def test_all_nodes_lose_power_at_once(three, rng):
    load = Workload(three, three.mount("a"))
    all_lose_power(three, load, rng, rounds=5)
    whole(three, load)


@PLAIN
def test_all_nodes_lose_power_right_after_their_first_start(three, rng):
    """What was made, and not written to since: files whose names are durable before they are."""
    cut(three, [1, 2, 3], rng, "torn")
    three.power_on([1, 2, 3])
    whole(three, Workload(three, three.mount("a")))


@pytest.mark.slow
@pytest.mark.limit(300)
@pytest.mark.parametrize("mode", ["drop", "keep", "torn"])
def test_all_nodes_lose_power_and_the_same_is_left_everywhere(three, rng, mode):
    load = Workload(three, three.mount("a"))
    all_lose_power(three, load, rng, rounds=2, mode=mode)
    whole(three, load)


@pytest.mark.slow
@pytest.mark.limit(1800)
def test_all_nodes_lose_power_40_times(three, rng):
    load = Workload(three, three.mount("a"))
    for _ in range(8):
        all_lose_power(three, load, rng, rounds=5)
        whole(three, load)
        load = Workload(three, three.mounts["a"])
    whole(three, load)


def one_loses_power(c, load, rng, node, down):
    load.go_on(rng.randrange(20, 200), GO_ON)
    catch_unsynced(c, [node], rng)
    at = time.monotonic()
    cut(c, [node], rng)
    load.go_on(20, GO_ON)
    time.sleep(max(0.0, at + down - time.monotonic()))
    c.power_on([node])
    c.wait_voters(timeout=WHOLE)


@PLAIN
@pytest.mark.limit(300)
def test_one_node_after_the_other_loses_power_while_clients_go_on(three, rng):
    load = Workload(three, three.mount("a"))
    first = three.leader()
    for node in [first, *others(three, first)]:
        one_loses_power(three, load, rng, node, down=1)
    one_loses_power(three, load, rng, three.wait_leader(), down=3)
    whole(three, load)


@pytest.mark.slow
@pytest.mark.limit(1800)
def test_a_node_loses_power_40_times(three, rng):
    load = Workload(three, three.mount("a"))
    for turn in range(40):
        leader = three.wait_leader()
        node = leader if turn % 2 == 0 else rng.choice(others(three, leader))
        one_loses_power(three, load, rng, node, down=rng.choice((0, 1, 5)))
    whole(three, load)


@pytest.mark.slow
@pytest.mark.limit(300)
def test_a_node_loses_power_again_while_it_recovers(three, rng):
    load = Workload(three, three.mount("a"))
    for _ in range(2):
        load.go_on(50, GO_ON)
        catch_unsynced(three, [1, 2, 3], rng)
        cut(three, [1, 2, 3], rng)
        three.power_on([1, 2, 3])
        for node in (1, 2, 3):
            time.sleep(rng.random() / 2)
            cut(three, [node], rng)
            three.power_on([node])
    load.go_on(20, GO_ON)
    whole(three, load)


@PLAIN
@pytest.mark.limit(600)
@pytest.mark.parametrize("op, path, after, rounds", [
    ("write", "", 300, 2), *(pytest.param(*words, marks=SLOW) for words in (
        ("sync", "", 300, 20), ("name", "", 3, 3), ("sync", "/store/index", 4, 4),
        ("write", "/meta/table", 20, 4), ("sync", "/meta/table", 2, 4)))])
def test_power_goes_at_a_certain_call(three, rng, op, path, after, rounds):
    """The others go on. Until it is killed, a moment later, the node sees its disk fail."""
    load = Workload(three, three.mount("a"))
    for turn in range(rounds):
        leader = three.wait_leader()
        node = leader if turn % 2 == 0 else rng.choice(others(three, leader))
        three.disks[node].fail(op, path=path, after=rng.randrange(after), errno="OFF")
        wait_for("the power to go", lambda: three.disks[node].stats()["off"], 4 * GO_ON, 0.001)
        cut(three, [node], rng)
        load.go_on(20, GO_ON)
        three.power_on([node])
        three.wait_voters(timeout=WHOLE)
    whole(three, load)


@pytest.mark.slow
@pytest.mark.limit(300)
def test_disks_that_lie_about_their_syncs_are_found_out(three, rng):
    """That these tests can fail: with nothing synced, a power cut of all nodes loses what was
    acknowledged, and the workload's list tells."""
    load = Workload(three, three.mount("a"))
    for disk in three.disks.values():
        disk.lie()
    load.go_on(100, GO_ON)
    load.process.kill()
    load.process.wait()
    cut(three, [1, 2, 3], rng, "drop")
    three.power_on([1, 2, 3])
    three.kill_mount("a")
    problems, _ = workload.verify(f"{three.mount('b')}/{load.name}", load.list)
    assert problems


# --- disks that fail


def struck(c, node):
    return sum(c.disks[node].stats()["struck"].values())


@PLAIN
@pytest.mark.limit(300)
@pytest.mark.parametrize("op, path", [
    ("sync", "/store/"), ("sync", "/meta/log"), ("sync", "/meta/table"),
    *(pytest.param(*words, marks=SLOW) for words in (
        ("write", "/store/"), ("write", "/meta/log"), ("sync", "/meta/vote")))])
def test_call_that_fails_once_loses_nothing_that_was_acknowledged(three, rng, op, path):
    """What a failed sync lost shows when the node loses power afterwards, even when all that is
    unsynced is left: it must not have been trusted."""
    load = Workload(three, three.mount("a"))
    for node in (three.leader(), others(three, three.leader())[0]):
        after = 0 if path == "/meta/vote" else rng.randrange(20)
        before = len(three.read(f"n{node}.log"))
        three.disks[node].fail(op, path=path, after=after, count=1)
        if path == "/meta/vote":
            three.hf("meta", "transfer", "--config", three.conf)
        wait_for("the fault to strike", lambda: struck(three, node) > 0, 2 * GO_ON)
        load.go_on(100, GO_ON)
        said = wait_for(f"a word of node {node}", lambda: re.findall(
            r"Z (?:warn|error) .*(?:failed|fails).*", three.read(f"n{node}.log")[before:]), GO_ON)
        print("\n    ".join([f"node {node} says:", *said]))
        cut(three, [node], rng, "keep")
        three.power_on([node])
        three.wait_voters(timeout=WHOLE)
    whole(three, load)


@PLAIN
@pytest.mark.limit(300)
@pytest.mark.parametrize("who", ["leader", pytest.param("follower", marks=SLOW)])
def test_disk_on_which_no_sync_succeeds_any_more(three, rng, who):
    load = Workload(three, three.mount("a"))
    leader = three.leader()
    node = leader if who == "leader" else others(three, leader)[0]
    at = time.monotonic()
    three.disks[node].fail("sync")
    load.go_on(200, GO_ON)
    measured(f"no sync succeeds at the {who}, until 200 operations", (time.monotonic() - at) * 1000)
    assert three.wait_leader(but=[node], timeout=GO_ON)
    cut(three, [node], rng, "keep")
    three.power_on([node])
    whole(three, load)


@PLAIN
@pytest.mark.limit(300)
def test_store_whose_disk_fails_writes_is_left_out_until_it_is_started_again(three, rng):
    """Three nodes, three copies: there is no group without it, and two members are enough."""
    def state():
        return three.node_status(node)["state"]

    load = Workload(three, three.mount("a"))
    node = others(three, three.leader())[0]
    load.go_on(50, GO_ON)
    three.disks[node].fail("write", path="/store/", count=1 << 30)
    at = time.monotonic()
    load.go_on(100, GO_ON)
    for i in range(10):
        with open(f"{three.mounts['a']}/synced-{i}", "wb") as f:
            f.write(bytes([i]) * (1 << 20))
            f.flush()
            os.fsync(f.fileno())
    measured("a store's disk fails writes, until 10 MiB and 100 operations are synced",
             (time.monotonic() - at) * 1000)
    assert state() == "read-only"
    warnings = three.status()["warnings"]
    assert any(f"node {node} is read-only" in w["what"] for w in warnings), warnings
    three.disks[node].clear()
    load.go_on(100, GO_ON)
    assert state() == "read-only"  # it stays so, though its disk seems to be well again
    three.terminate(node)
    three.start(node)
    whole(three, load)
    assert state() == "up"
    for i in range(10):
        with open(f"{three.mounts['fresh']}/synced-{i}", "rb") as f:
            assert f.read() == bytes([i]) * (1 << 20)


@PLAIN
@pytest.mark.limit(300)
@pytest.mark.parametrize("who", ["follower", pytest.param("leader", marks=SLOW)])
def test_disk_that_syncs_slowly_holds_nobody_up_for_long(three, rng, who):
    load = Workload(three, three.mount("a"))
    leader = three.leader()
    node = leader if who == "leader" else others(three, leader)[0]
    at = time.monotonic()
    three.disks[node].delay("sync", 200)
    load.go_on(200, GO_ON)
    print(f"200 operations took {time.monotonic() - at:.1f} s")
    three.disks[node].clear()
    times = whole(three, load)
    pause = times.longest(METADATA, at)
    measured(f"200 ms a sync at the {who}, metadata", pause)
    assert ASAN or pause < 5000
