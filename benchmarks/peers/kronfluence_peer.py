"""Methods of kronfluence.

Translations to ``q_i' (C + damping)^-1 g_j / n``: divide by n; ``damping_factor`` is the damping.
Its Fisher matrix is that of labels drawn once for each example, unless empirical.
"""

from __future__ import annotations

import tempfile

import torch
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from benchmarks.problems.tensors import Problem

PACKAGE = "kronfluence"
BATCH = 500


def default_damping(method: str, n: int) -> float:
    """Damping of the mean curvature that the library takes when none is given."""
    return 1e-8


class Classification(Task):
    """Cross-entropy summed over a batch, of a text its mean; what is measured is the loss too."""

    def compute_train_loss(self, batch, model, sample=False):
        X, y = batch
        outputs = model(X)
        if sample:
            with torch.no_grad():
                chances = outputs.softmax(-1).flatten(0, -2)
                y = torch.multinomial(chances, num_samples=1).view(y.shape)
        return (
            F.cross_entropy(outputs.flatten(0, -2), y.flatten(), reduction="sum")
            * len(y)
            / y.numel()
        )

    def compute_measurement(self, batch, model):
        return self.compute_train_loss(batch, model)


def _run(problem: Problem, strategy: str, empirical: bool = False):
    s, dtype = problem.settings, problem.dtype
    torch.manual_seed(s.seed)
    task = Classification()
    factor_args = FactorArguments(
        strategy=strategy,
        use_empirical_fisher=empirical,
        activation_covariance_dtype=dtype,
        gradient_covariance_dtype=dtype,
        per_sample_gradient_dtype=dtype,
        lambda_dtype=dtype,
    )
    score_args = ScoreArguments(
        damping_factor=s.damping,
        per_sample_gradient_dtype=dtype,
        precondition_dtype=dtype,
        score_dtype=dtype,
    )
    data = TensorDataset(problem.X, problem.y)
    queries = TensorDataset(problem.X_test, problem.y_test)
    with tempfile.TemporaryDirectory() as folder:
        analyzer = Analyzer(
            analysis_name="peer",
            model=prepare_model(problem.fresh_model(), task),
            task=task,
            cpu=True,
            disable_tqdm=True,
            output_dir=folder,
        )
        analyzer.fit_all_factors(
            "factors", data, per_device_batch_size=BATCH, factor_args=factor_args
        )
        analyzer.compute_pairwise_scores(
            "scores",
            "factors",
            query_dataset=queries,
            train_dataset=data,
            per_device_query_batch_size=BATCH,
            per_device_train_batch_size=BATCH,
            score_args=score_args,
        )
        scores = analyzer.load_pairwise_scores("scores")["all_modules"].to(dtype)
    options = {"strategy": strategy, "use_empirical_fisher": empirical}
    return scores.numpy() / problem.n, {**options, "damping_factor": s.damping}


METHODS = {
    "graddot": lambda problem: _run(problem, "identity"),
    "kfac": lambda problem: _run(problem, "kfac"),
    "ekfac": lambda problem: _run(problem, "ekfac"),
    "kfac_empirical": lambda problem: _run(problem, "kfac", empirical=True),
    "ekfac_empirical": lambda problem: _run(problem, "ekfac", empirical=True),
}
ONLY_TINY: set[str] = set()
