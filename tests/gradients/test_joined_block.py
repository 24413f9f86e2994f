"""Shared weights and small layers in one block, against dense rows and plain autograd."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from influencekit import GradDot, as_task
from influencekit.gradients.blocks._base import BlockSpec
from influencekit.gradients.blocks._dense import DenseBlock
from influencekit.gradients.blocks._index import IndexBlock
from influencekit.gradients.blocks._joined import JoinedBlock
from influencekit.gradients.blocks._outer import OuterBlock
from influencekit.models import SequenceCrossEntropy

WORDS, WIDTH, N, M, LENGTH = 40, 6, 12, 5, 4
WHOLE = BlockSpec("rest", (slice(0, WORDS * WIDTH + 3),))
MATRIX = BlockSpec("words", (slice(0, WORDS * WIDTH),), WORDS, WIDTH)
SMALL = BlockSpec("norm", (slice(WORDS * WIDTH, WORDS * WIDTH + 3),))


def joined(n, rows=1, seed=0):
    """A block, and its dense rows from the definition of its factors."""
    g = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=g)

    a, b = random(n, LENGTH, WIDTH), random(n, rows, LENGTH, WORDS)
    index = torch.randint(WORDS, (n, LENGTH), generator=g)
    c, small = random(n, rows, LENGTH, WIDTH), random(n, rows, 3)
    hot = F.one_hot(index, WORDS).double()
    words = torch.einsum("nti,nrto->nroi", a, b) + torch.einsum("nto,nrti->nroi", hot, c)
    parts = [OuterBlock(MATRIX, a, b), IndexBlock(MATRIX, index, c), DenseBlock(SMALL, small)]
    block = JoinedBlock(WHOLE, parts, [0, 0, WORDS * WIDTH])
    return block, torch.cat([words.flatten(2), small], 2).flatten(0, 1)


@pytest.mark.parametrize("rows", [1, 2])
def test_operations_of_a_joined_block(rows):
    (left, a), (right, b) = joined(7, rows), joined(3, rows, seed=1)
    assert torch.allclose(left.dense(), a)
    for other in (right, right.with_dense_parts(), DenseBlock.of(right)):
        out = torch.zeros(len(a), len(b), dtype=torch.float64)
        left.add_dot(other, out, workspace=4000)
        assert torch.allclose(out, a @ b.T)
    out = torch.zeros(len(b), len(a), dtype=torch.float64)
    right.with_dense_parts().add_dot(left, out)
    assert torch.allclose(out, b @ a.T)
    assert torch.allclose(left.squared_norms(4000), a.square().sum(1))
    matrix, out = torch.randn(WHOLE.width, 2).double(), torch.zeros(len(a), 2).double()
    left.add_matmul(lambda start, stop: matrix[start:stop], out)
    assert torch.allclose(out, a @ matrix)
    weights = torch.randn(3, 7, rows).double()
    assert torch.allclose(left.weighted_sums(weights), weights.flatten(1) @ a)
    assert torch.allclose(left[2:5].dense(), a.view(7, rows, -1)[2:5].flatten(0, 1))
    assert torch.equal(left.replace(*left.tensors).dense(), left.dense())


def test_an_embedding_reads_the_entries_of_dense_rows():
    (left, _), (right, _) = joined(7), joined(3, seed=1)
    a, b = left.parts[1], right.parts[1]
    expected = a.dense() @ b.dense().T
    out = torch.zeros(7, 3, dtype=torch.float64)
    a.add_dot(DenseBlock.of(b), out, workspace=400)
    assert torch.allclose(out, expected)
    assert a.rows_are_cheaper(b, 1000, 100) and not a.rows_are_cheaper(b, 10**6, 10**6)


class Tied(nn.Module):
    """A language model whose output is its embedding, and GPT-2's transposed linear layer."""

    def __init__(self, words, width):
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.middle, self.norm = Conv1D(width), nn.LayerNorm(width)
        self.out = nn.Linear(width, words, bias=False)
        self.out.weight = self.words.weight

    def forward(self, x):
        h = self.words(x)
        return self.out(self.norm(h + torch.tanh(self.middle(h)).cumsum(1)))


class Conv1D(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(0.3 * torch.randn(width, width))
        self.bias = nn.Parameter(torch.randn(width))

    def forward(self, x):
        return x @ self.weight + self.bias


def by_loop(net, x, y):
    rows = []
    for i in range(len(x)):
        loss = F.cross_entropy(net(x[i : i + 1])[0], y[i])
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, net.parameters())]))
    rows = torch.stack(rows)
    return (rows[N:] @ rows[:N].T).double()


@pytest.mark.parametrize(("words", "length"), [(500, 7), (20, 12)])
def test_tied_weights_are_as_precise_as_autograd_in_float32(words, length):
    torch.manual_seed(0)
    net = Tied(words, 8).eval()
    x, y = torch.randint(words, (2, N + M, length))
    theirs = by_loop(net, x, y)

    def ours(**options):
        task = as_task(net.float(), loss=SequenceCrossEntropy())
        fitted = GradDot(output="neg_loss", **options).fit(task, x[:N], y[:N])
        return torch.as_tensor(fitted.score(x[N:], y[N:]))

    found, again, small = ours(), ours(), ours(batch_size=5)
    exact = by_loop(net.double(), x, y)
    assert float((found - exact).abs().max()) <= 3 * float((theirs - exact).abs().max())
    assert torch.equal(found, again)
    assert float((small - exact).abs().max()) <= 3 * float((theirs - exact).abs().max())


@pytest.mark.parametrize(
    "options",
    [{}, {"reduction": "sum"}, {"shift": True}, {"weight": torch.arange(1.0, 8.0).double()}],
)
def test_the_gradient_of_a_sequence_loss_is_that_of_autograd(options):
    loss, g = SequenceCrossEntropy(**options), torch.Generator().manual_seed(0)
    outputs = torch.randn(3, 5, 7, dtype=torch.float64, generator=g).requires_grad_()
    labels = torch.randint(7, (3, 5), generator=g)
    labels[0, 2], labels[2] = -100, -100
    expected = torch.autograd.grad(loss(outputs, labels).sum(), outputs)[0]
    assert torch.allclose(loss.output_gradient(outputs.detach(), labels), expected, atol=1e-14)
    assert SequenceCrossEntropy(label_smoothing=0.1).output_gradient(outputs, labels) is None
