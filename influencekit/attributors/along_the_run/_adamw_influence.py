"""The exact derivative of an output through a training run with Adam or AdamW."""

from __future__ import annotations

from typing import Any, Self

from influencekit.attributors.along_the_run._trajectory_influence import TrajectoryInfluence
from influencekit.exceptions import TrajectoryError
from influencekit.training.trajectory._trajectory import Trajectory
from influencekit.training.trajectory.rules._rule import Rule
from influencekit.training.trajectory.rules._sgd import SGDRule

__all__ = ["AdamWInfluence"]


class AdamWInfluence(TrajectoryInfluence):
    """Influence along a recorded training run with AdamW, Adam, or another adaptive optimizer.

    The others are Adadelta, Adagrad, Adamax, NAdam, RAdam and RMSprop of torch.optim, whose steps
    autograd takes back.

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
    SGDInfluence : The same for SGD.
    DVEmb, LESS, InRunShapley : Other published scores of a recorded run.
    FurtherTraining : Where only the final model is there.

    Notes
    -----
    ``score[i, j] = Σ_t df_i / dw_{j,t}`` over the steps t whose batch holds example j: to first
    order what the output f_i loses if j is removed from all of its batches, all else (start,
    order, random numbers) equal.  Positive marks a proponent; the unit is the output's.

    One sweep goes back from the end with the adjoints of parameters and both moments::

        u = (1 - β₁) m̄ + 2 (1 - β₂) g v̄        adjoint of the gradient that the step consumed
        df/dw_j = c_j <∇loss_j - [renormalize] g, u>
        θ̄ <- (1 - η λ) θ̄ + H u

    with the adjoints m̄ and v̄ of the moments, the batch's gradient g, its Hessian H, and the
    example's share c_j of the batch's loss.  Bias correction, the place of ε, schedules,
    parameter groups, gradient clipping and AMSGrad's maximum are all part of it.  Coordinates
    that never had a gradient contribute 0.  This exact form is derived; the paper's
    Algorithm 1 has the curvature of ``curvature="fisher"``, the learning rates' and
    moments' part alike, ``removal="fixed"``, and no derivative of clipping: :meth:`published`.

    Cost: one replay of the run and one double backward of each step for a block of test
    examples; all training examples come out of it.  Memory: the run's snapshots, one segment
    of it, and ``3 p`` numbers for each test example of the block.

    That is first order only.  ``removal_order="finite"`` (derived here as well) is exact in the
    optimizer: its moments m', v' without the example follow from the recorded gradients of the
    others, so that every later step differs by a known δ_k, in all coordinates, and::

        score = -Σ_k <θ̄_{k+1}, δ_k>

    Only the answer of later gradients to moved parameters is first order then.  On smooth models
    this takes most of the error away; ReLU's kinks are another matter, see
    ``curvature="smoothed_hessian"`` and :meth:`taylor_error_proxy`.  Cost: ``T p`` numbers for
    each test example of a block, and the elementwise work of the remaining steps for each
    training example.

    ``curvature="smoothed_hessian"`` (derived here) gives ReLU and leaky ReLU a second derivative
    by the density of a batch's rows at the kink: a normal kernel, a tenth of each unit's standard
    deviation wide.  It is not the derivative of the run, but predicts reruns of ReLU nets better
    where rates are high; other kinks (max pooling) stay as they are.  Left out are coordinates
    whose v is below 1e-4 of the mean: weights whose inputs no active unit has seen, where Adam's
    derivative is up to η/ε and sweeps would explode.

    These scores are exact metagradients, what MAGIC [3]_ and metagradient descent [4]_ compute by
    replaying the training under automatic differentiation: the derivative of an output of the
    trained model by the weight of each training example. Here the optimizer's part is written
    out, so that one double backward a step is enough.

    ``curvature="auto"`` on a ReLU net: 32 reruns without random 10% of the rows and 32 without
    1% of them, trained as a stack, are evaluated at 16 training rows that are never left out.
    Each form ("hessian", "smoothed_hessian" with widths 0.1 and 0.3, "ggn") scores these rows,
    and the one whose scores have the highest LDS, mean of both shares, is taken. Cost: 64
    stacked training runs and the scores of 64 queries. Where copies of the model cannot be
    trained as a stack, or with a ``horizon`` or ``removal_order="finite"``, "auto" is exact.
    ``docs/trajectories.md`` has how near ``expected_lds_`` comes.

    ``mask_size`` and ``n_masks``, as in the paper's experiment with GPT-2 (512 and 10): the
    adjoints of a query have ``n_masks * mask_size`` coordinates of each parameter tensor at most.
    Sums over coordinates, in the scores and in products with the curvature, are weighted by the
    inverse of the sampled share; the paper's are not. Masks that leave nothing out give the exact
    scores if there is one, and with ``curvature="none"`` for any number. Cost with
    "fisher" and "none": the gradients of each batch's rows, whatever the number of queries; with
    the other forms a double backward for each query *and mask*.

    References
    ----------
    .. [1] J. Deng, P. Hu, et al. How faithful is trajectory-based data attribution? Error sources,
       remedies, and practical guidelines. 2026, arXiv 2605.18814.
    .. [2] S. Hara, A. Nitanda, T. Maehara. Data cleansing for models trained with SGD.
       NeurIPS 2019, arXiv 1906.08473.
    .. [3] A. Ilyas, L. Engstrom. MAGIC: near-optimal data attribution for deep learning. 2025,
       arXiv 2504.16430.
    .. [4] L. Engstrom, A. Ilyas, B. Chen, A. Feldmann, W. Moses, A. Madry. Optimizing ML training
       with metagradient descent. 2025, arXiv 2503.13751.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from sklearn.datasets import load_iris
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from influencekit import AdamWInfluence
    >>> from influencekit.training import TrajectoryRecorder
    >>> X, y = load_iris(return_X_y=True)
    >>> X = X.astype(np.float32)
    >>> net = NeuralNetClassifier(nn.Linear, module__in_features=4, module__out_features=3,
    ...     criterion=nn.CrossEntropyLoss, optimizer=torch.optim.AdamW, lr=0.01, batch_size=30,
    ...     max_epochs=3, train_split=None, verbose=0, callbacks=[TrajectoryRecorder()]).fit(X, y)
    >>> AdamWInfluence().fit(net, X, y).score(X[:2], y[:2]).shape
    (2, 150)
    """

    @classmethod
    def published(cls, trajectory: Any = None, **options: Any) -> Self:
        """Algorithm 1 of the paper, AdamW-influence as it was published.

        Parameters
        ----------
        trajectory : Trajectory, recorder or path-like, default=None
        **options
            Other parameters, except for ``curvature``, ``removal``, ``removal_order`` and
            ``horizon``, which the algorithm sets.

        Returns
        -------
        AdamWInfluence
            With ``curvature="fisher"`` and ``removal="fixed"``, derivatives to the end of the run.

        Notes
        -----
        The algorithm propagates the state of parameters and both moments with the mean outer
        product of each batch's gradients for its Hessian, and takes an example's share out of the
        batch's mean with the denominator as it was.  Scores are those of its three coupled
        matrices, to rounding, with the sign of this library: positive marks a proponent.  A run
        with clipped gradients differs: the published sweep has no derivative of clipping.

        The algorithm was read in the public code of its authors; the paper's text was not at hand.

        Examples
        --------
        >>> from influencekit import AdamWInfluence
        >>> AdamWInfluence.published()
        AdamWInfluence(curvature='fisher', removal='fixed')
        """
        return cls(trajectory, "fisher", removal="fixed", **options)

    def _rule(self, trajectory: Trajectory) -> Rule:
        rule = trajectory.rule
        if isinstance(rule, SGDRule):
            raise TrajectoryError(
                f"trajectory: the run was trained with {trajectory.optimizer}; AdamWInfluence "
                "takes runs of Adam, AdamW and their relatives. Use SGDInfluence."
            )
        return rule
