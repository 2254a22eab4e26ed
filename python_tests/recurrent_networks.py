"""Small networks with memory, written out: one cell, and a loop over steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from networks import ACTIONS, DIM, OBS

SIZE = 5


class Memory(nn.Module):
    """A state that each step moves on; rows ``[B, ...]``, or sequences where reset is [., B]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.into = nn.Linear(inputs, SIZE)
        self.again = nn.Linear(SIZE, SIZE)
        self.out = nn.Linear(SIZE, outputs)

    def run(self, x: Tensor, hidden: Tensor | None, reset: Tensor | None) -> tuple[Tensor, Tensor]:
        sequences = reset is not None and reset.dim() == 2
        steps = x if sequences else x[None]
        state = x.new_zeros(steps.shape[1], SIZE) if hidden is None else hidden
        found = []
        for t, step in enumerate(steps):
            if reset is not None and t == 0:
                state = state.masked_fill(reset.view(-1, 1), 0)
            state = torch.tanh(self.into(step) + self.again(state))
            found.append(self.out(state))
        y = torch.stack(found)
        return (y if sequences else y[0]), state


class RecurrentQ(Memory):
    def __init__(self) -> None:
        super().__init__(OBS, ACTIONS)

    def forward(
        self, state: Tensor, hidden: Tensor | None = None, reset: Tensor | None = None
    ) -> Any:
        return self.run(state, hidden, reset)


class RecurrentValue(Memory):
    def __init__(self) -> None:
        super().__init__(OBS, 1)

    def forward(
        self, state: Tensor, hidden: Tensor | None = None, reset: Tensor | None = None
    ) -> Any:
        return self.run(state, hidden, reset)


class RecurrentCritic(Memory):
    def __init__(self) -> None:
        super().__init__(OBS + DIM, 1)

    def forward(
        self,
        state: Tensor,
        action: Tensor,
        hidden: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> Any:
        y, hidden = self.run(torch.cat([state, action], -1), hidden, reset)
        return y, "extra", hidden


class RecurrentDiscrete(Memory):
    def __init__(self) -> None:
        super().__init__(OBS, ACTIONS)

    def forward(
        self,
        state: Tensor,
        action: Tensor | None = None,
        hidden: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> Any:
        logits, hidden = self.run(state, hidden, reset)
        found = Categorical(logits=logits)
        chosen = found.sample() if action is None else action.squeeze(-1)
        log_prob = found.log_prob(chosen).unsqueeze(-1)
        return chosen.unsqueeze(-1), log_prob, found.entropy().unsqueeze(-1), hidden


class RecurrentActor(Memory):
    """No chance in it: so that two ways to the same loss can be compared."""

    def __init__(self) -> None:
        super().__init__(OBS, DIM)

    def forward(
        self,
        state: Tensor,
        action: Tensor | None = None,
        hidden: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> Any:
        y, hidden = self.run(state, hidden, reset)
        return y.tanh(), -y.square().sum(-1, keepdim=True), hidden


class SureActor(nn.Module):
    """The same without a memory."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(OBS, DIM)

    def forward(self, state: Tensor, action: Tensor | None = None) -> Any:
        y = self.net(state)
        return y.tanh(), -y.square().sum(-1, keepdim=True)
