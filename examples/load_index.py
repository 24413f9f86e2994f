"""Ask a served index from several clients at once, and stop: python examples/load_index.py.

Waits until the index is served. Prints the median and the 95th percentile of the seconds that a
query takes, and queries a second.
"""

import argparse
import json
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np


def ask(url: str, row: list, k: int) -> float:
    """Seconds of one query."""
    body = json.dumps({"X": [row], "k": k}).encode()
    headers = {"Content-Type": "application/json"}
    start = time.perf_counter()
    with urllib.request.urlopen(urllib.request.Request(f"{url}/top", body, headers)) as answer:
        json.load(answer)
    return time.perf_counter() - start


def health(url: str, seconds: int = 300) -> dict:
    """What the service says of its index, as soon as it answers: it opens the index first."""
    print(f"waiting for {url}", flush=True)
    last: Exception | None = None
    for _ in range(seconds):
        try:
            with urllib.request.urlopen(f"{url}/health") as answer:
                return json.load(answer)
        except OSError as error:
            last = error
            time.sleep(1)
    raise SystemExit(
        f"No service at {url} after {seconds} seconds ({last}). "
        "Start examples/serve_index.py, or name its address with --url."
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--features", type=int, help="numbers in a row of X of a torch model")
    parser.add_argument("--k", type=int, default=10)
    options = parser.parse_args()
    served = health(options.url)
    print(served)
    features = served["features"] or options.features
    if features is None:
        parser.error("--features: the model does not say how many numbers a row of X has")
    rows = np.random.default_rng(0).random((options.queries, features)).tolist()
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
