# SPDX-License-Identifier: Apache-2.0
"""Real programs on real input, in a mount over three stores, as root and as an ordinary user."""
import os
import shutil
import sqlite3

import pytest

import content
import harness
from harness import TOP, run


@pytest.fixture(scope="module")
def shared(request):
    """As conftest's, but with small segments, so that space comes back in small steps."""
    from conftest import _close, _open, live
    c = _open(node={"segment_size": "16MiB"})
    try:
        c.up()
        c.mount("a")
    except BaseException:
        print(c.tails())
        c.close()
        live.remove(c)
        raise
    yield c
    try:
        c.flush("a")
        c.verify(c.mounts["a"])
        c.wait_settled()
        c.fsck()
    finally:
        _close(c, strict=True)


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    """This project as a repository that anybody may clone."""
    path = tmp_path_factory.mktemp("origin")
    p = str(path)
    while p != "/tmp" and p != "/":
        os.chmod(p, 0o755)
        p = os.path.dirname(p)
    repo = f"{path}/holdfast.git"
    env = {**os.environ, "HOME": str(path)}
    with open(f"{path}/.gitconfig", "w") as f:
        f.write("[safe]\ndirectory = *\n[user]\nname = T\nemail = t@example.org\n")
    p = run(["git", "-C", TOP, "rev-parse", "HEAD"], check=False, env=env)
    if p.returncode == 0:
        run(["git", "clone", "-q", "--bare", TOP, repo], env=env)
    else:  # a tree without its history
        shutil.copytree(TOP, f"{path}/tree", ignore=shutil.ignore_patterns("build*"))
        for argv in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "tree"]):
            run(["git", "-C", f"{path}/tree", *argv], env=env)
        run(["git", "clone", "-q", "--bare", f"{path}/tree", repo], env=env)
    return repo


@pytest.fixture
def place(shared, work, actor):
    """A directory in the mount that belongs to the actor."""
    return actor.mkdir(f"{work}/place")


def test_git_clone_commit_fsck_and_gc(place, actor, origin, shared):
    repo = f"{place}/repo"
    actor.run("git", "clone", "-q", f"file://{origin}", repo)
    actor.run("git", "-C", repo, "fsck", "--strict")
    for i in range(10):
        path = f"{repo}/file{i}"
        actor.run("sh", "-c", f"seq {i * 1000} {i * 1000 + 5000} >{path}")
        actor.run("git", "-C", repo, "add", "-A")
        actor.run("git", "-C", repo, "commit", "-q", "-m", f"number {i}")
    actor.run("git", "-C", repo, "gc", "-q", "--prune=now")
    actor.run("git", "-C", repo, "fsck", "--strict")
    assert actor.run("git", "-C", repo, "status", "--porcelain").out == ""
    assert actor.run("git", "-C", repo, "diff", "--stat", "HEAD").out == ""
    if "b" not in shared.mounts:
        shared.mount("b")
    there = repo.replace(shared.mounts["a"], shared.mounts["b"], 1)
    actor.run("git", "-C", there, "fsck", "--strict")
    assert actor.run("git", "-C", there, "status", "--porcelain").out == ""


def _build(actor, place, origin, targets, suites):
    repo = f"{place}/repo"
    actor.run("git", "clone", "-q", f"file://{origin}", repo)
    actor.run("meson", "setup", f"{repo}/build", repo, cwd=repo)
    actor.run("ninja", "-C", f"{repo}/build", *targets, timeout=900)
    p = actor.run("meson", "test", "-C", f"{repo}/build", "--no-rebuild", "--print-errorlogs",
                  *suites, timeout=600, check=False)
    assert p.returncode == 0, p.out[-6000:]
    again = actor.run("ninja", "-C", f"{repo}/build", *targets)
    assert "no work to do" in again.out, "times and contents are stable"


@pytest.mark.slow
@pytest.mark.limit(1500)
def test_this_project_built_and_its_unit_tests_run_inside_the_mount(place, actor, origin):
    _build(actor, place, origin, [], ["--suite", "unit"])


def test_a_part_of_this_project_built_inside_the_mount(place, actor, origin):
    repo = f"{place}/repo"
    actor.run("git", "clone", "-q", f"file://{origin}", repo)
    sources = ["common/base/assert.c", "common/base/buf.c", "common/base/err.c",
               "common/base/ids.c", "common/log/log.c"]
    with open(f"{repo}/Makefile", "w") as f:
        objects = " ".join(s.replace("/", "_")[:-2] + ".o" for s in sources)
        f.write(f"libpart.a: {objects}\n\tar rcs $@ $^\n")
        for s in sources:
            o = s.replace("/", "_")[:-2] + ".o"
            f.write(f"{o}: {s}\n\tgcc -std=gnu17 -g -O1 -I. -c -o $@ $<\n")
    os.chown(f"{repo}/Makefile", actor.uid or 0, actor.uid or 0)
    actor.run("make", "-s", "-j2", "-C", repo)
    assert "hf_err_text" in actor.run("nm", f"{repo}/libpart.a").out
    assert "up to date" in actor.run("make", "-C", repo).out


def _some_of(directory, files_max):
    """Entries of `directory` with at most `files_max` files in and below them."""
    picked, count = [], 0
    for name in sorted(os.listdir(directory)):
        path = os.path.join(directory, name)
        inside = sum(len(f) for _, _, f in os.walk(path)) if os.path.isdir(path) else 1
        if count + inside <= files_max:
            picked.append(path)
            count += inside
    return picked, count


def test_files_of_usr_copied_with_cp_compare_equal_with_rsync(place, actor, shared):
    names, count = _some_of("/usr/include", 2500)
    assert count > 1000
    actor.run("cp", "-a", *names, place)
    compare = ["rsync", "-a", "--checksum", "--dry-run", "--itemize-changes"]
    if actor.uid:
        compare += ["--no-owner", "--no-group"]
    compare += [*names, place + "/"]
    assert actor.run(*compare).out == ""
    shared.remount("a")
    assert actor.run(*compare).out == ""
    assert sum(len(files) for _, _, files in os.walk(place)) > 1000


def _sqlite(actor, path, transactions):
    code = f"""
import sqlite3
db = sqlite3.connect({path!r}, isolation_level=None)
db.execute("create table t (id integer primary key, text text)")
db.execute("create index i on t (text)")
for i in range({transactions}):
    db.execute("insert into t values (?, ?)", (i, "row %d " % i * (i % 20)))
    if i % 10 == 9:
        db.execute("update t set text = ? where id = ?", ("changed %d" % i, i - 5))
print(db.execute("pragma integrity_check").fetchall())
"""
    assert actor.run("/usr/bin/python3", "-c", code, timeout=600).out == "[('ok',)]\n"


def _sqlite_check(path, transactions):
    db = sqlite3.connect(path)
    assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
    assert db.execute("select count(*), sum(id) from t").fetchall() == [
        (transactions, transactions * (transactions - 1) // 2)]
    assert db.execute("select count(*) from t where text like 'changed%'").fetchall() == [
        (transactions // 10,)]
    db.close()


def test_sqlite_transactions_and_integrity_check(place, actor, shared):
    _sqlite(actor, f"{place}/db", 1000)
    _sqlite_check(f"{place}/db", 1000)
    shared.remount("a")
    _sqlite_check(f"{place}/db", 1000)


@pytest.mark.slow
@pytest.mark.limit(600)
def test_sqlite_10000_transactions(place, actor, shared):
    _sqlite(actor, f"{place}/db", 10_000)
    shared.remount("a")
    _sqlite_check(f"{place}/db", 10_000)


def _big_file(shared, place, size):
    sha = content.write_file(f"{place}/big", 4, size)
    if "b" not in shared.mounts:
        shared.mount("b")
    there = f"{place}/big".replace(shared.mounts["a"], shared.mounts["b"], 1)
    assert content.sha256_file(there) == sha
    shared.verify(there)
    os.unlink(f"{place}/big")


def test_sha256_of_256_mib_agrees_through_a_second_mount(shared, work):
    _big_file(shared, work, 256 << 20)


@pytest.mark.slow
@pytest.mark.limit(900)
def test_sha256_of_4_gib_agrees_through_a_second_mount_in_bounded_memory(shared, work):
    _big_file(shared, work, 4 << 30)
    for pid, line in harness.processes_below(shared.dir):
        with open(f"/proc/{pid}/status") as f:
            rss = next(int(w.split()[1]) for w in f if w.startswith("RssAnon"))
        what = "mount" if " mount " in line else "daemon"
        print(f"{what} {pid}: RssAnon {rss >> 10} MiB")
        if not harness.ASAN:
            assert rss >> 10 <= (400 if what == "mount" else 300), line


def test_removed_tree_gives_its_space_back_after_compaction(shared, place, actor):
    def held():
        return [(n["stats"]["live_bytes"], shared.store_file_bytes(n["id"]))
                for n in shared.status()["nodes"]]

    shared.flush("a")
    shared.wait_settled()
    before = held()
    for d in range(20):
        actor.mkdir(f"{place}/d{d}")
        for i in range(20):
            content.write_file(f"{place}/d{d}/{i}", d * 20 + i, 200_000)
    content.write_file(f"{place}/large", 999, 64 << 20)
    shared.flush("a")
    full = shared.wait_status("live bytes to be counted", lambda s: all(
        n["stats"]["live_bytes"] >= b[0] + (100 << 20) for n, b in zip(s["nodes"], before)), 20)
    assert full
    actor.run("sh", "-c", f"rm -rf {place}/*")
    shared.wait_settled()
    shared.wait_status("space to come back", lambda s: all(
        n["stats"]["live_bytes"] <= b[0] + (4 << 20) and
        shared.store_file_bytes(n["id"]) <= b[1] + (48 << 20)
        for n, b in zip(s["nodes"], before)), 60)


def test_tar_of_many_small_files_round_trips(place, actor):
    actor.run("sh", "-c", f"tar -C /usr/include -cf {place}/t.tar linux asm-generic && "
              f"mkdir {place}/x && tar -C {place}/x -xf {place}/t.tar && "
              f"diff -r /usr/include/linux {place}/x/linux")


def test_many_processes_work_at_once(place, actor):
    code = f"""
import os, sys, threading
sys.path.insert(0, {os.path.dirname(os.path.abspath(__file__))!r})
import content
def work(n):
    d = {place!r} + "/w%d" % n
    os.mkdir(d)
    for i in range(40):
        content.write_file(d + "/%d" % i, n * 100 + i, 3000 * i)
    for i in range(40):
        content.check_file(d + "/%d" % i, n * 100 + i, 3000 * i)
        os.rename(d + "/%d" % i, d + "/r%d" % i)
pids = []
for n in range(8):
    pid = os.fork()
    if pid == 0:
        work(n)
        os._exit(0)
    pids.append(pid)
assert all(os.waitpid(p, 0)[1] == 0 for p in pids)
"""
    actor.run("/usr/bin/python3", "-c", code)
    assert sum(len(f) for _, _, f in os.walk(place)) == 320
