"""A sample of the training rows, and how far its mean may be from that of all of them."""

from __future__ import annotations

from influencekit.data._examples import Examples

__all__ = ["SampledExamples"]


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

    @property
    def standard_error(self) -> float:
        """Standard error of the sample's mean, in standard deviations of one example."""
        n, population = len(self), self.n_population
        # √((1 - n/N) / n), without replacement
        return ((1 - n / population) / n) ** 0.5
