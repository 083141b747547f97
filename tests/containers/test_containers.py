# SPDX-License-Identifier: Apache-2.0
"""The cluster as its users run it: deploy/compose.yaml, a verifying load in both clients, and nodes
that are killed, cut off and restarted, one at a time.

`./dev containers` builds the images, provides an engine, and takes everything away afterwards; this
talks to whatever engine $DOCKER_HOST names, as the compose project $HOLDFAST_PROJECT.
"""
import json
import os
import subprocess
import sys
import time

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, f"{TOP}/tests/cluster")

import worker  # noqa: E402

PROJECT = os.environ.get("HOLDFAST_PROJECT", "holdfast-test")
COMPOSE = ["docker-compose", "--no-ansi", "-p", PROJECT, "-f", f"{TOP}/deploy/compose.yaml"]
CONF = ["--config", "/etc/holdfast/cluster.conf"]
SHARED = "/mnt/holdfast"
TESTS = f"{TOP}/tests/cluster"  # at the same place in the clients' image
PYTHON = os.path.realpath("/usr/bin/python3")
CLIENTS = ("client1", "client2")

# Nodes to kill and to cut off, in this order: the one that leads the metadata, and another.
VICTIMS = [("kill", "leader"), ("disconnect", "leader"), ("kill", "other"), ("disconnect", "other")]
ADDRESS = {1: "10.74.0.11", 2: "10.74.0.12", 3: "10.74.0.13"}
PAUSE_MAX_MS = 30_000  # far above what is seen; a client that gives up would take op_timeout, 120 s


def run(argv, timeout=60, check=True, stdin=None):
    p = subprocess.run(argv, timeout=timeout, input=stdin, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True, errors="replace")
    assert not check or p.returncode == 0, (
        f"{' '.join(argv)}: exit {p.returncode}\n{p.stdout[-3000:]}\n{p.stderr[-3000:]}")
    return p


def note(line):
    """What was measured, for whoever runs this: the run script prints it at the end."""
    print(line)
    if os.environ.get("HOLDFAST_PAUSES"):
        with open(os.environ["HOLDFAST_PAUSES"], "a") as f:
            f.write(line + "\n")


def docker(*argv, **more):
    return run(["docker", *argv], **more)


def name(service):
    return f"{PROJECT}_{service}_1"


def inside(service, *argv, **more):
    """Run in a container; returns its stdout."""
    return docker("exec", name(service), *argv, **more).stdout


def wait_for(what, probe, timeout):
    end = time.monotonic() + timeout
    while not (found := probe()):
        assert time.monotonic() < end, f"waited {timeout} s in vain: {what}"
        time.sleep(0.2)
    return found


def status():
    p = docker("exec", name("client1"), "holdfast", "status", "--json", *CONF, check=False)
    return json.loads(p.stdout) if p.returncode == 0 else None


def node_state(n):
    s = status()
    return next((o["state"] for o in s["nodes"] if o["id"] == n), None) if s else None


def leader():
    s = status()
    return s and s["metadata"]["leader"]


def voters_well():
    p = docker("exec", name("client1"), "holdfast", "meta", "status", "--json", check=False)
    if p.returncode != 0:  # while a leader is looked for
        return False
    members = json.loads(p.stdout)["members"]
    return len(members) == 3 and all(m["kind"] == "voter" and not m["abstaining"] and
                                     m["heard_ms_ago"] < 2000 for m in members)


def copied():
    """All nodes up, and every object has all its copies."""
    s = status()
    return s and len(s["nodes"]) == 3 and s["metadata"]["degraded"] == 0 and \
        s["metadata"]["copy_left"] == 0 and all(
            n["state"] == "up" and n["lacking"] == 0 for n in s["nodes"])


def health(service):
    return docker("inspect", "--format", "{{.State.Health.Status}}", name(service)).stdout.strip()


class Load:
    """worker.py of every kind in one client, in a directory of the client's own."""

    KINDS = ("files", "append", "names", "read")

    def __init__(self, client, seed, directory):
        self.client, self.seed, self.top = client, seed, f"{SHARED}/{client}"
        inside(client, PYTHON, "-c", f"""
import os, sys
sys.path.insert(0, {TESTS!r})
import content
for d in ("", "/files", "/names"):
    os.mkdir({self.top!r} + d)
content.write_file({self.top!r} + "/read", {seed} + 9000, 4 << 20)""")
        self.workers, self.read_to = {}, {}
        for kind in self.KINDS:
            out, err = f"{directory}/{client}-{kind}.out", f"{directory}/{client}-{kind}.err"
            offset = {"files": 1000, "append": 77, "names": 0, "read": 9000}[kind]
            with open(out, "wb") as o, open(err, "wb") as e:
                p = subprocess.Popen(
                    ["docker", "exec", "-i", name(client), PYTHON, f"{TESTS}/worker.py", kind,
                     f"{self.top}/{kind}", str(seed + offset)],
                    stdin=subprocess.PIPE, stdout=o, stderr=e)
            p.out, p.err = out, err
            self.workers[kind] = p

    def lines(self, kind):
        with open(self.workers[kind].out) as f:
            return f.read().split("\n")[:-1]

    def steps(self):
        for kind, p in self.workers.items():
            assert p.poll() is None, f"{self.client}: {kind} ended: {open(p.err).read()[-2000:]}"
        return {kind: len(self.lines(kind)) for kind in self.KINDS}

    def longest(self, since):
        """The longest step of any worker after the counts `since`, in ms: (ms, kind)."""
        return max((int(line.split()[1]), kind) for kind in self.KINDS
                   for line in self.lines(kind)[since[kind]:])

    def finish(self):
        self.done = {}
        for kind, p in self.workers.items():
            p.stdin.close()
            assert p.wait(60) == 0, f"{self.client}: {kind}: {open(p.err).read()[-2000:]}"
            self.done[kind], _ = worker.parse(self.lines(kind))

    def kill(self):
        for p in self.workers.values():
            p.kill()
            p.wait()

    def check(self, client):
        """Through another client's mount: everything acknowledged is there, once, and right."""
        d, seed, top = self.done, self.seed, self.top
        inside(client, PYTHON, "-c", f"""
import os, sys
sys.path.insert(0, {TESTS!r})
import content, worker
for i in range({d["files"]}):
    content.check_file(f"{top}/files/{{i}}", {seed} + 1000 + i, worker.size_of(i))
content.check_file("{top}/append", {seed} + 77, {d["append"]} * worker.CHUNK)
worker.check_names("{top}/names", {d["names"]}, more=0)
content.check_file("{top}/read", {seed} + 9000, 4 << 20)""", timeout=120)


@pytest.fixture
def loads(tmp_path):
    made = []
    try:
        for i, client in enumerate(CLIENTS):
            made.append(Load(client, 100_000 * (i + 1), tmp_path))
        yield made
    finally:
        for load in made:
            load.kill()


@pytest.fixture(scope="module", autouse=True)
def project():
    try:
        run([*COMPOSE, "up", "-d"], timeout=120)
        for service in ("node1", "node2", "node3", *CLIENTS):
            wait_for(f"{service} healthy", lambda: health(service) == "healthy", 60)
        wait_for("all nodes up", copied, 30)
        yield
        # Stopping is orderly too: clients write back and unmount, nodes write a checkpoint.
        run([*COMPOSE, "stop"], timeout=90)
        for service in ("node1", "node2", "node3", *CLIENTS):
            code = docker("inspect", "--format", "{{.State.ExitCode}}", name(service)).stdout
            assert code.strip() == "0", f"{service} ended with {code}"
    finally:
        logs = run([*COMPOSE, "logs", "--no-color", "--tail", "40"], check=False, timeout=30)
        print(logs.stdout)


def go_on(loads, more=3, timeout=60):
    """Every worker of every client does `more` further steps."""
    goals = [{kind: n + more for kind, n in load.steps().items()} for load in loads]
    wait_for("every worker to go on", lambda: all(
        load.steps()[kind] >= n for load, goal in zip(loads, goals) for kind, n in goal.items()),
        timeout)


def during(what, loads, act):
    """Run act() under load, and let every worker go on; prints what it cost the clients."""
    since = [load.steps() for load in loads]
    act()
    go_on(loads)
    for load, before in zip(loads, since):
        ms, kind = load.longest(before)
        note(f"PAUSE {what}: {load.client}: {ms} ms ({kind})")
        assert ms <= PAUSE_MAX_MS
    wait_for(f"every copy after {what}", copied, 60)


def kill(n, loads):
    node = name(f"node{n}")
    docker("kill", node)
    wait_for(f"node {n} down", lambda: node_state(n) == "down", 30)
    go_on(loads)  # without it
    docker("start", node)


def disconnect(n, loads):
    node, network = name(f"node{n}"), f"{PROJECT}_cluster"
    docker("network", "disconnect", network, node)
    wait_for(f"node {n} down", lambda: node_state(n) == "down", 30)
    go_on(loads)
    docker("network", "connect", "--ip", ADDRESS[n], network, node)


def test_file_written_in_one_client_is_read_in_the_other():
    inside("client1", PYTHON, "-c", f"""
import sys
sys.path.insert(0, {TESTS!r})
import content
content.write_file("{SHARED}/hello", 4, 5_000_001)""")
    inside("client2", PYTHON, "-c", f"""
import sys
sys.path.insert(0, {TESTS!r})
import content
content.check_file("{SHARED}/hello", 4, 5_000_001)""")


def test_clients_keep_working_while_nodes_are_killed_cut_off_and_restarted(loads):
    go_on(loads)
    for how, who in VICTIMS:
        act = {"kill": kill, "disconnect": disconnect}[how]
        n = wait_for("a leader", leader, 30)
        n = n if who == "leader" else next(other for other in ADDRESS if other != n)
        during(f"{how} of node {n} ({who})", loads, lambda: act(n, loads))
        wait_for("all metadata nodes up to date", voters_well, 60)
    during("restart of node 1", loads,
           lambda: docker("restart", name("node1"), timeout=90))
    for load in loads:
        load.finish()
    loads[0].check("client2")
    loads[1].check("client1")
    wait_for("every copy", copied, 60)
    for client in CLIENTS:
        report = json.loads(inside(client, "holdfast", "verify", SHARED, "--json", timeout=120))
        assert report["clean"] and report["files"] > 0, report
    inside("client1", "holdfast", "fsck", *CONF)
    total = {kind: sum(load.done[kind] for load in loads) for kind in Load.KINDS}
    note(f"acknowledged steps, read back through the other client: {total}")


def test_health_check_fails_on_a_node_that_does_not_serve():
    ask = ["docker", "exec", name("node3"), "holdfast", "status", *CONF, "--node"]
    assert run([*ask, "3"]).returncode == 0
    docker("pause", name("node2"))
    try:
        assert run([*ask, "2"], check=False, timeout=30).returncode == 1
    finally:
        docker("unpause", name("node2"))
    wait_for("node 2 up again", copied, 60)


def test_cluster_network_is_internal_and_publishes_no_port():
    internal = docker("network", "inspect", "--format", "{{.Internal}}", f"{PROJECT}_cluster")
    assert internal.stdout.strip() == "true"
    for service in ("node1", "node2", "node3", *CLIENTS):
        assert docker("port", name(service)).stdout == ""
