"""A row of the tables: what goes wrong, and what its message advises."""

from typing import NamedTuple

__all__ = ["Row"]


class Row(NamedTuple):
    """Code whose message advises something, and the code of one who follows it.

    Parameters
    ----------
    site : str
        Piece of the message as it stands in the source.
    code : str
        Raises, or warns.
    advice : dict of str to str
        Words of the message, as they stand there, to code that does what they say.
    """

    site: str
    code: str
    advice: dict[str, str]
