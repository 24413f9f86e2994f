"""Models of every kind, each with real-looking inputs and what is expected to have factors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from tests.gradients._reference import integers, normal

N = 6


@dataclass(frozen=True)
class Case:
    """``factored``: names of blocks with factors; ``dense``: parameters of the fallback."""

    name: str
    module: Callable[[], nn.Module]
    inputs: Callable[[], Any]
    factored: tuple[str, ...] = ()
    fallback: tuple[str, ...] = ()
    tolerance: float = 1e-10


class Apply(nn.Module):
    """A module around a function of (self, *inputs)."""

    def __init__(self, function, **children):
        super().__init__()
        self.function = function
        for name, child in children.items():
            setattr(self, name, child)

    def forward(self, *args, **kwargs):
        return self.function(self, *args, **kwargs)


def _frozen(module, *names):
    for name, p in module.named_parameters():
        p.requires_grad_(name not in names)
    return module


def _tied():
    net = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 2))
    net[2].weight = net[0].weight
    return net


def _language_model(tied: bool):
    embedding, decoder = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
    if tied:
        decoder.weight = embedding.weight
    return Apply(
        lambda self, x: self.decoder(torch.tanh(self.embedding(x)).cumsum(1)),
        embedding=embedding,
        decoder=decoder,
    )


def _tied_with_bias():
    """BERT's head: weight and bias of the last layer stand in two places each."""
    net = _language_model(False)
    decoder = net.decoder = nn.Linear(4, 7)
    decoder.weight = net.embedding.weight
    net.register_parameter("bias", decoder.bias)
    return net


def _tied_three_ways(forward):
    embedding, body, head = nn.Embedding(4, 4), nn.Linear(4, 4, bias=False), nn.Linear(4, 4, False)
    head.weight = embedding.weight
    return Apply(forward, embedding=embedding, body=body, head=head)


class OwnNorm(nn.Module):
    """A library's own scale of features: function of (x, weight, bias)."""

    def __init__(self, size, function, bias=False):
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.randn(size))
        self.bias = nn.Parameter(torch.randn(size)) if bias else None

    def forward(self, x):
        return self.function(x, self.weight, self.bias)


class Conv1D(nn.Module):
    """GPT-2's linear layer, whose weight is (d_in, d_out)."""

    def __init__(self, d_in, d_out):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(d_in, d_out))
        self.bias = nn.Parameter(torch.randn(d_out))

    def forward(self, x):
        return x @ self.weight + self.bias


def _conv(*args, kind=nn.Conv2d, **kwargs):
    return lambda: nn.Sequential(kind(*args, **kwargs), nn.ReLU(inplace=True), nn.Flatten())


def _batch_norm():
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(48)
    )
    for m in net.modules():
        if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)):
            m.running_mean.copy_(normal(m.num_features, seed=3))
            m.running_var.copy_(normal(m.num_features, seed=4).square() + 0.1)
            nn.init.normal_(m.weight)
    return net


class Attention(nn.Module):
    def __init__(self, batch_first):
        super().__init__()
        self.mha = nn.MultiheadAttention(4, 2, batch_first=batch_first)
        self.batch_first = batch_first

    def forward(self, x):
        x = x if self.batch_first else x.transpose(0, 1)
        y = self.mha(x, x, x, need_weights=False)[0]
        return (y if self.batch_first else y.transpose(0, 1)).flatten(1)


def _transformer(**kwargs):
    layer = nn.TransformerEncoderLayer(4, 2, dim_feedforward=6, batch_first=True, **kwargs)
    body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)  # nothing is masked
    return nn.Sequential(body, nn.Flatten(), nn.Linear(12, 2))


def _sequence_first():
    return Apply(
        lambda self, x: self.head(torch.tanh(self.body(x.transpose(0, 1)))).transpose(0, 1),
        body=nn.Linear(4, 5),
        head=nn.Linear(5, 2),
    )


def _recurrent(kind, width=3, **options):
    return Apply(
        lambda self, x: self.head(self.cell(x)[0][:, -1]),
        cell=kind(4, 3, batch_first=True, **options),
        head=nn.Linear(width, 2),
    )


def _positions_first():
    def forward(self, x):
        y = self.inner(x.transpose(0, 1).reshape(-1, 4))
        return self.plain(y.view(x.shape[1], len(x), 3).sum(0))

    return Apply(forward, inner=nn.Linear(4, 3), plain=nn.Linear(3, 2))


def _cross_attention():
    def forward(self, x):
        return self.mha(x.mT[:, :, :1].mT, x.tanh(), x, need_weights=True)[0].flatten(1)

    return Apply(forward, mha=nn.MultiheadAttention(4, 2, batch_first=True))


def _bag(**options):
    return lambda: nn.Sequential(nn.EmbeddingBag(7, 4, **options), nn.Linear(4, 2))


def _vision(self, x):
    x = torch.cat([self.first.expand(len(x), -1, -1), self.one(x)], 1) + self.places
    return (self.heads @ (self.channels * x).tanh()).mean(1) * self.scale


def _residual(self, x):
    x = self.first(x)
    x = x + self.shared(F.relu(x, inplace=False))
    x = torch.tanh(x)
    return self.shared(x)


def image(c=2, h=6, w=6):
    return lambda: normal(N, c, h, w)


def table():
    return normal(N, 5)


def sequence():
    return normal(N, 3, 4)


def tokens():
    return integers(7, N, 5)


CASES = [
    Case("linear", lambda: nn.Linear(5, 3), table, ("",)),
    Case("no_bias", lambda: nn.Linear(5, 3, bias=False), table, ("",)),
    Case("one_output", lambda: nn.Sequential(nn.Linear(5, 1), nn.Flatten(0)), table, ("0",)),
    Case(
        "relu_in_place",
        lambda: nn.Sequential(nn.Linear(5, 6), nn.ReLU(inplace=True), nn.Linear(6, 2)),
        table,
        ("0", "2"),
    ),
    Case(
        "sequence",
        lambda: nn.Sequential(
            nn.Linear(4, 9), nn.GELU(), nn.Linear(9, 12), nn.Flatten(), nn.Linear(36, 2)
        ),
        sequence,
        ("0", "2", "4"),
    ),
    Case(
        "two_sequence_dims",
        lambda: nn.Sequential(nn.Linear(4, 20), nn.Tanh(), nn.Linear(20, 20)),
        lambda: normal(N, 3, 2, 4),
        ("0", "2"),
    ),
    Case("sequence_first", _sequence_first, sequence, ("body", "head")),
    Case(
        "rows_side_by_side",
        lambda: Apply(
            lambda self, x: self.one(x.reshape(-1, 4)).reshape(len(x), -1), one=nn.Linear(4, 6)
        ),
        sequence,
        ("one",),
    ),
    Case("tied", _tied, table, ("4",)),
    Case("positions_first", _positions_first, sequence, ("plain", "inner.weight")),
    Case(
        "reused",
        lambda: Apply(_residual, first=nn.Linear(5, 6), shared=nn.Linear(6, 6)),
        table,
        ("first", "shared"),
    ),
    Case("conv2d", _conv(2, 5, 3), image(), ("0",)),
    Case(
        "conv2d_strided",
        _conv(2, 4, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2)),
        image(),
        ("0",),
    ),
    Case("conv2d_same", _conv(2, 4, (3, 4), padding="same", dilation=2), image(), ("0",)),
    Case("conv2d_valid_no_bias", _conv(2, 4, 5, padding="valid", bias=False), image(), ("0",)),
    Case("conv2d_reflect", _conv(2, 4, 3, padding=1, padding_mode="reflect"), image(), ("0",)),
    Case("conv2d_circular", _conv(2, 4, 3, padding=2, padding_mode="circular"), image(), ("0",)),
    Case("conv2d_groups", _conv(4, 6, 3, groups=2), image(4)),
    Case("conv2d_depthwise", _conv(4, 8, 3, groups=4, padding=1, bias=False), image(4)),
    Case(
        "conv1d",
        _conv(3, 4, 3, kind=nn.Conv1d, stride=2, padding=1),
        lambda: normal(N, 3, 8),
        ("0",),
    ),
    Case(
        "conv1d_same_replicate",
        _conv(3, 4, 4, kind=nn.Conv1d, padding="same", padding_mode="replicate"),
        lambda: normal(N, 3, 8),
        ("0",),
    ),
    Case(
        "conv3d",
        _conv(2, 3, 2, kind=nn.Conv3d),
        lambda: normal(N, 2, 3, 3, 3),
        ("0",),
    ),
    Case(
        "conv_transposed",
        _conv(2, 3, 2, kind=nn.ConvTranspose2d),
        image(),
    ),
    Case(
        "conv_transposed_strided",
        _conv(2, 3, (2, 3), (2, 1), (1, 0), (1, 0), dilation=(1, 2), kind=nn.ConvTranspose2d),
        image(),
    ),
    Case(
        "conv_transposed_grouped",
        _conv(2, 4, 2, groups=2, kind=nn.ConvTranspose2d),
        image(),
        (),
        ("0.weight", "0.bias"),
    ),
    Case("embedding_bag", _bag(), tokens, ("0", "1")),
    Case("embedding_bag_padded", _bag(mode="sum", padding_idx=2), tokens, ("0", "1")),
    Case("embedding_bag_mean_padded", _bag(padding_idx=2), tokens, ("0", "1")),
    Case("embedding_bag_largest", _bag(mode="max"), tokens, ("1",), ("0.weight",)),
    Case(
        "positions_of_one_text",
        lambda: Apply(
            lambda self, x: self.head(self.words(x) + self.places(torch.arange(5)[None])).mean(1),
            words=nn.Embedding(7, 4),
            places=nn.Embedding(6, 4),
            head=nn.Linear(4, 2),
        ),
        tokens,
        ("words", "head", "places"),
    ),
    Case(
        "positions_without_texts",
        lambda: Apply(
            lambda self, x: self.head(self.words(x) + self.places(torch.arange(5))).mean(1),
            words=nn.Embedding(7, 4),
            places=nn.Embedding(6, 4),
            head=nn.Linear(4, 2),
        ),
        tokens,
        ("words", "head", "places"),
    ),
    Case(
        "vision",
        lambda: Apply(
            _vision,
            one=nn.Linear(4, 4),
            first=nn.Parameter(torch.ones(1, 1, 4)),
            places=nn.Parameter(0.1 * torch.arange(16.0).view(1, 4, 4)),
            channels=nn.Parameter(torch.ones(4)),
            heads=nn.Parameter(torch.ones(4, 4)),
            scale=nn.Parameter(torch.tensor(0.5)),
        ),
        sequence,
        ("one",),
    ),
    Case("batch_norm", _batch_norm, image(), ("0",)),
    Case(
        "norms",
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3),
            nn.GroupNorm(2, 4),
            nn.LayerNorm((4, 4)),
            nn.SiLU(),
            nn.Flatten(),
            nn.LayerNorm(64),
            nn.RMSNorm(64),
            nn.GroupNorm(4, 64),
            nn.Linear(64, 2),
        ),
        image(),
        ("0", "8"),
    ),
    Case(
        "layer_norm_sequence",
        lambda: nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 7)),
        sequence,
        ("1",),
    ),
    Case("embedding", lambda: _language_model(False), tokens, ("embedding", "decoder")),
    Case("tied_embedding", lambda: _language_model(True), tokens),
    Case("tied_with_bias", _tied_with_bias, tokens),
    Case(
        "tied_three_ways",
        lambda: _tied_three_ways(lambda self, x: self.head(self.body(self.embedding(x)).tanh())),
        lambda: integers(4, N, 5),
        ("body",),
    ),
    Case(
        "tied_where_it_cannot_be_seen",
        lambda: _tied_three_ways(
            lambda self, x: F.linear(self.head(self.embedding(x)).tanh(), self.embedding.weight)
        ),
        lambda: integers(4, N, 5),
        (),
        ("embedding.weight",),
    ),
    Case(
        "foreign_norms",
        lambda: nn.Sequential(
            nn.Linear(4, 6),
            OwnNorm(6, lambda x, w, b: w * x / x.square().mean(-1, keepdim=True).sqrt()),
            OwnNorm(6, lambda x, w, b: (1 + w) * x / x.norm(dim=-1, keepdim=True)),
            OwnNorm(6, lambda x, w, b: w * (x - x.mean(-1, keepdim=True)) + b, bias=True),
            nn.PReLU(6),
            nn.Linear(6, 7),
        ),
        lambda: normal(N, 4),
        ("0", "5"),
    ),
    Case(
        "foreign_norms_of_sequences",
        lambda: nn.Sequential(
            OwnNorm(4, lambda x, w, b: w * x / x.square().mean(-1, keepdim=True).sqrt()),
            OwnNorm(4, lambda x, w, b: w * x.sin() + b, bias=True),
        ),
        sequence,
    ),
    Case(
        "not_affine_in_its_weight",
        lambda: nn.Sequential(nn.Linear(5, 4), OwnNorm(4, lambda x, w, b: torch.exp(w) * x)),
        table,
        ("0",),
    ),
    Case(
        "one_slope_for_all",
        lambda: nn.Sequential(nn.Linear(5, 4), nn.PReLU()),
        table,
        ("0",),
    ),
    Case("slopes", lambda: nn.Sequential(nn.Linear(5, 4), nn.PReLU(4)), table, ("0",)),
    Case("slopes_of_channels", lambda: nn.Sequential(nn.Conv2d(2, 3, 2), nn.PReLU(3)), image()),
    Case("gpt2_linear", lambda: nn.Sequential(Conv1D(4, 6), nn.GELU(), Conv1D(6, 3)), sequence),
    Case("gpt2_linear_of_rows", lambda: nn.Sequential(Conv1D(5, 3)), table),
    Case(
        "embedding_padding",
        lambda: nn.Sequential(nn.Embedding(7, 4, padding_idx=2), nn.Flatten(), nn.Linear(20, 2)),
        tokens,
        ("0", "2"),
    ),
    Case(
        "embedding_max_norm",
        lambda: nn.Sequential(
            _frozen(nn.Embedding(7, 4, max_norm=50.0)), nn.Flatten(), nn.Linear(20, 2)
        ),
        tokens,
        ("2",),
        ("0.weight",),
    ),
    Case(
        "attention",
        lambda: Attention(True),
        sequence,
        ("mha.in_proj_weight", "mha.out_proj.weight"),
    ),
    Case(
        "attention_sequence_first",
        lambda: Attention(False),
        sequence,
        ("mha.in_proj_weight", "mha.out_proj.weight"),
    ),
    Case("cross_attention", _cross_attention, sequence),
    Case(
        "transformer",
        _transformer,
        sequence,
        (
            "0.layers.0.linear1",
            "0.layers.0.linear2",
            "0.layers.1.linear1",
            "0.layers.1.linear2",
            "2",
            "0.layers.0.self_attn.in_proj_weight",
            "0.layers.1.self_attn.in_proj_weight",
            "0.layers.0.self_attn.out_proj.weight",
            "0.layers.1.self_attn.out_proj.weight",
        ),
    ),
    Case(
        "transformer_norm_first", lambda: _transformer(norm_first=True, activation="gelu"), sequence
    ),
    Case(
        "lstm",
        lambda: _recurrent(nn.LSTM),
        sequence,
        ("head", "cell.weight_ih_l0", "cell.weight_hh_l0"),
    ),
    Case(
        "gru",
        lambda: _recurrent(nn.GRU),
        sequence,
        ("head", "cell.weight_ih_l0", "cell.weight_hh_l0"),
    ),
    Case(
        "lstm_both_ways",
        lambda: _recurrent(nn.LSTM, 4, num_layers=2, bidirectional=True, proj_size=2),
        sequence,
    ),
    Case("rnn", lambda: _recurrent(nn.RNN, nonlinearity="relu", bias=False), sequence),
    Case(
        "parametrized",
        lambda: nn.Sequential(
            nn.utils.parametrizations.weight_norm(nn.Linear(5, 4)), nn.Linear(4, 2)
        ),
        table,
        ("1",),
        ("0.parametrizations.weight.original0", "0.parametrizations.weight.original1"),
    ),
    Case(
        "frozen",
        lambda: _frozen(
            nn.Sequential(
                nn.Linear(5, 6),
                nn.Tanh(),
                nn.Linear(6, 6),
                nn.Tanh(),
                nn.Linear(6, 2),
                nn.LayerNorm(2),
            ),
            "0.weight",
            "0.bias",
            "2.weight",
            "4.bias",
            "5.weight",
        ),
        table,
        ("4",),
    ),
    Case("frozen_conv_weight", lambda: _frozen(_conv(2, 5, 3)(), "0.weight"), image()),
    Case(
        "loose_parameter",
        lambda: Apply(
            lambda self, x: self.scale * self.one(x) + self.table[1],
            one=nn.Linear(5, 3),
            scale=nn.Parameter(torch.ones(3)),
            table=nn.Parameter(torch.ones(2, 3)),
        ),
        table,
        ("one",),
        ("table",),
    ),
    Case(
        "never_called",
        lambda: Apply(lambda self, x: self.one(x), one=nn.Linear(5, 3), spare=nn.Linear(5, 2)),
        table,
        ("one",),
    ),
    Case(
        "bilinear",
        lambda: Apply(lambda self, x: self.b(x, x.sin()), b=nn.Bilinear(5, 5, 2)),
        table,
        ("b",),
    ),
    Case(
        "bilinear_along_a_sequence",
        lambda: Apply(
            lambda self, x: self.b(input1=x.sin(), input2=x[..., :3]).mean(1),
            b=nn.Bilinear(5, 3, 2),
        ),
        lambda: normal(N, 3, 5),
        ("b",),
    ),
    Case(
        "dict_inputs",
        lambda: Apply(
            lambda self, number, word: self.head(
                torch.cat([self.n(input=number), self.w(word).mean(1)], 1)
            ),
            n=nn.Linear(5, 3),
            w=nn.Embedding(7, 2),
            head=nn.Linear(5, 2),
        ),
        lambda: {"word": tokens(), "number": table()},
        ("n", "w", "head"),
    ),
    Case(
        "tuple_inputs",
        lambda: Apply(
            lambda self, x, y: self.one(x) * self.two(y), one=nn.Linear(5, 3), two=nn.Linear(5, 3)
        ),
        lambda: (table(), table().cos()),
        ("one", "two"),
    ),
    Case(
        "unsupported_under_vmap",
        lambda: Apply(
            lambda self, x: self.one(x) * (self.scale[1] if float(x.detach().sum()) < 1e9 else 0),
            one=nn.Linear(5, 3),
            scale=nn.Parameter(torch.ones(2, 3)),
        ),
        table,
        ("one",),
        ("scale",),
    ),
]
