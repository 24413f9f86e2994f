"""The exact derivative of an output through a training run with SGD."""

from __future__ import annotations

from influencekit.attributors.along_the_run._recorded_run import warn_unless_sgd
from influencekit.attributors.along_the_run._trajectory_influence import TrajectoryInfluence
from influencekit.training.trajectory._trajectory import Trajectory
from influencekit.training.trajectory.rules._rule import Rule
from influencekit.training.trajectory.rules._sgd import SGDRule

__all__ = ["SGDInfluence"]


class SGDInfluence(TrajectoryInfluence):
    """Influence along a recorded training run with SGD, momentum included.

    Parameters
    ----------
    trajectory : Trajectory, recorder or path-like, default=None
        The recording of the model's training; None uses that of the
        :class:`~influencekit.training.TrajectoryRecorder` in the fitted skorch net.
        A path is a folder written by a recorder.
    curvature : {"auto", "hessian", "smoothed_hessian", "ggn", "fisher", "none"}, default="auto"
        How the gradient of a batch changes with the parameters: exactly ("hessian"), with the
        expected switching of ReLU units added, by the Gauss-Newton matrix, by the mean outer
        product of the examples' gradients, or not at all. "auto" is exact for nets without ReLU.
        For nets with ReLU, ``fit`` repeats the run without random rows and takes the form that
        predicts these reruns best; see the notes. With masks "auto" is "fisher".
    removal : {"renormalize", "fixed"}, default="renormalize"
        A batch's mean loss without the example: the mean over the remaining examples, as if the
        example is deleted, or the remaining sum over the same denominator as before.
    removal_order : {"derivative", "finite"}, default="derivative"
        How removal affects the optimizer: to first order, or by the full change of its steps with
        the recorded gradients of the other examples. "finite" repeats the optimizer's steps for
        each training example, and needs ``horizon=None``.
    rows : {"batch", "all"}, default="batch"
        Which rows are scored at a step: those of its batch, or all rows given to ``fit``, also such
        that the run did not see, as if each batch had a part of every row. "all" is what "batch"
        gives on average over orders of the rows. It needs ``removal_order="derivative"``.
    horizon : int or None, default=None
        Steps after which the output is read, counted from the parameters before the step that
        consumes the example: None is the end of training, K the parameters K steps later.
        0 uses the output's gradient at that point.
    mask_size : int or None, default=None
        For large models: number of random coordinates of each parameter tensor in a mask. Scores
        are computed within each of ``n_masks`` disjoint masks and summed, weighted so that they
        estimate those of all coordinates. None uses all coordinates together.
    n_masks : int, default=10
        Number of masks; without effect if ``mask_size=None``.
    output : {"auto", "neg_loss", "margin", "logit", "prediction"} or callable, default="auto"
        Scalar that is explained, higher for a better model.
    batch_size : int or None, default=None
        Number of test examples per sweep; None is as many as memory allows.
    max_memory : int, str or None, default=None
        Memory limit for the adjoints of a sweep's test examples; None is 1 GiB.
    random_state : int, RandomState instance or None, default=None
        Seed for the masks.
    verbose : int, default=0

    Attributes
    ----------
    curvature_ : str
        Form of the curvature in use.
    smoothing_ : float or None
        Width of "smoothed_hessian", in standard deviations of a unit's inputs over the batch.
    expected_lds_ : dict of float to float
        Estimated LDS of the scores against reruns of this run, by the share of rows that the
        reruns leave out: 0.1 and 0.01. Computed when it is first read, if ``fit`` did not need
        it; NaN if too many reruns diverge.
    trajectory_ : Trajectory
    train_rows_ : ndarray
        Rows of X_train that the model learned from.

    See Also
    --------
    AdamWInfluence : The same for Adam, AdamW and their relatives.
    DVEmb, InRunShapley : Published scores of the same run, without its optimizer.
    TracIn : Inner products at some checkpoints.

    Notes
    -----
    ``score[i, j] = Σ_t df_i / dw_{j,t}`` over the steps t whose batch holds example j: to first
    order what the output f_i loses if j is removed from all of its batches, all else (start,
    order, random numbers) equal.  Positive marks a proponent; the unit is the output's.
    Without momentum::

        df/dw_j = -η c_j <∇loss_j - [renormalize] g, θ̄>,     θ̄ <- θ̄ - η (H + λ) θ̄

    from the last step to the first, with θ̄ = ∇f at the end.  Momentum, dampening, Nesterov's
    form, schedules, parameter groups, weight decay and clipping are part of it.

    A run of Adam or AdamW is accepted too, with a warning, and treated as a run of plain SGD with
    the same learning rates: the estimator that AdamW-influence improves on.

    ``horizon=0`` with ``removal="fixed"`` is TracIn along the whole run, and the first-order
    In-Run score: ``-η_t c_j <∇f(θ_t), ∇loss_j(θ_t)>`` summed over steps, for SGD without
    momentum.

    These scores are exact metagradients, the derivatives through training of MAGIC [4]_ and of
    metagradient descent [5]_.

    Cost and memory, masks and ``curvature="auto"`` are as for :class:`AdamWInfluence`, with p or
    2 p numbers for each test example.

    References
    ----------
    .. [1] S. Hara, A. Nitanda, T. Maehara. Data cleansing for models trained with SGD.
       NeurIPS 2019, arXiv 1906.08473.
    .. [2] G. Pruthi, F. Liu, M. Sundararajan, S. Kale. Estimating training data influence by
       tracing gradient descent. NeurIPS 2020, arXiv 2002.08484.
    .. [3] J. T. Wang, P. Mittal, D. Song, R. Jia. Data Shapley in one training run. ICLR 2025,
       arXiv 2406.11011.
    .. [4] A. Ilyas, L. Engstrom. MAGIC: near-optimal data attribution for deep learning. 2025,
       arXiv 2504.16430.
    .. [5] L. Engstrom, A. Ilyas, B. Chen, A. Feldmann, W. Moses, A. Madry. Optimizing ML training
       with metagradient descent. 2025, arXiv 2503.13751.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from influencekit import SGDInfluence
    >>> from influencekit.training import TrajectoryRecorder
    >>> X, y = load_iris(return_X_y=True)
    >>> X = X.astype(np.float32)
    >>> net = NeuralNetClassifier(nn.Linear, module__in_features=4, module__out_features=3,
    ...     criterion=nn.CrossEntropyLoss, lr=0.1, batch_size=30, max_epochs=3, train_split=None,
    ...     verbose=0, callbacks=[TrajectoryRecorder()]).fit(X, y)
    >>> SGDInfluence().fit(net, X, y).score(X[:2], y[:2]).shape
    (2, 150)
    """

    def _rule(self, trajectory: Trajectory) -> Rule:
        warn_unless_sgd("SGDInfluence", trajectory)
        return trajectory.rule if isinstance(trajectory.rule, SGDRule) else SGDRule()
