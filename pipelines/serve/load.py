"""Measure a server on loopback: requests per second and times, by the number of clients.

`python -m pipelines.serve.load` makes codes of random bits and a model of random numbers, starts
`srch-dist serve` as a process, and asks by vector over connections that stay open.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from srch_dist.encode.model import Anchors, Model, save_model
from srch_dist.storage.atomic_files import write_manifest

_DIMS, _BITS, _ANCHORS = 512, 64, 1000


def main() -> None:
    """Print a table of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), options.rows)
        line = [sys.executable, "-m", "srch_dist.serve", "--model", f"{folder}/run"]
        line += ["--codes", f"{folder}/codes.npy", "--port", "0"]
        with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            found = re.search(r":(\d+)$", server.stdout.readline().strip())
            assert found is not None
            print(f"{options.rows} rows, {_BITS} bits, queries of {_DIMS} dimensions, top 10")
            print("clients  requests/s  median ms  99 % ms")
            for clients in options.clients:
                times = _load(int(found[1]), clients, options.seconds)
                middle, last = np.percentile(times, [50, 99]) * 1000
                rate = len(times) / options.seconds
                print(f"{clients:7}  {rate:10.0f}  {middle:9.1f}  {last:7.1f}", flush=True)
            server.terminate()


def _write(folder: Path, rows: int) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (rows, _BITS // 8), dtype=np.uint8)
    np.save(folder / "codes.npy", codes)
    near = Anchors(
        rng.normal(size=(_ANCHORS, _DIMS)) / np.sqrt(_DIMS),
        rng.normal(size=(_BITS, _ANCHORS)),
        rng.normal(size=_BITS),
        1.3,
    )
    matrix = {"text": rng.normal(size=(_BITS, _DIMS))}
    means = {"text": rng.normal(size=_DIMS)}
    (folder / "run").mkdir()
    model = Model(means, matrix, matrix, {"text": near}, _BITS, True, True, {})
    save_model(folder / "run" / "model.npz", model)
    write_manifest(folder / "run" / "run.json", {"format": 1, "finished": True, "stages": {}})


def _load(port: int, clients: int, seconds: float) -> np.ndarray:
    """Ask with ``clients`` connections for some seconds; return the seconds of every request."""
    times: list[float] = []
    end = time.perf_counter() + seconds

    def ask(seed: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        rng = np.random.default_rng(seed)
        own = []
        while time.perf_counter() < end:
            vector = np.round(rng.normal(size=_DIMS), 4).tolist()
            body = json.dumps({"vectors": [vector], "modality": "text"})
            start = time.perf_counter()
            connection.request("POST", "/search", body, {"content-type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise RuntimeError(f"the server answered {answer.status}")
            own.append(time.perf_counter() - start)
        times.extend(own)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return np.array(times)


if __name__ == "__main__":
    main()
