"""A sample of the training rows, and how far its mean may be from that of all of them."""

from __future__ import annotations

from influencekit.data._examples import Examples

__all__ = ["SampledExamples", "sampling_variance"]


class SampledExamples(Examples):
    """Examples drawn from more, which the model learned from.

    Parameters
    ----------
    examples : Examples
        The sample.
    n_population : int
        Number of examples that it was drawn from.
    """

    def __init__(self, examples: Examples, n_population: int):
        super().__init__(
            examples.source,
            examples.placement,
            examples.targets,
            examples.index,
            examples.rows,
            examples.weights,
        )
        self.n_population = n_population


def sampling_variance(examples: Examples) -> float:
    """Share of one example's variance that the mean of the examples has by chance.

    Parameters
    ----------
    examples : Examples

    Returns
    -------
    float
        0 if these are all examples that the model learned from.
    """
    if not isinstance(examples, SampledExamples):
        return 0.0
    n, population = len(examples), examples.n_population
    # (1 - n/N) / n, without replacement
    return (1 - n / population) / n
