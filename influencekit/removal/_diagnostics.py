"""All diagnostics of a linear model's rows in one table, by the names of statsmodels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from influencekit.data._examples import make_examples
from influencekit.exceptions import LeverageWarning, UnsupportedModelError, warn_user
from influencekit.models._task import Task, as_task
from influencekit.models.losses._binary import BinaryCrossEntropy
from influencekit.models.losses._elementwise import ColumnLoss, PoissonLoss, SquaredError
from influencekit.removal._coefficients import coefficient_names
from influencekit.removal._linear_fit import LinearFit, read_linear
from influencekit.removal._whitened import UNDETERMINED, Whitened, whitened, whitening
from influencekit.utils._optional import import_optional
from influencekit.utils._torch import with_gradients

__all__ = ["influence_diagnostics"]


@with_gradients
def influence_diagnostics(model: Any, X: Any, y: Any, *, sample_weight: Any = None) -> Any:
    """Leverage, residuals, Cook's distance, DFFITS and DFBETAS of every training row.

    Parameters
    ----------
    model : fitted linear model, or Pipeline that ends in one
        LinearRegression, Ridge, LogisticRegression of two classes, or a generalized linear model
        with a log link.
    X : array-like or DataFrame of shape (n_train, n_features)
    y : array-like of shape (n_train,)
        The data that the model was fitted to.
    sample_weight : array-like of shape (n_train,), default=None
        The weights that it was fitted with.

    Returns
    -------
    pandas.DataFrame
        One row for each training row, with the index of X or y. Columns: ``hat_diag``,
        ``standard_resid``, ``student_resid``, ``cooks_d``, ``dffits``, ``dffits_internal``,
        ``d_deviance`` and ``dfb_NAME`` for each coefficient, the intercept as ``dfb_Intercept``.

    Notes
    -----
    Names and numbers are those of ``OLSInfluence`` and ``GLMInfluence`` of statsmodels. With the
    leverage h of the model's Hessian (its penalty included), Pearson residual r, dispersion φ and
    degrees of freedom p = Σ h:

    - ``standard_resid`` is ``r / √(φ (1 - h))``, and ``cooks_d`` its square times
      ``h / (1 - h) / p``;
    - ``d_deviance`` is the drop of the deviance without the row, ``r_D² + r² h / (1 - h)`` with its
      deviance residual r_D: exact for least squares, one step for the others;
    - ``student_resid`` divides by the dispersion without the row (least squares), or is the signed
      root of ``d_deviance / φ``; ``dffits`` is it times ``√(h / (1 - h))``;
    - ``dfb_NAME`` is the coefficient minus the one without the row, in standard errors (for least
      squares those with the dispersion without the row). ``InfluenceFunction(output="coef")`` has
      it in the coefficient's own unit.

    statsmodels has no penalties, and for a generalized linear model neither ``student_resid``,
    ``dffits`` nor ``d_deviance``. φ is 1 for logistic and Poisson regression.
    Cost ``O(n p² + p³)``.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import LinearRegression
    >>> from influencekit import influence_diagnostics
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> table = influence_diagnostics(LinearRegression().fit(X, y), X, y)
    >>> table["cooks_d"].idxmax(), round(float(table["hat_diag"].sum()), 6)
    (382, 11.0)
    """
    pd = import_optional("pandas", "influence_diagnostics")
    task = as_task(model)
    _check_model(task)
    examples = make_examples(task, X, y, learned=True).weighted(sample_weight)
    fit = read_linear(task, examples, "influence_diagnostics")
    columns = _columns(whitened(fit))
    hat = columns["hat_diag"]
    if (hat > 1 - UNDETERMINED).any():
        warn_user(
            f"{np.mean(hat > 1 - UNDETERMINED):.1%} of the rows have a leverage of 1: the model "
            f"goes through them whatever their target is, and what divides by 1 - leverage is NaN.",
            LeverageWarning,
        )
    changes = columns.pop("dfbetas")
    names = [f"dfb_{name}" for name in coefficient_names(fit, task)]
    frame = pd.DataFrame(columns, index=examples.index)
    return frame.join(pd.DataFrame(changes, columns=names, index=frame.index))


def _check_model(task: Task) -> None:
    """Refuse models whose rows have no such diagnostics."""
    known = isinstance(task.loss, BinaryCrossEntropy) or (
        isinstance(task.loss, ColumnLoss)
        and task.problem_type == "regression"
        and (isinstance(task.loss, SquaredError) or _log_link(task.loss))
    )
    outputs = len(next(iter(task.parameters.values()))) if known else 0
    if not known or outputs != 1 or task.training_rows is not None:
        raise UnsupportedModelError(
            f"model: got {task.name} with loss {type(task.loss).__name__} and {outputs} outputs; "
            f"accepted are LinearRegression, Ridge, LogisticRegression of two classes and "
            f"generalized linear models with a log link, of one target, fitted to all rows. For "
            f"several classes, fit one model for each class against the others."
        )


def _log_link(loss: ColumnLoss) -> bool:
    at = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    return bool(torch.allclose(loss.prediction(at), at.exp()))


def _columns(white: Whitened) -> dict[str, np.ndarray]:
    """The diagnostics by their names, with ``dfbetas`` as one matrix (n, d)."""
    fit, n = white.fit, len(white.fit.X)
    gaussian = isinstance(fit.task.loss, SquaredError)
    rows = white.rows(fit.X)[:, 0]
    observed = fit.weights * white.factors[:, 0, 0] ** 2
    # h = w φ'' x H⁻¹ x
    hat = observed * np.einsum("iq,iq->i", rows, rows)
    rest = np.where(1 - hat > UNDETERMINED, 1 - hat, np.nan)
    expected = _expected(fit, observed)
    # r = -g / √φ''(μ), times √w
    slopes = fit.weights * white.slopes[:, 0]
    pearson = -slopes / np.sqrt(expected)
    deviance = pearson**2 if gaussian else _deviances(fit)
    degrees = hat.sum()
    spare = n - degrees if n - degrees > UNDETERMINED * n else np.nan
    dispersion = (pearson**2).sum() / spare if _free_dispersion(fit) else 1.0
    standard = pearson / np.sqrt(dispersion * rest)
    drop = deviance + pearson**2 * hat / rest
    if gaussian:
        # σ² without the row, ((n - p) σ² - r² / (1 - h)) / (n - p - 1)
        left = ((n - degrees) * dispersion - drop) / (n - degrees - 1)
        student = pearson / np.sqrt(left * rest)
        drop = drop * _unit(fit)
    else:
        left = dispersion
        student = np.sign(pearson) * np.sqrt(drop / dispersion)
    raw = _raw_basis(fit, white.basis)
    moved = (rows * (np.sqrt(observed) * pearson / rest)[:, None]) @ raw.T
    spread = raw if np.array_equal(expected, observed) else _spread(fit, expected)
    errors = np.sqrt(np.multiply.outer(left, (spread**2).sum(1)))
    errors[errors == 0] = np.nan  # a column that the intercept makes superfluous
    # DFFITS = x · Δθ / √(φ x Cov x)
    lengths = np.sqrt(hat / observed) if spread is raw else _lengths(fit, expected)
    reach = np.einsum("iq,iq->i", rows, rows) * np.sqrt(observed) * pearson / rest
    return {
        "hat_diag": hat,
        "standard_resid": standard,
        "student_resid": student,
        "cooks_d": standard**2 * hat / rest / degrees,
        "dffits": student * np.sqrt(hat / rest),
        "dffits_internal": reach / lengths / np.sqrt(dispersion),
        "d_deviance": drop,
        "dfbetas": moved / errors,
    }


def _expected(fit: LinearFit, observed: np.ndarray) -> np.ndarray:
    """Expected curvature of each row's loss; it is linear in the target, so that of the mean."""
    if isinstance(fit.task.loss, (SquaredError, BinaryCrossEntropy, PoissonLoss)):
        return observed
    loss: Any = fit.task.loss
    z = torch.from_numpy(fit.outputs)
    return fit.weights * loss.derivatives(z, loss.prediction(z))[1].detach().numpy()[:, 0]


def _free_dispersion(fit: LinearFit) -> bool:
    return not isinstance(fit.task.loss, (BinaryCrossEntropy, PoissonLoss))


def _unit(fit: LinearFit) -> float:
    """Squared residuals in the unit of the loss's curvature: ``scale`` of a squared error."""
    loss: Any = fit.task.loss
    return 1 / (2 * loss.scale)


def _deviances(fit: LinearFit) -> np.ndarray:
    """Squared deviance residuals: twice the loss above that of a perfect output."""
    loss, z = fit.task.loss, torch.from_numpy(fit.outputs)
    with torch.no_grad():
        losses = loss(z, fit.targets)
        if fit.task.problem_type == "regression":
            perfect = fit.targets.to(z).reshape(z.shape).clamp_min(1e-300).log()
            losses = losses - loss(perfect, fit.targets)
    return 2 * fit.weights * losses.numpy().clip(0.0)


def _raw_basis(fit: LinearFit, basis: np.ndarray) -> np.ndarray:
    """``W`` for features that are not centered, (d, q)."""
    return fit.raw(basis.T).T


def _spread(fit: LinearFit, curvature: np.ndarray) -> np.ndarray:
    """Factor of the inverse of the expected information, (d, q), on raw features."""
    return _raw_basis(fit, _expected_basis(fit, curvature))


def _lengths(fit: LinearFit, curvature: np.ndarray) -> np.ndarray:
    return np.linalg.norm(fit.X @ _expected_basis(fit, curvature), axis=1)


def _expected_basis(fit: LinearFit, curvature: np.ndarray) -> np.ndarray:
    # Xᵀ diag(w E φ'') X + R
    return whitening(fit.X.T @ (curvature[:, None] * fit.X) + fit.penalty[0])
