# SPDX-License-Identifier: Apache-2.0
"""One cluster of real daemons and mounts, below a directory of its own, for tests.

    with Cluster() as c:
        c.up()
        mnt = c.mount("a")
        ...

Whatever happens, close() takes away what the cluster started: mounts, processes (only its own,
known by the cluster's directory on their command line), files.
"""
import json
import os
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get("HOLDFAST_BUILD") or os.path.join(TOP, "build"))
WORK = "/var/tmp"
USER = 65534
DAMAGE = re.compile(r"ERROR: (Address|Leak|Thread)Sanitizer|runtime error:|assertion failed")
ASAN = os.path.exists(os.path.join(BUILD, "meson-info", "intro-buildoptions.json")) and any(
    o["name"] == "b_sanitize" and o["value"] not in ("none", [])
    for o in json.load(open(os.path.join(BUILD, "meson-info", "intro-buildoptions.json"))))


def program(name):
    places = {"holdfast": ["holdfast", "client/cli/holdfast"],
              "holdfastd": ["holdfastd", "server/holdfastd"],
              "mount.holdfast": ["mount.holdfast", "client/cli/mount.holdfast"],
              "faultdisk": ["tests/lib/faultdisk/faultdisk"],
              "holdfast-posix": ["tests/posix/holdfast-posix"],
              "holdfast-fsx": ["tests/posix/torture/holdfast-fsx"],
              "holdfast-fsstress": ["tests/posix/torture/holdfast-fsstress"]}[name]
    for place in places:
        path = os.path.join(BUILD, place)
        if os.path.exists(path):
            return path
    raise AssertionError(f"{name} is not in {BUILD}; './dev build' makes it")


class Failed(AssertionError):
    """A command that should have succeeded."""


def run(argv, timeout=60, check=True, user=None, env=None, cwd=None, stdin=None):
    """Run to the end; the result has .out and .err as text."""
    extra = {"user": user, "group": user, "extra_groups": []} if user else {}
    p = subprocess.run([str(a) for a in argv], timeout=timeout, env=env, cwd=cwd, input=stdin,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                       errors="replace", **extra)
    p.out, p.err = p.stdout, p.stderr
    if check and p.returncode != 0:
        raise Failed(f"{' '.join(map(str, argv))}: exit {p.returncode}\n"
                     f"{p.out[-4000:]}\n{p.err[-4000:]}")
    return p


def hf(*args, timeout=60, check=True, **more):
    return run([program("holdfast"), *args], timeout=timeout, check=check, **more)


def processes_below(directory):
    """[(pid, command line)] of live processes that name `directory` on their command line."""
    found = []
    want = os.fsencode(directory)
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as f:
                words = f.read().split(b"\0")
            with open(f"/proc/{entry}/stat") as f:
                state = f.read().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if state not in "ZX" and words and words[0].rsplit(b"/", 1)[-1] in (
                b"holdfast", b"holdfastd", b"mount.holdfast", b"faultdisk") and any(want in w for w in words):
            found.append((int(entry), b" ".join(words).decode(errors="replace")))
    return found


def mounts_below(directory):
    found = []
    with open("/proc/self/mountinfo") as f:
        for line in f:
            top = line.split()[4].encode().decode("unicode_escape")
            if top.startswith(directory + "/"):
                found.append((top, line.split()[2]))
    return found


def abort_mount(device):
    """Every request of a mount fails from here on: nobody hangs in it any more."""
    major, minor = device.split(":")
    if major != "0":  # a disk of a node
        return
    try:
        with open(f"/sys/fs/fuse/connections/{minor}/abort", "w") as f:
            f.write("1")
    except OSError:
        pass


def remember_namespaces(directory, names):
    """Network namespaces of a cluster, noted before they are made: sweep() takes them away."""
    with open(f"{directory}/.netns", "a") as f:
        f.write("".join(name + "\n" for name in names))


def forget_namespaces(directory):
    try:
        with open(f"{directory}/.netns") as f:
            names = f.read().split()
    except FileNotFoundError:
        return
    for name in names:
        if os.path.exists(f"/run/netns/{name}"):
            subprocess.run(["ip", "netns", "del", name], check=False)


def sweep(directory, grace=0.0):
    """End the processes, mounts and namespaces of a cluster directory. Returns what had to be
    killed."""
    end = time.monotonic() + grace
    while processes_below(directory) and time.monotonic() < end:
        time.sleep(0.05)
    killed = processes_below(directory)
    for top, device in mounts_below(directory):
        abort_mount(device)
        subprocess.run(["umount", "-l", top], stderr=subprocess.DEVNULL)
    for pid, _ in killed:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    end = time.monotonic() + 10
    while processes_below(directory) and time.monotonic() < end:
        time.sleep(0.05)
    forget_namespaces(directory)
    return killed


def free_range(count, port):
    """The first of `count` loopback addresses in a row on which `port` is free."""
    for _ in range(200):
        second, third, first = random.randrange(2, 250), random.randrange(250), 11
        taken = False
        for i in range(count):
            with socket.socket() as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    s.bind((f"127.{second}.{third}.{first + i}", port))
                except OSError:
                    taken = True
        if not taken:
            return f"127.{second}.{third}.{first}"
    raise AssertionError("no free loopback addresses")


def wait_for(what, probe, timeout, step=0.05):
    """Call probe() until it is true; returns its value."""
    end = time.monotonic() + timeout
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout} s in vain: {what() if callable(what) else what}")
        time.sleep(step)


class FaultDisk:
    """A mounted `faultdisk` (tests/lib/faultdisk), with its files, socket and log below DIR/NAME*."""

    def __init__(self, directory, name, mountpoint):
        os.makedirs(mountpoint, exist_ok=True)
        self.socket = f"{directory}/{name}.sock"
        with open(f"{directory}/{name}.log", "ab") as log:
            self.process = subprocess.Popen(
                [program("faultdisk"), "serve", f"{directory}/{name}", mountpoint, self.socket],
                stdout=subprocess.PIPE, stderr=log)
        assert self.process.stdout.readline() == b"ready\n", open(log.name).read()

    def ctl(self, *words):
        """As `faultdisk ctl`, without a process: a test cuts three disks within a millisecond."""
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.socket)
            s.sendall(b"".join(str(w).encode() + b"\0" for w in words))
            s.shutdown(socket.SHUT_WR)
            with s.makefile("rb") as f:
                answer = f.read().decode()
        if answer[:1] != "0":
            raise Failed(f"faultdisk: {words}: {answer[1:] or 'it ended'}")
        return json.loads(answer[1:]) if answer[1:] else None

    def power_cut(self, seed=0, mode="random"):
        return self.ctl("power-cut", "--seed", seed, "--mode", mode)

    def restart(self):
        """On a new mount: what had files open on the old one only gets errors."""
        self.ctl("restart")

    def fail(self, op, **options):
        self.ctl("fail", op, *(w for key, value in options.items() for w in (f"--{key}", value)))

    def delay(self, op, ms):
        self.ctl("delay", op, ms)

    def lie(self):
        """From here on a sync says that it succeeded, and does nothing."""
        self.ctl("lie")

    def clear(self):
        self.ctl("clear")

    def stats(self):
        return self.ctl("stats")

    def close(self):
        """Ends it and its mount; what it may still have to serve is to be ended before."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(20)
        self.process.stdout.close()


class Cluster:
    """`config`: top-level keys; `node`: keys of every node; `client`: keys of mounts; `metadata`: how
    many nodes, from the first on, hold the metadata; 3, but with sanitizers, where three cost
    minutes, 1: what is about the three asks for them; `fault_disks`: each node's data directory is
    on a FaultDisk, disks[n], from up() on."""

    enter = ()  # words before every command of a client

    def __init__(self, nodes=3, config=None, node=None, client=None, node_each=None,
                 metadata=1 if ASAN else 3, fault_disks=False):
        self.dir = tempfile.mkdtemp(prefix="holdfast-test-", dir=WORK)
        os.chmod(self.dir, 0o755)
        self.node_count = nodes
        self.metadata = metadata
        self.port = 7400
        self.base = free_range(nodes, self.port)
        self.conf = f"{self.dir}/cluster.conf"
        self.uuid = str(uuid.uuid4())
        self.config = {"copies": min(nodes, 3), "min_copies": 1 if nodes < 2 else 2,
                       **(config or {})}
        self.node = {"segment_size": "64MiB", "reserve": "128MiB", **(node or {})}
        self.node_each = node_each or {}
        self.client = client or {}
        self.mounts = {}
        self.helpers = []
        self.fault_disks = fault_disks
        self.disks = {}
        self.closed = False
        self.write_config()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    # --- configuration

    def address(self, n):
        head, last = self.base.rsplit(".", 1)
        return f"{head}.{int(last) + n - 1}:{self.port}"

    def write_config(self):
        def lines(keys, indent=""):
            for key, value in keys.items():
                if isinstance(value, bool):
                    value = "true" if value else "false"
                elif not isinstance(value, int):
                    value = f'"{value}"'
                yield f"{indent}{key} = {value}\n"

        text = f'cluster = "{self.uuid}"\n' + "".join(lines(self.config))
        for n in range(1, self.node_count + 1):
            keys = {"address": self.address(n), "data": f"{self.dir}/n{n}", "metadata": n <= self.metadata,
                    **self.node, **self.node_each.get(n, {})}
            text += f'node "{n}" {{\n' + "".join(lines(keys, "    ")) + "}\n"
            with open(f"{self.dir}/node{n}.conf", "w") as f:
                f.write(f'this_node = {n}\ninclude("{self.conf}")\n')
        if self.client:
            text += "client {\n" + "".join(lines(self.client, "    ")) + "}\n"
        with open(self.conf, "w") as f:
            f.write(text)

    # --- nodes

    def hf(self, *args, timeout=60, check=True, enter=None, **more):
        """The command, where this cluster's clients are."""
        return run([*(self.enter if enter is None else enter), program("holdfast"), *args],
                   timeout=timeout, check=check, **more)

    def dev(self, verb, *args, timeout=90, check=True, enter=None):
        return self.hf("dev", verb, *args, "--dir", self.dir, timeout=timeout, check=check,
                       cwd=self.dir, enter=enter)

    def up(self):
        for n in range(1, self.node_count + 1):
            if self.fault_disks and n not in self.disks:
                self.disks[n] = FaultDisk(self.dir, f"disk{n}", self.data_dir(n))
        self.dev("up")
        self.wait_healthy()

    def down(self):
        self.dev("down")

    def kill(self, n):
        self.dev("kill", n)

    def stop(self, n):
        self.dev("stop", n)

    def cont(self, n):
        self.dev("cont", n)

    def start(self, n):
        self.dev("start", n)

    def terminate(self, n):
        """SIGTERM, and wait for the end."""
        pid = int(self.read(f"n{n}.pid"))
        os.kill(pid, signal.SIGTERM)
        wait_for(f"node {n} does not stop", lambda: not os.path.exists(f"/proc/{pid}/cmdline") or
                 not open(f"/proc/{pid}/cmdline", "rb").read(), 60)

    def power_cut(self, nodes, seed, mode="random"):
        """The machines of these nodes lose power at one moment. A process that was sent SIGKILL does
        not see that its disk is off: it never returns from the kernel. Its end is waited for only
        afterwards, since it may have to wait for a sync that the cut is to come before."""
        ends = [os.pidfd_open(int(self.read(f"n{n}.pid"))) for n in nodes]
        for end in ends:
            signal.pidfd_send_signal(end, signal.SIGKILL)
        left = {n: self.disks[n].power_cut(seed + n, mode) for n in nodes}
        for end in ends:
            assert select.select([end], [], [], 20)[0], "a process does not end"
            os.close(end)
        return left

    def power_on(self, nodes):
        for n in nodes:
            self.disks[n].restart()
        for n in nodes:
            self.start(n)

    def data_dir(self, n):
        return f"{self.dir}/n{n}"

    def store_file_bytes(self, n):
        """What the segment files of a node take on its disk."""
        total = 0
        for top, _, files in os.walk(f"{self.data_dir(n)}/store"):
            for name in files:
                try:
                    total += os.stat(f"{top}/{name}").st_blocks * 512
                except FileNotFoundError:  # recycled meanwhile
                    pass
        return total

    def read(self, name):
        with open(f"{self.dir}/{name}", errors="replace") as f:
            return f.read()

    # --- looking

    def status(self, check=True):
        p = self.hf("status", "--json", "--config", self.conf, check=check, timeout=30)
        return json.loads(p.out) if p.returncode == 0 else None

    def node_status(self, n, status=None):
        return next(o for o in (status or self.status())["nodes"] if o["id"] == n)

    def wait_status(self, what, probe, timeout=60):
        last = [None]

        def once():
            last[0] = self.status(check=False)
            return last[0] is not None and probe(last[0]) and last[0]

        return wait_for(lambda: f"{what}; status: {json.dumps(last[0], indent=1)}", once, timeout,
                        0.1)

    def wait_healthy(self, timeout=60):
        """All nodes up."""
        return self.wait_status("all nodes up", lambda s: all(
            n["state"] == "up" for n in s["nodes"]) and len(s["nodes"]) == self.node_count, timeout)

    def wait_copied(self, timeout=90):
        """All nodes up, and every object has all its copies."""
        return self.wait_status("every copy made", lambda s: all(
            n["state"] == "up" and n["lacking"] == 0 for n in s["nodes"])
            and s["metadata"]["degraded"] == 0 and s["metadata"]["copy_left"] == 0, timeout)

    def wait_drained(self, timeout=90):
        """Nothing left to purge or delete: what the stores hold is what the metadata names."""
        return self.wait_status("nothing to delete", lambda s: all(
            s["metadata"][k] == 0 for k in ("dead", "purging", "degraded")), timeout)

    def wait_settled(self, timeout=90):
        """Drained, and each store holds exactly the objects that the metadata names (with as many
        nodes as copies)."""
        self.wait_drained(timeout)
        return self.wait_status("objects stored to be those named", lambda s: all(
            n.get("stats", {}).get("objects") == s["metadata"]["objects"] for n in s["nodes"]),
            timeout)

    def verify(self, path, check=True):
        p = self.hf("verify", path, "--json", check=False, timeout=600)
        assert p.out, p.err
        report = json.loads(p.out)
        if check:
            assert p.returncode == 0 and report["clean"], json.dumps(report, indent=1)[:4000]
        return report

    def info(self, path):
        return json.loads(self.hf("info", path, "--json").out)

    def fsck(self):
        p = self.hf("fsck", "--json", "--config", self.conf, check=False, timeout=300)
        assert p.returncode == 0, f"fsck: exit {p.returncode}\n{p.out}\n{p.err}"

    # --- the metadata's nodes

    def meta(self, n):
        """What a metadata node says about itself; None: it does not answer."""
        p = self.hf("meta", "status", "--json", "--node", n, "--config", self.conf, check=False)
        return json.loads(p.out) if p.returncode == 0 else None

    def meta_all(self):
        return json.loads(self.hf("meta", "status", "--json", "--config", self.conf,
                                  check=False).out)

    def leader(self):
        """The number of the node that leads, or None."""
        return self.meta_all()["leader"]

    def wait_leader(self, but=(), timeout=20):
        return wait_for(lambda: f"a leader; {json.dumps(self.meta_all(), indent=1)}",
                        lambda: (n := self.leader()) not in but and n, timeout, 0.1)

    def wait_voters(self, voters=None, timeout=60):
        """These nodes, and no others, are voters; each is heard, votes, and is as far as the leader
        was."""
        want = sorted(voters or range(1, self.metadata + 1))
        last = [None]

        def whole(m):
            return (m["kind"] == "voter" and not m.get("abstaining") and
                    not m.get("snapshotting") and m.get("digest_ok", True) and
                    m.get("match", 0) >= last[0]["index"]["commit"])

        def probe():
            last[0] = self.meta_all()
            members = last[0].get("members", [])
            return (last[0]["leader"] and sorted(m["node"] for m in members) == want and
                    all(whole(m) for m in members if m["node"] != last[0]["leader"]) and
                    all("error" not in n for n in last[0]["nodes"] if n["node"] in want))

        wait_for(lambda: f"voters {want}; {json.dumps(last[0], indent=1)}", probe, timeout, 0.2)

    def wait_digests(self, voters=None, timeout=60):
        """The replicas' digests at one and the same entry, from each node itself, are equal. Two
        that differ at any entry fail at once."""
        want = sorted(voters or range(1, self.metadata + 1))
        seen = {}  # entry -> {node: digest}

        def probe():
            for n in want:
                digest = (self.meta(n) or {}).get("digest") or {}
                if digest.get("index"):
                    at = seen.setdefault(digest["index"], {})
                    at[n] = digest["value"]
                    assert len(set(at.values())) == 1, \
                        f"replicas differ at entry {digest['index']}: {at}"
            return any(len(at) == len(want) for at in seen.values())

        wait_for(lambda: f"digests of nodes {want} at one entry; {seen}", probe, timeout, 0.2)

    # --- mounts

    def mount(self, name="a", opts=None, check=True):
        top = f"{self.dir}/mnt-{name}"
        os.makedirs(top, exist_ok=True)
        argv = ["mount", "--config", self.conf, "--log", f"{self.dir}/mnt-{name}.log", top]
        p = self.hf(*argv, *(["-o", opts] if opts else []), check=check, cwd=self.dir)
        if p.returncode == 0:
            self.mounts[name] = top
        return top if check else p

    def mount_pid(self, name="a"):
        top = f"{self.dir}/mnt-{name}"
        pids = [pid for pid, line in processes_below(top) if " mount " in line]
        assert len(pids) == 1, f"processes of mount {name}: {pids}"
        return pids[0]

    def umount(self, name="a", lazy=False, timeout=120):
        top = self.mounts.pop(name)
        hf("umount", top, *(["--lazy"] if lazy else []), timeout=timeout)

    def kill_mount(self, name="a"):
        """SIGKILL, as when the machine dies; the dead mount is taken away."""
        top = self.mounts.pop(name)
        pid = self.mount_pid(name)
        os.kill(pid, signal.SIGKILL)
        wait_for("the mount's end", lambda: not [p for p, _ in processes_below(top)], 20)
        run(["umount", "-l", top])

    @staticmethod
    def name_it(fd, path):
        """Gives an O_TMPFILE file a name; with src_dir_fd os.link() calls linkat(), which follows."""
        top = os.open(os.path.dirname(path), os.O_RDONLY)
        try:
            os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=top)
        finally:
            os.close(top)

    def remount(self, name="a", opts=None):
        self.umount(name)
        return self.mount(name, opts)

    def flush(self, name="a"):
        hf("flush", "--wait", self.mounts[name], timeout=120)

    # --- helpers: processes that work inside a mount while the test breaks things

    def spawn(self, script, *args, user=None):
        """A Python script of this directory, its lines of stdout in a file (see lines())."""
        n = len(self.helpers)
        extra = {"user": user, "group": user, "extra_groups": []} if user else {}
        out = open(f"{self.dir}/helper{n}.out", "wb")
        err = open(f"{self.dir}/helper{n}.err", "wb")
        p = subprocess.Popen([sys.executable, os.path.join(os.path.dirname(__file__), script),
                              *map(str, args)], stdout=out, stderr=err, stdin=subprocess.PIPE,
                             **extra)
        out.close()
        err.close()
        p.log = f"{self.dir}/helper{n}"
        self.helpers.append(p)
        return p

    @staticmethod
    def lines(helper):
        with open(helper.log + ".out") as f:
            return [line for line in f.read().split("\n")[:-1]]

    @staticmethod
    def finish(helper, timeout=60):
        """Ask a helper to end by closing its stdin, and wait."""
        helper.stdin.close()
        code = helper.wait(timeout)
        with open(helper.log + ".err") as f:
            err = f.read()
        assert code == 0, f"helper: exit {code}: {err[-3000:]}"
        return Cluster.lines(helper)

    # --- the end

    def logs(self):
        return sorted(os.path.join(self.dir, f) for f in os.listdir(self.dir)
                      if f.endswith((".log", ".err")))

    def damage(self):
        """Lines of any log that no run may leave."""
        found = []
        for log in self.logs():
            with open(log, errors="replace") as f:
                lines = f.read().split("\n")
            for i, line in enumerate(lines):
                if DAMAGE.search(line):
                    found.append(f"{log}: " + "\n    ".join(lines[i:i + 40]))
                    break
        found += [os.path.join(self.dir, f) for f in os.listdir(self.dir)
                  if re.fullmatch(r"core(\.\d+)?", f)]
        return found

    def tails(self, lines=30):
        text = []
        for log in self.logs():
            with open(log, errors="replace") as f:
                text.append(f"--- {os.path.basename(log)}\n" + "".join(f.readlines()[-lines:]))
        return "\n".join(text)

    def quiet_down(self):
        """End everything as a user would; anything that does not go is an error."""
        for helper in self.helpers:
            if helper.poll() is None:
                helper.kill()
            helper.wait()
        for n in range(1, self.node_count + 1):
            if os.path.exists(f"{self.dir}/n{n}.pid"):
                self.dev("cont", n, check=False)
        for name in list(self.mounts):
            self.umount(name, timeout=90)
        left = [line for _, line in processes_below(self.dir) if " mount " in line]
        assert not left, f"mounts that did not end: {left}"
        if any("faultdisk" not in line for _, line in processes_below(self.dir)):
            self.down()
        for disk in self.disks.values():
            disk.close()
        left = processes_below(self.dir)
        assert not left, f"processes that did not end: {left}"

    def close(self, keep=False):
        if self.closed:
            return
        self.closed = True
        for helper in self.helpers:
            if helper.poll() is None:
                helper.kill()
        sweep(self.dir)
        for helper in self.helpers:
            helper.wait()
        for disk in self.disks.values():
            disk.close()
        if not keep:
            shutil.rmtree(self.dir, ignore_errors=True)


class Killer(threading.Thread):
    """Kills one node after another, the leader first, and starts it again."""

    def __init__(self, cluster, every):
        super().__init__(daemon=True)
        self.cluster, self.every = cluster, every
        self.over = threading.Event()
        self.kills, self.error = 0, None

    def run(self):
        try:
            while not self.over.wait(self.every):
                node = self.cluster.wait_leader() if self.kills % 2 == 0 else 1 + self.kills % 3
                self.cluster.kill(node)
                self.over.wait(2)
                self.cluster.start(node)
                self.kills += 1
        except Exception as e:  # noqa: BLE001  (told to the test)
            self.error = e

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join(60)
