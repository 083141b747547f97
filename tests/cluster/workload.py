# SPDX-License-Identifier: Apache-2.0
"""A verifying workload: it works in a mount while failures happen, and keeps a list, outside the
mount, of what was acknowledged.

    workload.py run DIR LIST SEED    work below DIR (made) until stdin closes, or --seconds
    workload.py verify DIR LIST      through any mount: is all of it there, and nothing else?

The list has one JSON object a line. {"begin": N, "op", "args", "at"} is written before a call,
{"ok": N, "ms": {step: time}} after it has returned (files: after fsync and close), {"failed": N,
"errno"} after an error, which leaves open whether it was applied. Times are of the system's
monotonic clock. Content follows from seed, the path a file was born under, and its generation.

Each worker has a directory of its own, so its operations have one order; what an open operation
touched is never touched again, so that at the end each path is in one state, or in one of the two
around the one operation that is open.

"pulse" makes, renames and removes empty files without a rest, and "reader" reads files that it
holds open (past the kernel's cache): they show how long the cluster pauses.
"""
import argparse
import errno
import hashlib
import json
import os
import random
import select
import sys
import threading
import time

BLOCK = 4096
SLOW_MS = 500
FILES_MAX = 200  # of one worker
KNOWN = 12
KNOWN_BYTES = 192 << 10


def bytes_of(key, offset, length):
    """The bytes [offset, offset + length) of the endless content `key`."""
    out = bytearray()
    first = offset // BLOCK
    for block in range(first, (offset + length + BLOCK - 1) // BLOCK):
        out += hashlib.shake_128(f"{key}:{block}".encode()).digest(BLOCK)
    return bytes(out[offset - first * BLOCK:][:length])


# --- the list


class List:
    """The acknowledged list, written: one line a write, so that it is whole whenever we end."""

    def __init__(self, path, seed):
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        self.lock = threading.Lock()
        self.next = 0
        self.acknowledged = 0
        self.unexpected = []
        self.longest = {}
        self.write({"workload": 1, "seed": seed, "wall_minus_monotonic":
                    time.time() - time.monotonic()})

    def write(self, record):
        line = (json.dumps(record) + "\n").encode()
        assert os.write(self.fd, line) == len(line)

    def begin(self, op, args):
        with self.lock:
            self.next += 1
            number = self.next
            self.write({"begin": number, "op": op, "args": args,
                        "at": round(time.monotonic(), 4)})
        return number

    def ok(self, number, steps):
        with self.lock:
            self.acknowledged += 1
            self.write({"ok": number, "ms": steps})
            self.note(steps)

    def failed(self, number, name, expected, steps, what):
        with self.lock:
            self.write({"failed": number, "errno": name, "expected": expected, "ms": steps})
            self.note(steps)
            if not expected:
                self.unexpected.append(f"{what}: {name}")

    def wrong(self, what):
        with self.lock:
            self.write({"wrong": what, "at": round(time.monotonic(), 4)})
            self.unexpected.append(what)

    def timed(self, step, at, ms):
        """A step that changes nothing: only its time counts."""
        with self.lock:
            self.write({"timed": step, "at": round(at, 4), "ms": {step: ms}})
            self.note({step: ms})

    def note(self, steps):
        for step, ms in steps.items():
            self.longest[step] = max(self.longest.get(step, 0), ms)


def records(path):
    """Every whole line of a list; the last one may be torn when its writer was killed."""
    with open(path, "rb") as f:
        for line in f.read().split(b"\n")[:-1]:
            yield json.loads(line)


class Times:
    """What a list tells about time. [(step, begin, ms)]"""

    def __init__(self, path):
        self.steps = []
        begun = {}
        for r in records(path):
            if "begin" in r:
                begun[r["begin"]] = r["at"]
                continue
            at = r.get("at") or begun.get(r.get("ok") or r.get("failed"))
            for step, ms in r.get("ms", {}).items():
                self.steps.append((step, at, ms))

    def longest(self, names, since=0.0, until=float("inf")):
        """The longest of these steps, in ms, that was under way between two times."""
        return max((ms for step, at, ms in self.steps if step in names and
                    at + ms / 1000 >= since and at <= until), default=0)

    def slow(self, ms_min=SLOW_MS):
        return [(step, at, ms) for step, at, ms in self.steps if ms > ms_min]


METADATA = ("create", "rename", "unlink", "mkdir")
READS = ("read",)


# --- working


class Clock:
    """Times the steps of one operation."""

    def __init__(self):
        self.ms = {}

    def __call__(self, step, call, *args):
        start = time.monotonic()
        try:
            return call(*args)
        finally:
            ms = round((time.monotonic() - start) * 1000, 1)
            self.ms[step] = max(self.ms.get(step, 0), ms)


def write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]


class Worker:
    def __init__(self, run, name):
        self.run, self.name = run, name
        self.random = random.Random(f"{run.seed}/{name}")
        self.files = {}  # path -> [key, size]
        self.dirs = [name]
        self.count = 0

    def path(self, name):
        return os.path.join(self.run.top, name)

    def do(self, op, args, steps):
        """One operation. True: acknowledged. Otherwise its paths are not to be touched again."""
        clock = Clock()
        number = self.run.list.begin(op, args)
        try:
            steps(clock)
        except OSError as e:
            name = errno.errorcode.get(e.errno, str(e.errno))
            self.run.list.failed(number, name, name in self.run.expect, clock.ms,
                                 f"{op} {args}")
            return False
        self.run.list.ok(number, clock.ms)
        return True

    def new_name(self):
        self.count += 1
        return f"{self.random.choice(self.dirs)}/{self.count:06}"

    def create(self, size=None):
        name = self.new_name()
        key = f"{self.run.seed}/{name}/{self.count}"
        if size is None:
            size = self.random.choice((0, 1, 700, 4096, 5000, 20_000, 33_000, 300_000, 1_500_000))

        def steps(clock):
            fd = clock("create", os.open, self.path(name),
                       os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            try:
                clock("write", write_all, fd, bytes_of(key, 0, size))
                clock("fsync", os.fsync, fd)
            finally:
                clock("close", os.close, fd)

        if self.do("create", [name, key, size], steps):
            self.files[name] = [key, size]
        return name

    def append(self):
        name = self.random.choice(list(self.files))
        key, size = self.files[name]
        more = self.random.choice((1, 300, 4096, 10_000, 70_000))

        def steps(clock):
            fd = clock("open", os.open, self.path(name), os.O_WRONLY | os.O_APPEND)
            try:
                clock("write", write_all, fd, bytes_of(key, size, more))
                clock("fsync", os.fsync, fd)
            finally:
                clock("close", os.close, fd)

        if self.do("append", [name, more], steps):
            self.files[name][1] += more
        else:
            del self.files[name]

    def rename(self):
        old = self.random.choice(list(self.files))
        others = [n for n in self.files if n != old]
        new = self.random.choice(others) if others and self.random.random() < .3 \
            else self.new_name()
        moved = self.files.pop(old)
        self.files.pop(new, None)
        if self.do("rename", [old, new], lambda clock: clock("rename", os.rename, self.path(old),
                                                             self.path(new))):
            self.files[new] = moved

    def unlink(self):
        name = self.random.choice(list(self.files))
        del self.files[name]
        self.do("unlink", [name], lambda clock: clock("unlink", os.unlink, self.path(name)))

    def mkdir(self):
        self.count += 1
        name = f"{self.name}/d{self.count}"
        if self.do("mkdir", [name], lambda clock: clock("mkdir", os.mkdir, self.path(name))):
            self.dirs.append(name)

    def step(self):
        choice = self.random.random()
        if not self.files or choice < .35:
            self.create()
        elif choice < .6:
            self.append()
        elif choice < .8:
            self.rename()
        elif choice < .83 and len(self.dirs) < 20:
            self.mkdir()
        elif choice < .9 or len(self.files) > FILES_MAX:
            self.unlink()
        while len(self.files) > FILES_MAX:
            self.unlink()

    def work(self):
        while not self.run.over.is_set():
            self.step()
            self.run.over.wait(self.run.rest)


class Pulse(Worker):
    def step(self):
        name = self.new_name()
        if not self.do("create", [name, "", 0], lambda clock: os.close(clock(
                "create", os.open, self.path(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))):
            return
        new = name + "-renamed"
        if self.do("rename", [name, new], lambda clock: clock("rename", os.rename, self.path(name),
                                                              self.path(new))):
            self.do("unlink", [new], lambda clock: clock("unlink", os.unlink, self.path(new)))


class Reader(Worker):
    def begin(self):
        """Files that are read from here on, and never changed."""
        self.open = []
        for _ in range(KNOWN):
            name = self.create(KNOWN_BYTES)
            if name in self.files:
                self.open.append((name, os.open(self.path(name), os.O_RDONLY)))

    def step(self):
        name, fd = self.random.choice(self.open)
        offset = self.random.randrange(KNOWN_BYTES // BLOCK) * BLOCK
        length = min(16 * BLOCK, KNOWN_BYTES - offset)
        clock = Clock()
        at = time.monotonic()
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            data = clock("read", os.pread, fd, length, offset)
        except OSError as e:
            if errno.errorcode.get(e.errno) not in self.run.expect:
                self.run.list.wrong(f"read {name} at {offset}: {e}")
        else:
            if data != bytes_of(self.files[name][0], offset, length):
                self.run.list.wrong(f"read {name} at {offset}: {len(data)} wrong bytes")
        self.run.list.timed("read", at, clock.ms.get("read", 0))


class Run:
    def __init__(self, top, list_path, seed, workers=3, rest=0.005, expect=()):
        self.top, self.seed, self.rest, self.expect = top, seed, rest, set(expect)
        self.list = List(list_path, seed)
        self.over = threading.Event()
        self.workers = [Worker(self, f"w{i}") for i in range(workers)]
        self.workers += [Pulse(self, "pulse"), Reader(self, "known")]

    def prepare(self):
        os.makedirs(self.top)
        for w in self.workers:
            assert w.do("mkdir", [w.name], lambda clock, w=w: clock(
                "mkdir", os.mkdir, w.path(w.name)))
        self.workers[-1].begin()

    def guarded(self, worker):
        try:
            worker.work()
        except BaseException as e:  # a defect of this program must not pass for silence
            self.list.wrong(f"worker {worker.name}: {e!r}")
            raise

    def go(self, seconds):
        threads = [threading.Thread(target=self.guarded, args=(w,)) for w in self.workers]
        for t in threads:
            t.start()
        print("begun", flush=True)
        if seconds:
            time.sleep(seconds)
        else:
            select.select([sys.stdin], [], [])
        self.over.set()
        for t in threads:
            t.join()
        self.list.write({"end": self.list.acknowledged, "longest_ms": self.list.longest})


# --- verifying


class File:
    """[0, size) are acknowledged; up to size_max may follow, each byte as planned, or 0."""

    def __init__(self, key, size, size_max=None):
        self.key, self.size, self.size_max = key, size, size_max or size

    def problem(self, path):
        """None, or what is wrong with the file there."""
        with open(path, "rb", buffering=0) as f:
            data = f.readall()
        if not self.size <= len(data) <= self.size_max:
            want = self.size if self.size == self.size_max else f"{self.size} to {self.size_max}"
            return f"{len(data)} bytes, not {want}"
        want = bytes_of(self.key, 0, len(data))
        if data[:self.size] != want[:self.size]:
            at = next(i for i in range(self.size) if data[i] != want[i])
            kind = "zeroes" if not any(data[at:at + 512]) else "other bytes"
            return f"differs at offset {at} of {len(data)}: {kind}"
        for i in range(self.size, len(data)):
            if data[i] not in (want[i], 0):
                return f"garbage at offset {i}, in what was not acknowledged"
        return None


class Model:
    """What a list says must be there."""

    def __init__(self, path):
        self.files = {}    # path -> File
        self.dirs = set()
        self.choices = []  # [{path: File, None (absent) or "dir"}]: one of them is true
        self.acknowledged = self.open = 0
        self.wrong = []
        pending = {}
        for r in records(path):
            if "begin" in r:
                pending[r["begin"]] = r
            elif "ok" in r:
                self.apply(pending.pop(r["ok"]))
                self.acknowledged += 1
            elif "failed" in r:
                begin = pending.pop(r["failed"])
                if not r["expected"]:
                    self.wrong.append(f"{begin['op']} {begin['args']} failed: {r['errno']}")
                self.branch(begin)
            elif "wrong" in r:
                self.wrong.append(r["wrong"])
        for begin in pending.values():
            self.branch(begin)

    def apply(self, r):
        a = r["args"]
        if r["op"] == "create":
            assert a[0] not in self.files
            self.files[a[0]] = File(a[1], a[2])
        elif r["op"] == "append":
            f = self.files[a[0]]
            self.files[a[0]] = File(f.key, f.size + a[1])
        elif r["op"] == "rename":
            self.files[a[1]] = self.files.pop(a[0])
        elif r["op"] == "unlink":
            del self.files[a[0]]
        elif r["op"] == "mkdir":
            self.dirs.add(a[0])
        else:
            raise AssertionError(r)

    def branch(self, r):
        """An operation that may have been applied, or not."""
        a = r["args"]
        self.open += 1
        if r["op"] == "create":
            self.choices.append([{a[0]: None}, {a[0]: File(a[1], 0, a[2])}])
        elif r["op"] == "append":
            f = self.files.pop(a[0])
            self.choices.append([{a[0]: File(f.key, f.size, f.size + a[1])}])
        elif r["op"] == "rename":
            f, over = self.files.pop(a[0]), self.files.pop(a[1], None)
            self.choices.append([{a[0]: f, a[1]: over}, {a[0]: None, a[1]: f}])
        elif r["op"] == "unlink":
            self.choices.append([{a[0]: self.files.pop(a[0])}, {a[0]: None}])
        elif r["op"] == "mkdir":
            self.choices.append([{a[0]: None}, {a[0]: "dir"}])


def state_problem(path, want, there):
    """None, or how `path` differs from the state it should be in."""
    if want is None:
        return "is there, and should not be" if there else None
    if not there:
        return "is missing"
    if want == "dir":
        return None if there == "dir" else "is not a directory"
    if there != "file":
        return "is not a file"
    try:
        return want.problem(path)
    except OSError as e:
        return f"cannot be read: {e.strerror}"


def tree(top):
    found = {}

    def failed(e):
        raise e

    for where, dirs, names in os.walk(top, onerror=failed):
        for name in dirs + names:
            path = os.path.join(where, name)
            found[os.path.relpath(path, top)] = "dir" if os.path.isdir(path) else "file"
    return found


def verify(top, list_path):
    """(problems, figures): every acknowledged file has its content, and nothing else is there."""
    model = Model(list_path)
    there = tree(top)
    problems = [f"during the run: {w}" for w in model.wrong]
    explained = set(model.dirs) | set(model.files)
    wants = {**{d: "dir" for d in model.dirs}, **model.files}
    for name, want in sorted(wants.items()):
        p = state_problem(os.path.join(top, name), want, there.get(name))
        if p:
            problems.append(f"{name}: {p}")
    for choice in model.choices:
        explained |= set(choice[0])
        reasons = []
        for state in choice:
            reasons.append([f"{n}: {p}" for n, want in state.items() if (
                p := state_problem(os.path.join(top, n), want, there.get(n)))])
        if all(reasons):
            problems.append("in no state that an open operation explains: " + " or ".join(
                "; ".join(r) for r in reasons))
    problems += [f"{name}: nobody made it" for name in sorted(set(there) - explained)]
    figures = {"acknowledged": model.acknowledged, "open": model.open, "files": len(model.files),
               "dirs": len(model.dirs)}
    return problems, figures


# --- for tests


class Workload:
    """The workload as a process of its own on a mount of a cluster of the harness."""

    def __init__(self, cluster, mount, seed=1, name=None, **options):
        name = name or f"load{len(cluster.helpers)}"
        self.cluster, self.name = cluster, name
        self.top = os.path.join(mount, name)
        self.list = f"{cluster.dir}/{name}.list"
        words = [w for key, value in options.items() for w in (f"--{key}", value)]
        self.process = cluster.spawn("workload.py", "run", self.top, self.list, seed, *words)
        self.go_on(20)

    def acknowledged(self):
        if not os.path.exists(self.list):
            return 0
        with open(self.list, "rb") as f:
            return f.read().count(b'{"ok"')

    def alive(self):
        with open(self.process.log + ".err") as f:
            assert self.process.poll() is None, f"the workload ended: {f.read()[-2000:]}"

    def go_on(self, more=20, timeout=60):
        """It gets `more` further operations acknowledged."""
        goal = self.acknowledged() + more
        end = time.monotonic() + timeout
        while self.acknowledged() < goal:
            self.alive()
            assert time.monotonic() < end, \
                f"{self.acknowledged()} operations acknowledged after {timeout} s, not {goal}"
            time.sleep(0.1)

    def stands(self, seconds):
        """Nothing is acknowledged for so long."""
        before = self.acknowledged()
        time.sleep(seconds)
        self.alive()
        assert self.acknowledged() == before, "something was acknowledged"

    def finish(self, timeout=150):
        """End it; errors that it met fail here. Returns its Times."""
        self.cluster.finish(self.process, timeout)
        return Times(self.list)

    def check(self, mount):
        """Through that mount, all that was acknowledged is there. Returns the figures."""
        problems, figures = verify(os.path.join(mount, self.name), self.list)
        assert not problems, f"{len(problems)} problems: " + "\n".join(problems[:30])
        return figures


# --- the command


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run")
    run.add_argument("dir")
    run.add_argument("list")
    run.add_argument("seed")
    run.add_argument("--workers", type=int, default=3)
    run.add_argument("--rest", type=float, default=0.005, help="seconds between operations")
    run.add_argument("--seconds", type=float, default=0, help="0: until stdin closes")
    run.add_argument("--expect", default="", help="errors that may come: EIO,ENOSPC")
    check = verbs.add_parser("verify")
    check.add_argument("dir")
    check.add_argument("list")
    args = parser.parse_args()
    if args.verb == "run":
        r = Run(args.dir, args.list, args.seed, args.workers, args.rest,
                [e for e in args.expect.split(",") if e])
        r.prepare()
        r.go(args.seconds)
        print(json.dumps({"acknowledged": r.list.acknowledged, "longest_ms": r.list.longest}))
        for step, at, ms in Times(args.list).slow():
            print(f"slow: {step} at {at:.3f} took {ms:.0f} ms")
        problems = r.list.unexpected
    else:
        problems, figures = verify(args.dir, args.list)
        print(json.dumps(figures))
    for p in problems[:100]:
        print(p, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
