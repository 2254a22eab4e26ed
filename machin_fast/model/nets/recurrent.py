"""Networks with memory."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from machin_fast.model.nets._checks import check_positive
from machin_fast.model.nets.wrapper import Wrapper


class Recurrent(Wrapper):
    """An encoder, a recurrent network and a head, with a state that the caller keeps.

    The hidden state is one tensor ``[batch, hidden_size]``: an ordinary column of a replay. It
    holds the layers side by side, and of an LSTM first all h, then all c.

    Source: Cho et al. 2014, arXiv:1406.1078 (GRU); Hochreiter and Schmidhuber 1997,
    doi:10.1162/neco.1997.9.8.1735 (LSTM). Initialisation as in CleanRL: weights are orthogonal,
    biases 0.

    Args:
        encoder: Takes what the network is called with except ``hidden`` and ``reset``, always
            as ``[n, ...]``; returns ``[n, in_features]``.
        size: Of the recurrent network's output.
        kind: "gru" or "lstm".
        layers: Recurrent layers, one on top of the other.
        head: Takes ``[n, size]``. None: the recurrent network's output is the result.
        in_features: Size of the encoder's output. None: the encoder's ``out_features``.

    Attributes:
        recurrent: True.
        hidden_size: Size of a hidden state.
        out_features: Of the head, if it has this attribute; ``size`` without a head.

    Raises:
        ValueError: ``kind`` is another one, a size is below 1, or that of the encoder's output is
            not known.
    """

    own_names = frozenset({"hidden", "reset"})

    def __init__(
        self,
        encoder: nn.Module,
        size: int,
        kind: Literal["gru", "lstm"] = "gru",
        layers: int = 1,
        head: nn.Module | None = None,
        *,
        in_features: int | None = None,
    ) -> None:
        super().__init__(encoder)
        self.recurrent = True
        check_positive("Recurrent", size=size, layers=layers)
        if kind not in ("gru", "lstm"):
            raise ValueError(f'Recurrent: kind must be "gru" or "lstm", got {kind!r}')
        if in_features is None:
            in_features = getattr(encoder, "out_features", None)
        if in_features is None:
            raise ValueError(
                "Recurrent: in_features must be given if the encoder has no out_features, "
                f"got {type(encoder).__name__}"
            )
        check_positive("Recurrent", in_features=in_features)
        self.rnn = (nn.GRU if kind == "gru" else nn.LSTM)(in_features, size, layers)
        self.head = head
        self.kind = kind
        self.size = size
        self.layers = layers
        self.hidden_size = size * layers * (2 if kind == "lstm" else 1)
        self.out_features = size if head is None else getattr(head, "out_features", None)
        for name, parameter in self.rnn.named_parameters():
            if "weight" in name:
                nn.init.orthogonal_(parameter)
            else:
                nn.init.zeros_(parameter)

    def forward(
        self,
        *args: Any,
        hidden: Tensor | None = None,
        reset: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Any, Tensor]:
        """One step, or whole sequences.

        Sequences take one call of the whole-sequence kernel, wherever they are reset. To know
        where that is, the CPU waits for a GPU once, if ``reset`` is there; not if it is on the
        CPU, nor if it is ``[1, batch]``.

        Args:
            *args, **kwargs: ``state``, or whatever the encoder takes: ``[batch, ...]``, or
                sequences ``[steps, batch, ...]``.
            hidden: ``[batch, hidden_size]``, the state before the (first) step. None: zeros.
            reset: Bool: before which steps states start anew from zeros. ``[batch]`` for one
                step. ``[steps, batch]`` says that inputs are sequences; so does ``[1, batch]``,
                where no later step is reset. None: one step, not reset.

        Returns:
            output: ``[batch, ...]`` or ``[steps, batch, ...]``, of the head.
            hidden: ``[batch, hidden_size]``, the state after the (last) step.

        Raises:
            TypeError: ``reset`` is no bool.
            ValueError: ``hidden`` or ``reset`` has another shape.
        """
        sequences = reset is not None and reset.dim() == 2
        if sequences:
            args = tuple(x.flatten(0, 1) for x in args)
            kwargs = {name: x.flatten(0, 1) for name, x in self.for_net(kwargs).items()}
        x, _ = self.call_net(args, kwargs)
        batch = reset.shape[1] if sequences and reset is not None else len(x)
        x = x.unflatten(0, (-1, batch)).to(self.rnn.weight_ih_l0.dtype)
        hidden = self._check(x, hidden, reset)
        y, hidden = self._run(x, hidden, reset if reset is None or sequences else reset[None])
        output = y.flatten(0, 1)
        if self.head is not None:
            output = self.head(output)
        return (output.unflatten(0, (-1, batch)) if sequences else output), hidden

    def _check(self, x: Tensor, hidden: Tensor | None, reset: Tensor | None) -> Tensor:
        steps, batch = x.shape[:2]
        if reset is not None:
            if reset.dtype is not torch.bool:
                raise TypeError(f"Recurrent.forward: reset must be bool, got {reset.dtype}")
            if list(reset.shape) not in ([batch], [1, batch], [steps, batch]):
                wanted = [batch] if reset.dim() == 1 else [steps, batch]
                raise ValueError(
                    f"Recurrent.forward: reset must have shape {wanted}, got {list(reset.shape)}"
                )
        if hidden is None:
            return x.new_zeros(batch, self.hidden_size)
        if list(hidden.shape) != [batch, self.hidden_size]:
            raise ValueError(
                f"Recurrent.forward: hidden must have shape [{batch}, {self.hidden_size}], "
                f"got {list(hidden.shape)}"
            )
        return hidden

    def _run(self, x: Tensor, hidden: Tensor, reset: Tensor | None) -> tuple[Tensor, Tensor]:
        """Sequences ``[steps, batch, ...]``, the state after them ``[batch, hidden_size]``."""
        if reset is not None and len(reset) > 1:
            on_host = reset.cpu()
            if on_host[1:].any():
                return self._run_segments(x, hidden, _Segments.of(on_host, x.device))
        if reset is not None:
            hidden = hidden.masked_fill(reset[0].to(hidden.device).unsqueeze(1), 0)
        y, state = self.rnn(x, self._unpack(hidden))
        return y, self._pack(state)

    def _run_segments(
        self, x: Tensor, hidden: Tensor, segments: _Segments
    ) -> tuple[Tensor, Tensor]:
        """What lies between two resets becomes a sequence of its own, all of them side by side."""
        steps, batch = x.shape[:2]
        before = hidden[segments.column].masked_fill(segments.anew.unsqueeze(1), 0)
        data = x.flatten(0, 1)[segments.order]
        y, state = self.rnn(PackedSequence(data, segments.batch_sizes), self._unpack(before))
        after = self._pack(state)[segments.last]
        return y.data[segments.place].view(steps, batch, -1), after

    def _unpack(self, hidden: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        parts = hidden.unflatten(1, (-1, self.layers, self.size)).permute(1, 2, 0, 3).contiguous()
        return parts[0] if self.kind == "gru" else (parts[0], parts[1])

    def _pack(self, state: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        parts = torch.cat(state) if isinstance(state, tuple) else state
        return parts.transpose(0, 1).flatten(1)


class _Segments(NamedTuple):
    """Where resets cut sequences ``[steps, batch]``, and how the pieces lie in a PackedSequence:
    in order of time within the piece, in each step the longest pieces first.

    Attributes:
        column: ``[segments]``, of the batch, for each segment.
        anew: ``[segments]``, bool: it starts from zeros, not from the state given.
        last: ``[batch]``, each column's last segment.
        batch_sizes: Segments that are still running, for each step of the longest. On the CPU.
        order: ``[steps * batch]``, which row of the sequences each packed row is.
        place: Its inverse: where each row of the sequences is packed.
    """

    column: Tensor
    anew: Tensor
    last: Tensor
    batch_sizes: Tensor
    order: Tensor
    place: Tensor

    @classmethod
    def of(cls, reset: Tensor, device: torch.device) -> _Segments:
        """The segments of flags ``[steps, batch]`` on the CPU; indices go to a device."""
        steps, batch = reset.shape
        begins = reset.T.clone()
        begins[:, 0] = True
        begin = begins.flatten().nonzero().squeeze(1)  # in rows of [batch, steps]
        end = torch.cat([begin[1:], torch.tensor([steps * batch])])
        lengths, by_length = (end - begin).sort(descending=True, stable=True)
        rank = torch.empty_like(by_length)
        rank[by_length] = torch.arange(len(begin))
        segment = begins.flatten().cumsum(0) - 1
        position = torch.arange(steps * batch) - begin[segment]
        # Rows of [batch, steps], then of [steps, batch].
        packed = (position * len(begin) + rank[segment]).argsort()
        order = packed % steps * batch + packed // steps
        place = torch.empty_like(order)
        place[order] = torch.arange(steps * batch)
        begin = begin[by_length]
        anew = reset.T.flatten()[begin]
        last = rank[segment[steps - 1 :: steps]]
        batch_sizes = len(begin) - lengths.bincount().cumsum(0)[:-1]
        on_device = (x.to(device) for x in (begin // steps, anew, last, order, place))
        column, anew, last, order, place = on_device
        return cls(column, anew, last, batch_sizes, order, place)
