# SPDX-License-Identifier: Apache-2.0
"""Fixtures: clusters that are always taken down, a limit of time for every test, logs on failure.

A test that hangs inside a mount cannot be interrupted from within (the kernel waits for the mount's
answer), so the watchdog is a process of its own: it aborts the mounts of this run, then signals.
"""
import os
import signal
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))

import harness  # noqa: E402
from harness import Cluster  # noqa: E402

LIMIT_SECONDS = 120
live = []  # clusters of this run that are open

WATCHDOG = """
import os, shutil, signal, sys, time
sys.path.insert(0, sys.argv[1])
import harness
parent, seconds = int(sys.argv[2]), float(sys.argv[3])

def directories():
    for name in os.listdir(harness.WORK):
        mark = os.path.join(harness.WORK, name, ".run")
        if name.startswith("holdfast-test-") and os.path.exists(mark):
            if open(mark).read() == str(parent):
                yield os.path.dirname(mark)

def alive():
    return os.getppid() == parent

end = time.monotonic() + seconds
while alive() and time.monotonic() < end:
    time.sleep(0.2)
while alive():
    os.kill(parent, signal.SIGALRM)
    for _ in range(75):
        time.sleep(0.2 if alive() else 0)
    for d in directories():
        for top, device in harness.mounts_below(d):
            harness.abort_mount(device)
for d in directories():  # the run itself died: nobody else will clean up
    harness.sweep(d)
    shutil.rmtree(d, ignore_errors=True)
"""


class Timeout(BaseException):
    pass


def _alarm(*_):
    raise Timeout("the test's time is over (a hang has a cause: see the logs)")


def _limit(item):
    mark = item.get_closest_marker("limit")
    seconds = mark.args[0] if mark else LIMIT_SECONDS
    return seconds * (4 if harness.ASAN else 1)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    signal.signal(signal.SIGALRM, _alarm)
    dog = subprocess.Popen([sys.executable, "-c", WATCHDOG, os.path.dirname(__file__),
                            str(os.getpid()), str(_limit(item))])
    try:
        yield
    finally:
        dog.kill()
        dog.wait()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if call.when == "call":
        item.failed_in_call = report.failed
    if report.failed:
        for cluster in live:
            report.sections.append((f"logs of {cluster.dir}", cluster.tails()))


def _open(kind=Cluster, **options):
    cluster = kind(**options)
    with open(f"{cluster.dir}/.run", "w") as f:
        f.write(str(os.getpid()))
    live.append(cluster)
    return cluster


def _close(cluster, strict):
    """What no test may leave behind is an error of that test."""
    problems = []
    try:
        if strict:
            cluster.quiet_down()
    except (Exception, Timeout) as e:
        problems.append(f"taking down: {e}\n{cluster.tails()}")
    problems += cluster.damage()
    keep = bool(os.environ.get("HOLDFAST_KEEP")) and bool(problems or not strict)
    cluster.close(keep=keep)
    live.remove(cluster)
    assert not harness.processes_below(cluster.dir)
    assert not problems, "\n".join(problems)


@pytest.fixture
def make_cluster(request):
    """make_cluster(nodes=3, config={}, node={}, client={}, metadata=..., kind=Cluster): not started
    yet."""
    made = []

    def make(**options):
        made.append(_open(**options))
        return made[-1]

    yield make
    failed = getattr(request.node, "failed_in_call", True)
    for cluster in made:
        _close(cluster, strict=not failed)


@pytest.fixture
def cluster(make_cluster):
    """Three nodes, up."""
    c = make_cluster()
    c.up()
    return c


@pytest.fixture(scope="module")
def shared(request):
    """Three nodes (or what the module's CLUSTER says) and the mount "a", for all tests of a module;
    each works in its own directory."""
    c = _open(**{"client": {"op_timeout": "60s"}, **getattr(request.module, "CLUSTER", {})})
    try:
        c.up()
        c.mount("a")
    except BaseException:
        print(c.tails())
        c.close()
        live.remove(c)
        raise
    yield c
    if c not in live:
        return
    try:
        c.wait_settled()
        c.fsck()
    finally:
        _close(c, strict=True)


@pytest.fixture
def work(shared, request):
    """A new directory in the shared mount."""
    name = "".join(ch if ch.isalnum() else "-" for ch in request.node.name)
    path = os.path.join(shared.mounts["a"], name)
    os.mkdir(path)
    yield path
    problems = shared.damage()
    assert not problems, "\n".join(problems)


@pytest.fixture(params=["root", "user"])
def actor(request, tmp_path_factory):
    """Who works: root, or an ordinary user. actor.run(argv) runs as them."""
    return Actor(request.param, tmp_path_factory.mktemp("home"))


class Actor:
    def __init__(self, name, home):
        self.name = name
        self.uid = None if name == "root" else harness.USER
        self.home = str(home)
        with open(f"{self.home}/.gitconfig", "w") as f:
            f.write("[user]\nname = Test\nemail = test@example.org\n"
                    "[safe]\ndirectory = *\n[init]\ndefaultBranch = main\n")
        p = self.home
        while p != "/" and p != "/tmp" and self.uid:
            os.chmod(p, 0o755)
            p = os.path.dirname(p)
        if self.uid:
            os.chown(self.home, self.uid, self.uid)

    def run(self, *argv, timeout=100, check=True, cwd=None, stdin=None):
        env = {"PATH": os.environ["PATH"], "HOME": self.home, "LANG": "C.UTF-8",
               "GIT_TERMINAL_PROMPT": "0"}
        return harness.run(argv, timeout=timeout, check=check, user=self.uid, env=env,
                           cwd=cwd or "/", stdin=stdin)

    def mkdir(self, path):
        os.mkdir(path)
        if self.uid:
            os.chown(path, self.uid, self.uid)
        return path
