"""Folders of indexes for studies: builds that are killed, and random rows in place of others."""

import multiprocessing
import pickle
import resource
import time
from dataclasses import replace

import numpy as np

from influencekit.index._contents import write_contents
from influencekit.index.files._folder import write_array

__all__ = ["fill", "kill_builds", "wall_and_cpu"]


def kill_builds(index, times, *data):
    """Start a build several times, and kill it when it has written some of what is missing.

    Returns
    -------
    kills : int
    peak_mb : float
        Of the killed processes.
    """
    most, kills = -(-data[1].shape[0] // index.shard_rows), 0
    spawned, content = multiprocessing.get_context("spawn"), pickle.dumps((index, data))
    for number in range(times):
        process = spawned.Process(target=_fit, args=(content,))
        process.start()
        while process.is_alive() and _written(index) <= (number + 1) * most // (times + 2):
            time.sleep(0.05)
        kills += process.is_alive()
        process.kill()
        process.join()
    return kills, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def _fit(content):
    index, data = pickle.loads(content)  # noqa: S301  of this study
    index.fit(*data)


def _written(index):
    return len([*index.folder.glob("checksums-*.npy")])


def fill(index, n):
    """Random rows in place of those that were built."""
    rng, shards = np.random.default_rng(0), []
    block = rng.integers(-127, 128, (index.shard_rows, index.dim_)).astype(index.dtype)
    for i, start in enumerate(range(0, n, index.shard_rows)):
        own = np.roll(block, i, axis=1)[: n - start]
        arrays = {"coordinates": own, "factors": rng.uniform(0.5, 1, (len(own), 3))}
        files = {
            name: write_array(index.folder / f"{name}-r{i:06d}.npy", array)
            for name, array in arrays.items()
        }
        shards.append(files)
    write_contents(index.folder, replace(index.contents_, shards=shards, generation=1), index)


def wall_and_cpu(job):
    """Seconds of a job, and CPU seconds of all its threads."""
    start, cpu = time.perf_counter(), time.process_time()
    job()
    return time.perf_counter() - start, time.process_time() - cpu
