"""Serve an index with FastAPI: python examples/serve_index.py FOLDER MODEL.joblib [--port 8000].

``POST /top`` with ``{"X": [[...], ...], "y": [...], "k": 10}`` gives rows and scores, and ``GET
/health`` says that the index is open.  The model file is a pickle: give one of your own.
"""

import argparse
from typing import Annotated

import joblib
import numpy as np
import torch
import uvicorn
from fastapi import Body, FastAPI, HTTPException

from influencekit import AttributionIndex


def service(index: AttributionIndex) -> FastAPI:
    """The two addresses of an index; FastAPI calls plain functions in threads of its own."""
    app = FastAPI(title="influencekit")

    @app.get("/health")
    def health() -> dict:
        sizes = {"rows": index.n_train_, "numbers": index.dim_, "dtype": index.contents_.dtype}
        return {**sizes, "features": getattr(index, "n_features_in_", None)}

    @app.post("/top")
    def top(
        X: Annotated[list[list[float]], Body()],
        y: Annotated[list[float] | None, Body()] = None,
        k: Annotated[int, Body()] = 10,
    ) -> dict:
        try:
            rows, scores = index.top_k(np.array(X), None if y is None else np.array(y), k)
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        return {"rows": rows.tolist(), "scores": scores.tolist()}

    return app


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("model")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--features", type=int, help="numbers in a row of X of a torch model")
    options = parser.parse_args()
    torch.set_num_threads(1)  # one thread a client; they would wait for each other
    index = AttributionIndex.open(options.folder, joblib.load(options.model))
    features = getattr(index, "n_features_in_", options.features)
    if features is not None:  # draws the projection before clients come
        index.top_k(np.zeros((1, features)), k=1)
    uvicorn.run(service(index), port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
