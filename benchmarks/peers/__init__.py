"""Other libraries on the same work: which methods each has, where it is installed."""

from __future__ import annotations

import importlib
from importlib.metadata import version

OURS = "influencekit"
#: Methods by library; each file ``LIBRARY_peer.py`` has a function for each.
METHODS = {
    OURS: "graddot tracin trak trak_factored trak_two_sided trak_exact explicit cg "
    "cg_preconditioned lissa arnoldi nystroem nystroem_hessian fisher ggn datainf datainf_full "
    "kfac kfac_true kfac_empirical ekfac ekfac_true ekfac_empirical",
    "dattri": "graddot tracin explicit cg lissa arnoldi datainf ekfac_empirical trak trak_exact",
    "traker": "trak trak_exact",
    "kronfluence": "graddot kfac ekfac kfac_empirical ekfac_empirical",
    "pydvl": "explicit cg lissa arnoldi nystroem_fisher nystroem_hessian datainf datainf_full "
    "kfac_true ekfac_true",
    "captum": "graddot tracin explicit arnoldi",
    "bergson": "graddot tracin",
}
LIBRARIES = tuple(METHODS)


def environment(cell: dict) -> str:
    """Where a library is installed; ours is beside most of the others."""
    return "bergson" if cell.get("library") == "bergson" else "peers"


def pairs(methods: str) -> list[dict]:
    """Grids of (method, library) where a library has a method, ours first."""
    return [
        {"method": [method], "library": [library for library in LIBRARIES
                                         if method in METHODS[library].split()]}
        for method in methods.split()
    ]  # fmt: skip


def load(library: str):
    """A library's file."""
    return importlib.import_module(f"benchmarks.peers.{library}_peer")


def version_of(library: str) -> str:
    return version(load(library).PACKAGE)
