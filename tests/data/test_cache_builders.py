"""Processes that fill a cache: killed on the way, and two at once."""

import signal
import subprocess
import sys

import pytest
from caches import SIZE, files, images_in, squares, table

from mura_tf.data.cache import prepare

BUILDER = """
import os, signal, sys
import pandas as pd
from mura_tf.data import cache, store

folder, log, die_at, first, last = sys.argv[1], sys.argv[2], sys.argv[3], *map(int, sys.argv[4:])
paths = open(os.path.join(os.path.dirname(log), "paths.txt")).read().splitlines()[first:last]
log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
die_at, die_where = int(die_at[1:]), die_at[0]
seen = {"d": 0, "w": 0}

def count(kind):
    seen[kind] += 1
    if kind == die_where and seen[kind] == die_at:
        os.kill(os.getpid(), signal.SIGKILL)

def decode(content, path, real=store.decode_noted):
    count("d")
    os.write(log, (os.path.basename(path) + "\\n").encode())
    return real(content, path)

def fsync(handle, real=os.fsync):
    real(handle)
    count("w")  # the squares are on disk, their index lines are not

store.decode_noted, store.os.fsync = decode, fsync
print("ready", flush=True)
sys.stdin.readline()
cache.prepare(pd.DataFrame({"path": paths}), 32, folder)
"""
COUNT, CHUNK = 600, 128


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    paths = images_in(folder / "data", COUNT, seed=1)
    (folder / "paths.txt").write_text("\n".join(paths))
    return folder


@pytest.fixture(scope="module")
def never_killed(many):
    paths = (many / "paths.txt").read_text().splitlines()
    prepare(table(paths), SIZE, many / "whole")
    return files(many / "whole")


def builder(many, cache, log, die_at="d0", first=0, last=COUNT):
    arguments = [cache, log, die_at, first, last]
    process = subprocess.Popen(
        [sys.executable, "-c", BUILDER, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def go(*processes):
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
    return [process.returncode for process in processes]


@pytest.mark.parametrize(
    ("die_at", "chunks_kept"),
    [("d1", {0}), ("d300", {1, 2}), ("d550", {3, 4}), ("w1", {0}), ("w2", {1})],
    ids=["at the first image", "in chunk 3", "in chunk 5", "before index 1", "before index 2"],
)
def test_a_killed_builder_loses_the_chunk_it_wrote_and_the_one_it_decoded(
    many, never_killed, cache, decoded, die_at, chunks_kept
):
    log = many / f"{die_at}.log"
    assert go(builder(many, cache, log, die_at)) == [-signal.SIGKILL]
    index = cache / f"{SIZE}px" / "index.jsonl"
    kept = len(index.read_bytes().splitlines())
    assert kept in {CHUNK * count for count in chunks_kept}
    paths = (many / "paths.txt").read_text().splitlines()
    prepared = prepare(table(paths), SIZE, cache)
    assert files(cache) == never_killed
    assert prepared.rows.tolist() == list(range(COUNT))
    assert len(decoded) == len(set(decoded)) == COUNT - kept
    killed = log.read_text().split() if log.exists() else []
    twice = set(killed) & set(decoded)
    assert len(twice) <= 2 * CHUNK
    assert not twice & {f"image{number}.png" for number in range(kept)}


def test_two_builders_at_once_decode_each_image_once(many, never_killed, cache):
    log = many / "two.log"
    assert go(builder(many, cache, log), builder(many, cache, log)) == [0, 0]
    assert files(cache) == never_killed
    assert sorted(log.read_text().split()) == sorted(f"image{n}.png" for n in range(COUNT))


def test_two_builders_of_overlapping_tables(many, never_killed, cache, no_decoding):
    log = many / "overlapping.log"
    first = builder(many, cache, log, last=400)
    second = builder(many, cache, log, first=200)
    assert go(first, second) == [0, 0]
    assert sorted(log.read_text().split()) == sorted(f"image{n}.png" for n in range(COUNT))
    no_decoding()
    prepared = prepare(table((many / "paths.txt").read_text().splitlines()), SIZE, cache)
    assert sorted(prepared.rows) == list(range(COUNT))
    assert squares(prepared).tobytes() == never_killed[0]
