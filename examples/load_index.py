"""Ask a served index from several clients at once, and stop: python examples/load_index.py.

Prints the median and the 95th percentile of the seconds that a query takes, and queries a second.
"""

import argparse
import json
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np


def wait_for(url: str, seconds: float = 300) -> None:
    """Return once the service answers: it opens its index first."""
    end = time.perf_counter() + seconds
    print(f"waiting for {url}", flush=True)
    while True:
        try:
            urllib.request.urlopen(f"{url}/health").close()
            return
        except urllib.error.URLError as error:
            if time.perf_counter() > end:
                raise SystemExit(
                    f"No service at {url} after {seconds:g} seconds ({error}). "
                    "Start examples/serve_index.py, or name its address with --url."
                ) from error
            time.sleep(0.5)


def ask(url: str, row: list, k: int) -> float:
    """Seconds of one query."""
    body = json.dumps({"X": [row], "k": k}).encode()
    headers = {"Content-Type": "application/json"}
    start = time.perf_counter()
    with urllib.request.urlopen(urllib.request.Request(f"{url}/top", body, headers)) as answer:
        json.load(answer)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--features", type=int, default=784)
    parser.add_argument("--k", type=int, default=10)
    options = parser.parse_args()
    wait_for(options.url)
    rows = np.random.default_rng(0).random((options.queries, options.features)).tolist()
    start = time.perf_counter()
    with ThreadPoolExecutor(options.clients) as clients:
        taken = list(clients.map(lambda row: ask(options.url, row, options.k), rows))
    whole = time.perf_counter() - start
    middle, late = np.percentile(taken, [50, 95]) * 1e3
    print(
        f"{options.queries} queries of {options.clients} clients: median {middle:.0f} ms, ", end=""
    )
    print(f"95th percentile {late:.0f} ms, {options.queries / whole:.0f} queries/s")


if __name__ == "__main__":
    main()
