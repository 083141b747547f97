# SPDX-License-Identifier: Apache-2.0
"""Known content: bytes that follow from (seed, offset), so that whoever reads them can judge them.

Every 4 KiB block begins with its seed and its number: a block that stands in the wrong place, or in
the wrong file, never passes.
"""
import hashlib
import random
import struct

BLOCK = 4096
_BASE_BLOCKS = 256
_bases = {}


def _base(seed):
    if seed not in _bases:
        if len(_bases) > 64:
            _bases.clear()
        _bases[seed] = random.Random(seed).randbytes(_BASE_BLOCKS * BLOCK)
    return _bases[seed]


def data(seed, offset, length):
    """The bytes [offset, offset + length) of the endless file `seed`."""
    first = offset // BLOCK
    last = (offset + length + BLOCK - 1) // BLOCK
    base = _base(seed)
    out = bytearray()
    block = first
    while block < last:
        start = block % _BASE_BLOCKS
        count = min(_BASE_BLOCKS - start, last - block)
        at = len(out)
        out += base[start * BLOCK:(start + count) * BLOCK]
        for i in range(count):
            struct.pack_into("<QQ", out, at + i * BLOCK, seed, block + i)
        block += count
    skip = offset - first * BLOCK
    return bytes(out[skip:skip + length])


def write_file(path, seed, size, chunk=1 << 20):
    """Write `size` bytes of `seed`; returns their SHA-256."""
    sha = hashlib.sha256()
    with open(path, "wb", buffering=0) as f:
        for at in range(0, size, chunk):
            piece = data(seed, at, min(chunk, size - at))
            sha.update(piece)
            view = memoryview(piece)
            while view:
                view = view[f.write(view):]
    return sha.hexdigest()


def check_file(path, seed, size, chunk=1 << 20):
    """Fail unless the file holds exactly the first `size` bytes of `seed`; returns their SHA-256."""
    sha = hashlib.sha256()
    at = 0
    with open(path, "rb", buffering=0) as f:
        while True:
            piece = f.read(chunk)
            if not piece:
                break
            check(piece, seed, at, path)
            sha.update(piece)
            at += len(piece)
    assert at == size, f"{path}: {at} bytes, not {size}"
    return sha.hexdigest()


def check(piece, seed, offset, name="bytes"):
    want = data(seed, offset, len(piece))
    if piece != want:
        at = next(i for i in range(len(want)) if piece[i] != want[i])
        raise AssertionError(
            f"{name}: differs at offset {offset + at}: {piece[at:at + 32].hex()} instead of "
            f"{want[at:at + 32].hex()} ({'zeroes' if not any(piece[at:at + 512]) else 'other bytes'})")


def sha256_file(path):
    sha = hashlib.sha256()
    with open(path, "rb", buffering=0) as f:
        while piece := f.read(1 << 20):
            sha.update(piece)
    return sha.hexdigest()
