"""Optimizers: Muon for matrices inside layers, Adam for the embedding and the gains."""

import torch
from torch import Tensor


def orthogonalize(matrices: Tensor, rounds: int = 5) -> Tensor:
    """Push the singular values of each (rows <= columns) matrix towards 1, by Newton-Schulz."""
    x = matrices.bfloat16()
    x = x / (x.float().norm(dim=(-2, -1), keepdim=True).bfloat16() + 1e-7)
    for _ in range(rounds):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.float()


class Optimizer:
    """Muon with Nesterov momentum on matrices in layers, Adam on everything else.

    ``state`` holds every tensor that a resumed training needs.
    """

    def __init__(self, weights: dict[str, Tensor], decay: float = 0.05, momentum: float = 0.95):
        self.decay, self.momentum, self.steps = decay, momentum, 0
        self.state = {f"first.{name}": torch.zeros_like(w) for name, w in weights.items()}
        self.groups: dict[tuple[int, int], list[str]] = {}
        self.others = []
        for name, weight in weights.items():
            if weight.ndim == 2 and ".layers." in name:
                shape = (min(weight.shape), max(weight.shape))
                self.groups.setdefault(shape, []).append(name)
            else:
                self.others.append(name)
                self.state[f"second.{name}"] = torch.zeros_like(weight)

    @torch.no_grad()
    def step(
        self, weights: dict[str, Tensor], gradients: dict[str, Tensor], muon: float, adam: float
    ) -> None:
        """Change ``weights`` in place, at the learning rates ``muon`` and ``adam``."""
        self.steps += 1
        for names in self.groups.values():
            self._muon(names, weights, gradients, muon)
        for name in self.others:
            self._adam(name, weights[name], gradients[name], adam)

    def _muon(self, names, weights, gradients, rate: float) -> None:
        updates = []
        for name in names:
            first = self.state[f"first.{name}"].lerp_(gradients[name], 1 - self.momentum)
            update = gradients[name].lerp(first, self.momentum)
            updates.append(update.mT if update.shape[0] > update.shape[1] else update)
        for name, update in zip(names, orthogonalize(torch.stack(updates)), strict=True):
            weight = weights[name]
            rows, columns = weight.shape
            update = update.mT if rows > columns else update
            weight.mul_(1 - rate * self.decay)
            weight.add_(update, alpha=-rate * max(1.0, rows / columns) ** 0.5)

    def _adam(self, name: str, weight: Tensor, gradient: Tensor, rate: float) -> None:
        first = self.state[f"first.{name}"].lerp_(gradient, 1 - 0.9)
        second = self.state[f"second.{name}"].lerp_(gradient.square(), 1 - 0.98)
        root = (second / (1 - 0.98**self.steps)).sqrt_().add_(1e-10)
        weight.addcdiv_(first, root, value=-rate / (1 - 0.9**self.steps))
