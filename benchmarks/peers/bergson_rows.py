"""Projected gradients of texts by bergson's collector, of some linear layers."""

from __future__ import annotations

import torch
from bergson.gradients import GradientProcessor

from benchmarks.peers.bergson_peer import Kept

BATCH = 32  # of 64 tokens: its default number of tokens in a batch


class _Rows(Kept):
    """Rows of the last batch, by layer, or all layers' sum in one projection."""

    def backward_hook(self, module, g) -> None:
        found = self._module_gradient(module, g)
        if not self.accumulate_global_projection(module._name, found):  # noqa: SLF001  the peer has no other name
            self.mod_grads[module._name] = self._materialize_gradient(found)  # noqa: SLF001  the same


def rows(net, ids: torch.Tensor, layers: list[str], **projection) -> torch.Tensor:
    """Projected gradients (n_texts, numbers), by its own options for a projection."""
    net.requires_grad_(False)  # as its worker does: only layers' outputs need gradients
    net.get_input_embeddings().requires_grad_(True)
    processor = GradientProcessor(**projection)
    collector = _Rows(model=net, processor=processor, target_modules=set(layers))
    found = []
    for some in ids.split(BATCH):
        collector.mod_grads.clear()
        with collector.with_batch(None):
            net(input_ids=some, labels=some).loss.backward()
        found.append(torch.cat(list(collector.mod_grads.values()), 1))
    net.zero_grad()
    return torch.cat(found)
