# SPDX-License-Identifier: Apache-2.0
"""The conformance suite and the torture tools (tests/posix) on real mounts, and on ext4."""
import os
import re
import subprocess

import pytest

import harness

SUITE = harness.program("holdfast-posix")
PLAIN = pytest.mark.plain
USER = 61910  # none of those that the suite itself plays


def suite(*args, timeout=600, user=None):
    become = ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups"] if user else []
    p = subprocess.run([*become, SUITE, *args], capture_output=True, text=True, timeout=timeout, check=False)
    last = p.stdout.splitlines()[-1] if p.stdout else ""
    said = re.fullmatch(r"(\d+) claims hold, 0 fail; left out: (\d+) impossible", last)
    wrong = "\n".join(line for line in p.stdout.splitlines() if line.startswith("FAILS"))
    assert said and p.returncode == 0, f"{wrong}\n{last}\n{p.stderr}"
    return int(said[1])


@pytest.fixture
def ext4(tmp_path):
    image, top = f"{tmp_path}/image", f"{tmp_path}/ext4"
    os.mkdir(top)
    for p in (top, tmp_path, *tmp_path.parents):  # users have to get there
        os.chmod(p, os.stat(p).st_mode | 0o011)
    with open(image, "wb") as f:
        f.truncate(2 << 30)
    harness.run(["mkfs.ext4", "-q", "-F", image])
    harness.run(["mount", "-o", "loop", image, top])
    yield top
    harness.run(["umount", top])


@PLAIN
@pytest.mark.limit(300)
def test_claims_hold_on_ext4(ext4):
    assert suite(ext4, ext4) >= 2500


@pytest.mark.limit(600)
@pytest.mark.parametrize("metadata", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_claims_hold_on_two_mounts(make_cluster, metadata):
    c = make_cluster(metadata=metadata)
    c.up()
    assert suite(c.mount("a"), c.mount("b")) >= 2500


def home(top, user=USER):
    """A directory of that user's, where the suite runs."""
    path = f"{top}/home"
    if not os.path.exists(path):
        os.mkdir(path)
        os.chown(path, user, user)
    return path


@PLAIN
@pytest.mark.limit(300)
@pytest.mark.parametrize("metadata", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_claims_hold_for_a_user(make_cluster, metadata):
    c = make_cluster(metadata=metadata)
    c.up()
    assert suite(home(c.mount("a")), home(c.mount("b")), user=USER) > 1000


@pytest.mark.slow
@PLAIN
@pytest.mark.limit(1800)
def test_claims_hold_while_nodes_die(make_cluster):
    c = make_cluster()
    c.up()
    a, b = c.mount("a"), c.mount("b")
    with harness.Killer(c, 30) as killer:
        while killer.kills < 4 and not killer.error:
            assert suite(a, b, timeout=1200) >= 2500
            assert suite(home(a), home(b), timeout=1200, user=USER) > 1000
    assert killer.error is None


def torture(tool, *args, timeout=600):
    p = subprocess.run([harness.program(tool), *args, "--quiet"], capture_output=True, text=True, timeout=timeout,
                       check=False)
    assert p.returncode == 0, f"{' '.join(args)}\n{p.stdout[-6000:]}\n{p.stderr[-2000:]}"


def seed():
    """Another each time; the command is in the failure's text."""
    return str(int.from_bytes(os.urandom(4), "little"))


@pytest.mark.limit(300)
def test_one_file_under_random_operations_is_as_its_model(make_cluster):
    c = make_cluster()
    c.up()
    a, b = c.mount("a"), c.mount("b")
    torture("holdfast-fsx", a, "--ops", "15000", "--seed", seed())
    torture("holdfast-fsx", a, "--ops", "10000", "--seed", seed(), "--dir2", b, "--processes", "3")


@pytest.mark.limit(300)
def test_names_under_random_operations_are_as_their_models(make_cluster):
    c = make_cluster()
    c.up()
    torture("holdfast-fsstress", c.mount("a"), "--ops", "8000", "--seed", seed(), "--dir2", c.mount("b"))


@pytest.mark.slow
@PLAIN
@pytest.mark.limit(3600)
def test_torture_while_nodes_die(make_cluster):
    c = make_cluster()
    c.up()
    a, b = c.mount("a"), c.mount("b")
    with harness.Killer(c, 30) as killer:
        torture("holdfast-fsx", a, "--ops", "300000", "--seed", seed(), "--dir2", b, "--processes", "3", timeout=1700)
        torture("holdfast-fsstress", a, "--ops", "100000", "--seed", seed(), "--dir2", b, timeout=1700)
    assert killer.error is None and killer.kills > 3
