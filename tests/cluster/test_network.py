# SPDX-License-Identifier: Apache-2.0
"""Nodes in network namespaces of their own: store nodes cut off, and the cuts themselves."""
import subprocess
import time

from harness import hf, wait_for
from network import CLIENT, NetCluster
from workload import Workload


def reaches(net, a, b):
    """Whether packets go from a to b and back: any answer counts."""
    code = ("import socket, sys\n"
            f"s = socket.socket(); s.settimeout(1)\n"
            f"r = s.connect_ex(('{net.host(b)}', 9))\n"
            "sys.exit(r != 111)")  # refused
    return subprocess.run([*net.inside(a), "/usr/bin/python3", "-c", code]).returncode == 0


def test_cuts_cut_what_they_say_and_heal(make_cluster):
    net = make_cluster(kind=NetCluster)
    assert all(reaches(net, a, b) for a in range(4) for b in range(4) if a != b)
    net.cut(1, 2)
    assert not reaches(net, 1, 2) and not reaches(net, 2, 1)
    assert reaches(net, 1, 3) and reaches(net, 3, 2) and reaches(net, CLIENT, 1)
    net.heal()
    assert reaches(net, 1, 2)
    net.isolate(3, but=[CLIENT])
    assert not reaches(net, 3, 1) and not reaches(net, 2, 3) and reaches(net, CLIENT, 3)
    net.heal()
    assert reaches(net, 3, 1)
    p = hf("status", "--config", net.conf, check=False)
    assert p.returncode == 1, "the machine's own network is another one"


def test_store_node_cut_off_is_marked_down_and_caught_up(make_cluster):
    net = make_cluster(kind=NetCluster)
    net.up()
    load = Workload(net, net.mount("a"))
    net.isolate(3)
    net.wait_status("node 3 to be down", lambda s: net.node_status(3, s)["state"] == "down", 30)
    load.go_on(100)
    net.heal()
    net.wait_healthy()
    net.wait_copied()
    load.finish()
    load.check(net.mount("b"))
    net.verify(f"{net.mounts['b']}/{load.name}")
    net.fsck()


def test_clients_wait_while_only_they_are_cut_off_from_the_metadata(make_cluster):
    net = make_cluster(kind=NetCluster)
    net.up()
    load = Workload(net, net.mount("a"))
    net.cut(CLIENT, net.leader())
    time.sleep(1)
    load.stands(4)
    net.heal()
    load.go_on(50, 30)
    load.finish()
    load.check(net.mount("b"))
    wait_for("all nodes up", lambda: net.status()["health"] == "ok", 20)
