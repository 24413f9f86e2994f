"""Bytes: what is free, what the user allows, how to write them."""

from __future__ import annotations

import os
import re

__all__ = ["available_memory", "format_bytes", "parse_memory"]

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def available_memory() -> int:
    """Memory that can be taken without swapping, as the operating system tells.

    Returns
    -------
    n_bytes : int
    """
    try:
        with open("/proc/meminfo") as lines:
            for line in lines:
                if line.startswith("MemAvailable"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return 4 * 2**30


def parse_memory(max_memory: int | str | None) -> int:
    """Bytes from a number, a text such as "2GB", or None for half of what is free.

    Parameters
    ----------
    max_memory : int, str or None
        A text is a number and a unit: B, KB, MB, GB or TB, powers of 1024.

    Returns
    -------
    n_bytes : int

    Raises
    ------
    ValueError
        If the text cannot be read or the number is not positive.

    Examples
    --------
    >>> parse_memory("1.5 GB") == 1.5 * 2**30
    True
    """
    if max_memory is None:
        return available_memory() // 2
    n_bytes: float
    if isinstance(max_memory, str):
        match = re.fullmatch(r"\s*([\d.]+)\s*([KMGT]?)i?B?\s*", max_memory, flags=re.IGNORECASE)
        if match is None:
            raise ValueError(
                f"max_memory: got {max_memory!r}; accepted are a number of bytes, None, "
                'or a text such as "500MB" or "2GB".'
            )
        n_bytes = float(match[1]) * _UNITS[match[2].upper()]
    else:
        n_bytes = max_memory
    if n_bytes <= 0:
        raise ValueError(f"max_memory: got {max_memory!r}; it must be positive.")
    return int(n_bytes)


def format_bytes(n: float) -> str:
    """Bytes as a person writes them.

    Parameters
    ----------
    n : float

    Returns
    -------
    text : str

    Examples
    --------
    >>> format_bytes(3 * 2**30)
    '3.0 GB'
    """
    for unit in ("B", "KB", "MB", "GB"):
        if n < 1024:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.1f} TB"
