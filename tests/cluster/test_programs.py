# SPDX-License-Identifier: Apache-2.0
"""Programs whose users would notice a file system that is only nearly one."""
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time

import pytest

import content
from harness import run, wait_for

pytestmark = pytest.mark.plain
CLIENTS = 4  # of pgbench
POSTGRES = sorted(p for p in (f"/usr/lib/postgresql/{v}/bin" for v in range(13, 20)) if os.path.isdir(p))


def sh(line, cwd, timeout=120, user=None):
    return run(["bash", "-ec", line], cwd=cwd, timeout=timeout, user=user).out


@pytest.fixture
def tree(tmp_path):
    """Of everything that an archive can hold, on the local disk."""
    top = f"{tmp_path}/tree"
    os.makedirs(f"{top}/deep/er")
    for i in range(200):
        content.write_file(f"{top}/deep/f{i}", i, i * i)
    content.write_file(f"{top}/big", 1, 5 << 20)
    with open(f"{top}/sparse", "wb") as f:
        f.truncate(8 << 20)
        for at in (0, 3 << 20, (8 << 20) - 5):
            f.seek(at)
            f.write(b"bytes")
    os.link(f"{top}/deep/f7", f"{top}/deep/er/linked")
    os.link(f"{top}/deep/f7", f"{top}/again")
    os.symlink("deep/f9", f"{top}/link")
    os.symlink("nowhere", f"{top}/dangling")
    os.mkfifo(f"{top}/fifo", 0o640)
    os.mknod(f"{top}/device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as s:
        here = os.getcwd()
        os.chdir(top)  # names of sockets are short
        s.bind("socket")
        os.chdir(here)
    os.chmod(f"{top}/deep/f3", 0o6755)
    os.chmod(f"{top}/deep/er", 0o3777)
    os.chown(f"{top}/deep/f4", 1234, 4321)
    os.chmod(f"{top}/deep/f5", 0)
    os.setxattr(f"{top}/deep/f6", "user.one", b"1" * 1000)
    os.setxattr(f"{top}/deep", "user.two", b"\x00\xff")
    os.setxattr(f"{top}/big", "trusted.three", b"")
    sh("setfacl -m u:1234:rw,g:4321:r,m::rw deep/f8; setfacl -d -m u:99:rwx deep/er", top)
    for name in ("deep/f1", "deep", "link"):
        os.utime(f"{top}/{name}", ns=(10**18 + 123456789, 10**18 + 987654321), follow_symlinks=False)
    with open(f"{top}/" + "n" * 255, "w") as f:
        f.write("a long name")
    with open(os.fsencode(top) + b"/\xff\n\"'\\ *", "w") as f:
        f.write("a strange one")
    return top


def differences(a, b):
    """What rsync would still do to make b what a is, either way round."""
    said = ""
    for one, other in ((a, b), (b, a)):
        said += run(["rsync", "-aHAXnic", "--delete", f"{one}/", f"{other}/"], timeout=120).out
    return said


def test_rsync_with_everything_there_and_back(shared, work, tree, tmp_path):
    run(["rsync", "-aHAXS", f"{tree}/", f"{work}/there/"], timeout=120)
    assert differences(tree, f"{work}/there") == ""
    shared.remount("a")
    assert differences(tree, f"{work}/there") == ""
    run(["rsync", "-aHAXS", f"{work}/there/", f"{tmp_path}/back/"], timeout=120)
    assert differences(tree, f"{tmp_path}/back") == ""


def test_tar_with_everything_there_and_back(work, tree, tmp_path):
    keep = "--acls --xattrs --xattrs-include='*' --sparse --numeric-owner"
    os.mkdir(f"{work}/there")
    os.mkdir(f"{tmp_path}/back")
    sh(f"tar {keep} -cf - . | tar {keep} -xpf - -C {work}/there", tree)
    sh(f"tar {keep} -cf {work}/archive . && tar {keep} -df {work}/archive", f"{work}/there")
    sh(f"tar {keep} -xpf {work}/archive -C {tmp_path}/back", work)
    assert "socket" in differences(tree, f"{tmp_path}/back")  # tar leaves them out, says its manual
    times = os.stat(tree)
    os.unlink(f"{tree}/socket")
    os.utime(tree, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert differences(tree, f"{work}/there") == differences(tree, f"{tmp_path}/back") == ""


def blocks(path):
    return os.stat(path).st_blocks * 512


def test_copies_share_and_holes_stay(shared, work):
    content.write_file(f"{work}/a", 5, 40 << 20)
    sh("cp --reflink=auto a b && cmp a b", work)
    objects = [[x["object"] for x in shared.info(f"{work}/{name}")["extents"]] for name in "ab"]
    assert len(objects[0]) >= 10 and objects[0] == objects[1], "a copy takes no space"
    with open(f"{work}/b", "r+b") as f:
        f.write(b"changed")
    assert open(f"{work}/a", "rb").read(7) == content.data(5, 0, 7)
    sh("truncate -s 20M holes && echo x >> holes && cp --sparse=always holes copy && cmp holes copy"
       " && cp --sparse=auto holes again && cmp holes again", work)
    assert max(blocks(f"{work}/{name}") for name in ("holes", "copy", "again")) < 1 << 20
    sh("fallocate -d copy && cmp holes copy && fallocate -p -o 1M -l 1M a", work)
    assert open(f"{work}/a", "rb").read()[1 << 20:2 << 20] == bytes(1 << 20)


def test_editors_and_pipes(work):
    sh("seq 1000 > f; chmod 640 f; chown 1234:4321 f; sed -i s/^5/five/ f; test $(grep -c five f) = 111", work)
    assert (os.stat(f"{work}/f").st_mode & 0o777, os.stat(f"{work}/f").st_uid) == (0o640, 1234)
    sh("vi -es -u NONE -c '%s/five/5/' -c wq f; seq 1000 | cmp - f", work)
    sh("mkfifo p; (seq 100000 > p) & sha256sum < p > sums; wait; seq 100000 | sha256sum | cmp - sums", work)
    sh("split -b 1000 f part.; cat part.* | cmp - f; sort -R f | sort -n -o f; seq 1000 | cmp - f", work)
    sh("cp f g; sed -i 3d g; ! diff -u f g > d; patch -s f d; cmp f g", work)
    sh("install -D -m 755 f x/y/z; mv x moved; rm -r moved; test ! -e moved", work)


def test_tools_that_look_agree(work):
    sh("mkdir -p d/e; touch d/old; sleep 0.02; touch mark; sleep 0.02; touch d/new d/e/new", work)
    assert sh("find d -type f -newer mark | sort", work).split() == ["d/e/new", "d/new"]
    for i in range(20):
        content.write_file(f"{work}/d/f{i}", i, 300_000 + i)
    sh("ln d/f1 d/e/f1", work)
    counted = int(sh("du -s -B1 d", work).split()[0])
    summed = sum({(st.st_ino): st.st_blocks * 512 for top, dirs, files in os.walk(f"{work}/d")
                  for st in [os.lstat(os.path.join(top, f)) for f in files + ["."]]}.values())
    assert counted == summed and counted >= 20 * 300_000
    fs = os.statvfs(work)
    size, free = (int(x) for x in sh("df -B1 --output=size,avail .", work).split("\n")[1].split())
    assert size == fs.f_blocks * fs.f_frsize and abs(free - fs.f_bavail * fs.f_frsize) < 16 << 20
    assert int(sh("find d | wc -l", work)) == 2 + 3 + 20 + 1


def test_what_du_counts_is_what_df_has_less(make_cluster):
    c = make_cluster()
    c.up()
    top = c.mount("a")

    def used():
        c.flush("a")
        c.wait_settled()
        return int(sh("df -B1 --output=used .", top).split()[1])

    before = used()
    os.mkdir(f"{top}/d")
    for i in range(12):
        content.write_file(f"{top}/d/f{i}", i, 4 << 20)
    counted = int(sh("du -s -B1 d", top).split()[0])
    assert counted >= 48 << 20
    assert abs(used() - before - counted) < counted / 10


WORKER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
for i in range(int(sys.argv[2])):
    db.execute("begin immediate")
    n, = db.execute("select n from counter").fetchone()
    db.execute("update counter set n = ?", (n + 1,))
    db.execute("insert into steps values (?, ?)", (n + 1, sys.argv[3]))
    db.execute("commit")
"""


@pytest.mark.parametrize("journal", ["wal", "delete", "truncate"])
def test_sqlite_by_two_processes(work, journal):
    path = f"{work}/db"
    sh(f"sqlite3 {path} 'pragma journal_mode={journal}; create table counter (n); insert into counter values (0);"
       " create table steps (n unique, who)'", work)
    each = [subprocess.Popen([sys.executable, "-c", WORKER, path, "100", str(i)]) for i in range(2)]
    assert [p.wait(90) for p in each] == [0, 0]
    assert sh(f"sqlite3 {path} 'pragma integrity_check; select n from counter; select count(*) from steps;"
              " select count(distinct who) from steps'", work).split() == ["ok", "200", "200", "2"]


@pytest.mark.slow
@pytest.mark.limit(900)
def test_git_with_20000_files(shared, work):
    sh("git init -q r; cd r; git config user.email t@example.org; git config user.name T;"
       " for i in $(seq 200); do mkdir d$i; (cd d$i; seq -f 'f%g' 100 | xargs -I@ cp /etc/hostname @); done;"
       " seq 20000 > changes; git add -A; git commit -qm first; git status --porcelain | wc -l | grep -qx 0;"
       " for i in $(seq 1 7 200); do echo changed > d$i/f3; done; git commit -qam second; git gc -q; git fsck --strict;"
       " git clone -q . ../clone; cd ../clone; git checkout -q HEAD~1; git checkout -q -; git fsck", work, timeout=800)
    shared.remount("a")
    sh("git status --porcelain | wc -l | grep -qx 0; git fsck; git ls-files | wc -l | grep -qx 20001", f"{work}/clone",
       timeout=300)


def debian_source(package, into):
    """The upstream tarball of a Debian source package; lists and all below @into."""
    for d in ("etc", "lists/partial", "archives/partial"):
        os.makedirs(f"{into}/{d}")
    release = dict(line.strip().split("=", 1) for line in open("/etc/os-release") if "=" in line)
    with open(f"{into}/etc/source.list", "w") as f:
        f.write("deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
                f"http://deb.debian.org/debian {release['VERSION_CODENAME']} main\n")
    apt = (f"apt-get -q -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts={into}/etc"
           f" -o Dir::State::Lists={into}/lists -o Dir::Cache::archives={into}/archives")
    sh(f"{apt} update; {apt} source --download-only {package}", into, timeout=300)
    return next(f"{into}/{name}" for name in os.listdir(into) if ".orig.tar" in name)


@pytest.mark.slow
@pytest.mark.limit(1500)
def test_a_c_project(shared, work, tmp_path):
    """GNU sed, whose own tests want an ordinary user, and a path other than of 127 bytes."""
    tarball = debian_source("sed", str(tmp_path))
    nothing_to_do = "! make | grep '^  CC'"  # by the times of files
    sh(f"tar xf {tarball}; cd sed-*; ./configure -q --disable-nls; make -s -j4; {nothing_to_do}", work, timeout=700)
    sh("chown -R games .", work)
    sh("cd sed-*; make -s -j4 check > check.log 2>&1 || { tail -n 80 check.log; exit 1; };"
       " grep -q '# FAIL: *0$' check.log; ! grep -q '# FAIL: *[1-9]' check.log", work, timeout=700, user="games")
    there = work.replace(shared.mounts["a"], shared.mount("built-there"))
    sh(f"cd sed-*; {nothing_to_do}; echo one | sed/sed s/one/two/ | grep -qx two; make -s -j4 clean; ! test -e sed/sed",
       there)
    sh(f"cd sed-*; make -j4 | grep -q '^  CC'; {nothing_to_do}; test -x sed/sed", work, timeout=300)
    shared.umount("built-there")


class Postgres:
    def __init__(self, place):
        self.bin, self.place, self.data = POSTGRES[-1], place, f"{place}/data"
        self.server = None

    def run(self, *argv, timeout=300):
        return run([f"{self.bin}/{argv[0]}", *argv[1:]], user="postgres", timeout=timeout, cwd=self.place).out

    def start(self):
        self.server = subprocess.Popen([f"{self.bin}/postgres", "-D", self.data, "-k", self.place, "-h", ""],
                                       user="postgres", group="postgres", extra_groups=[], cwd=self.place,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("the database", lambda: run([f"{self.bin}/pg_isready", "-q", "-h", self.place], check=False,
                                             user="postgres").returncode == 0, 120)

    def kill(self):
        self.server.kill()
        self.server.wait()
        time.sleep(2)  # its children notice

    def bench(self, seconds):
        """Its log, on the local disk, has a line for each transaction that was acknowledged."""
        self.logs = tempfile.TemporaryDirectory()
        shutil.chown(self.logs.name, "postgres", "postgres")
        return subprocess.Popen([f"{self.bin}/pgbench", "-n", "-h", self.place, "-c", str(CLIENTS), "-T", str(seconds),
                                 "-l", f"--log-prefix={self.logs.name}/log", "bench"],
                                user="postgres", group="postgres", extra_groups=[], cwd=self.place,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def acknowledged(self):
        lines = [line for name in os.listdir(self.logs.name) for line in open(f"{self.logs.name}/{name}")]
        self.logs.cleanup()
        return len(lines)

    def sql(self, text):
        return self.run("psql", "-h", self.place, "-AtX", "-c", text, "bench").strip()

    def check(self):
        """The four tables of pgbench tell the same story, and every page its own checksum."""
        sums = {self.sql(f"select coalesce(sum({column}), 0) from pgbench_{table}") for column, table in
                (("abalance", "accounts"), ("tbalance", "tellers"), ("bbalance", "branches"), ("delta", "history"))}
        assert len(sums) == 1, sums
        return int(self.sql("select count(*) from pgbench_history"))

    def check_after(self, done):
        """Nothing that was acknowledged since @done is lost; what was under way may be there."""
        now, acknowledged = self.check(), self.acknowledged()
        assert acknowledged > 100 and done + acknowledged <= now <= done + acknowledged + CLIENTS
        return now


@pytest.mark.slow
@pytest.mark.limit(900)
@pytest.mark.skipif(not POSTGRES, reason="no PostgreSQL on this machine")
def test_postgres_survives_its_own_death_and_that_of_the_mount(make_cluster):
    c = make_cluster()
    c.up()
    place = f"{c.mount('a')}/pg"
    os.mkdir(place)
    shutil.chown(place, "postgres", "postgres")
    db = Postgres(place)
    db.run("initdb", "-k", "-D", db.data)
    db.start()
    db.run("createdb", "-h", place, "bench")
    db.run("pgbench", "-q", "-i", "-s", "5", "-h", place, "bench")
    bench = db.bench(120)
    out, _ = bench.communicate(timeout=300)
    assert bench.returncode == 0, out
    print(next(line for line in out.splitlines() if line.startswith("tps")))
    done = db.check_after(0)
    assert done > 1000

    bench = db.bench(60)  # kill -9 of the server
    time.sleep(10)
    db.kill()
    bench.communicate(timeout=120)
    db.start()
    done = db.check_after(done)

    bench = db.bench(60)  # kill -9 of the mount
    time.sleep(10)
    c.kill_mount("a")
    db.kill()
    bench.communicate(timeout=120)
    c.mount("a")
    db.start()
    db.check_after(done)
    db.run("vacuumdb", "-h", place, "-q", "-f", "bench")
    db.server.terminate()
    assert db.server.wait(120) == 0
    assert "Bad checksums:  0" in db.run("pg_checksums", "-D", db.data)
