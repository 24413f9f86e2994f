"""Nets that are not MLPs, on random data: convolutions, transformers, language models, LSTM."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.problems.tensors import Problem, Settings


def _conv(n_in: int, n_out: int, pool: bool = False) -> nn.Sequential:
    layers = [nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()]
    return nn.Sequential(*layers, *[nn.MaxPool2d(2)] * pool)


class ResNet9(nn.Module):
    """Convolutions with BatchNorm and two shortcuts, for images of 32 x 32."""

    def __init__(self, width: int = 16, n_classes: int = 10):
        super().__init__()
        w = width
        self.start = nn.Sequential(_conv(3, w), _conv(w, 2 * w, True))
        self.first = nn.Sequential(_conv(2 * w, 2 * w), _conv(2 * w, 2 * w))
        self.middle = nn.Sequential(_conv(2 * w, 4 * w, True), _conv(4 * w, 8 * w, True))
        self.second = nn.Sequential(_conv(8 * w, 8 * w), _conv(8 * w, 8 * w))
        self.out = nn.Linear(8 * w, n_classes)

    def forward(self, x):
        x = self.start(x)
        x = self.middle(x + self.first(x))
        x = x + self.second(x)
        return self.out(x.amax((2, 3)))


class Attention(nn.Module):
    """Self-attention of linear layers."""

    def __init__(self, width: int, heads: int, linear=nn.Linear, causal: bool = False):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv, self.out = linear(width, 3 * width), linear(width, width)

    def forward(self, x):
        n, t, d = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(mixed.transpose(1, 2).reshape(n, t, d))


class Transformer(nn.Sequential):
    """Blocks of attention and an MLP, normalized before each."""

    def __init__(self, width: int, blocks: int, heads: int, linear=nn.Linear, causal: bool = False):
        super().__init__(*(_Block(width, heads, linear, causal) for _ in range(blocks)))


class _Block(nn.Module):
    def __init__(self, width, heads, linear, causal):
        super().__init__()
        self.norm, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, linear, causal)
        self.mlp = nn.Sequential(linear(width, 4 * width), nn.GELU(), linear(4 * width, width))

    def forward(self, x):
        x = x + self.attention(self.norm(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Patches of 4 x 4, a class token and positions as bare parameters."""

    def __init__(self, width: int = 96, blocks: int = 6, n_classes: int = 10):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.cls = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.places = nn.Parameter(0.02 * torch.randn(1, 65, width))
        self.blocks = Transformer(width, blocks, 4)
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, n_classes)

    def forward(self, x):
        x = self.patches(x).flatten(2).mT
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.places
        return self.out(self.norm(self.blocks(x))[:, 0])


class Conv1D(nn.Module):
    """GPT-2's linear layer, whose weight is (d_in, d_out)."""

    def __init__(self, d_in: int, d_out: int):
        super().__init__()
        self.weight = nn.Parameter(0.02 * torch.randn(d_in, d_out))
        self.bias = nn.Parameter(torch.zeros(d_out))

    def forward(self, x):
        return torch.addmm(self.bias, x.reshape(-1, x.shape[-1]), self.weight).view(
            *x.shape[:-1], -1
        )


class GPT(nn.Module):
    """GPT-2's shape: positions looked up once for all texts, output tied to the words or not."""

    def __init__(self, words: int, tied: bool, width: int = 64, blocks: int = 2, length: int = 64):
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(length, width)
        self.blocks = Transformer(width, blocks, 4, Conv1D, causal=True)
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, words, bias=False)
        if tied:
            self.out.weight = self.words.weight

    def forward(self, x):
        places = torch.arange(x.shape[1], device=x.device)[None]
        return self.out(self.norm(self.blocks(self.words(x) + self.places(places))))


class Recurrent(nn.Module):
    """Words, an LSTM or a TransformerEncoder of torch, and one answer."""

    def __init__(self, kind: str, words: int = 2000, width: int = 64):
        super().__init__()
        self.words = nn.Embedding(words, width)
        if kind == "LSTM":
            self.body = nn.LSTM(width, width, batch_first=True)
        else:
            layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.1, batch_first=True)
            self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(width, 4)

    def forward(self, x):
        h = self.body(self.words(x))
        h = h[0] if isinstance(h, tuple) else h
        return self.out(h.mean(1))


class BERT(nn.Module):
    """Words, positions and types, padding hidden by a mask, an answer from the first position."""

    def __init__(self, words: int = 2000, width: int = 64, blocks: int = 2, length: int = 64):
        super().__init__()
        self.words = nn.Embedding(words, width, padding_idx=0)
        self.places, self.types = nn.Embedding(length, width), nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(_Encoder(width, 4) for _ in range(blocks))
        self.pooler, self.out = nn.Linear(width, width), nn.Linear(width, 4)

    def forward(self, x):
        places = torch.arange(x.shape[1], device=x.device)[None]
        h = self.norm(self.words(x) + self.places(places) + self.types(torch.zeros_like(x)))
        mask = (x != 0)[:, None, None]
        for block in self.blocks:
            h = block(h, mask)
        return self.out(torch.tanh(self.pooler(h[:, 0])))


class _Encoder(nn.Module):
    """A block of BERT: one linear layer each for queries, keys and values, normalized after."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out, self.norm, self.norm2 = (
            nn.Linear(width, width),
            nn.LayerNorm(width),
            nn.LayerNorm(width),
        )
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, h, mask):
        q, k, v = (
            layer(h).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        h = self.norm(h + self.out(mixed.transpose(1, 2).flatten(2)))
        return self.norm2(h + self.mlp(h))


def _images(n):
    return torch.randn(n, 3, 32, 32), torch.randint(10, (n,))


def _texts(n, words, length=32):
    x = torch.randint(words, (n, length + 1))
    return x[:, :-1], x[:, 1:]


def _labelled(n):
    return torch.randint(2000, (n, 40)), torch.randint(4, (n,))


def _padded(n, length=40):
    """Texts of 10 to 40 words, padded with 0."""
    lengths = torch.randint(10, length + 1, (n, 1))
    x = torch.randint(1, 2000, (n, length))
    return torch.where(torch.arange(length) < lengths, x, 0), torch.randint(4, (n,))


#: Name: net, and data of n rows.
NETS = {
    "ResNet-9": (ResNet9, _images),
    "ViT": (ViT, _images),
    "GPT-2, 50,257 words, tied": (lambda: GPT(50257, True), lambda n: _texts(n, 50257)),
    "GPT-2, 50,257 words, untied": (lambda: GPT(50257, False), lambda n: _texts(n, 50257)),
    "GPT-2, 512 words, tied": (lambda: GPT(512, True), lambda n: _texts(n, 512)),
    "BERT with mask": (BERT, _padded),
    "LSTM": (lambda: Recurrent("LSTM"), _labelled),
    "TransformerEncoder": (lambda: Recurrent("TransformerEncoder"), _labelled),
}
#: Training rows and queries of each, (48, 6) for the others.
ROWS = dict.fromkeys(("ResNet-9", "BERT with mask", "LSTM", "TransformerEncoder"), (300, 30))
ROWS["ViT"] = (100, 10)


def rows_of(name: str, n: int | None = None, m: int | None = None) -> tuple[int, int]:
    """Training rows and queries, as given or of the net's own number."""
    own_n, own_m = ROWS.get(name, (48, 6))
    return n or own_n, m or own_m


def for_libraries(name: str, n: int, m: int, damping: float | str) -> Problem:
    """The net and ``n + m`` rows, as every library is given them; the first m are the queries."""
    net, x, y = problem(name, n + m)
    return Problem(name, net, x[m:], y[m:], x[:m], y[:m], [], Settings(damping=damping))


def problem(name: str, n: int):
    """The net in eval mode, inputs and targets, always the same."""
    torch.manual_seed(0)
    make, data = NETS[name]
    net = make()
    x, y = data(n)
    if name == "ResNet-9":  # statistics of data, as after training
        with torch.no_grad():
            for _ in range(10):
                net.train()(x[:64])
    return net.eval(), x, y
