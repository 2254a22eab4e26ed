"""Pictures of autograd graphs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from torch import Tensor
from torch.autograd.graph import Node


def visualize_graph(
    final_tensor: Tensor,
    visualize_dir: str | os.PathLike[str] = "",
    exit_after_vis: bool = True,
) -> None:
    """Draws the autograd graph that ends in a tensor.

    Writes ``Digraph.gv``, and with the program ``dot`` of Graphviz ``Digraph.gv.pdf``. What flows
    in are the leaves that get a gradient, by their shape.

    Args:
        final_tensor: End of the graph.
        visualize_dir: Folder of the files; created if it is not there.
        exit_after_vis: Whether to end the program then.

    Raises:
        RuntimeError: Graphviz is not installed, or fails.
        OSError: A file cannot be written.
        SystemExit: ``exit_after_vis``.
    """
    folder = Path(visualize_dir)
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "Digraph.gv"
    source.write_text(_graphviz(final_tensor), encoding="utf-8")
    command = ["dot", "-Tpdf", "-O", source.name]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise RuntimeError(
            f"visualize_graph: dot must be installed, got none. Install Graphviz; {source} is there"
        ) from error
    except subprocess.CalledProcessError as error:
        raise RuntimeError(
            f"visualize_graph: dot must draw {source}, got {error.stderr.strip()}"
        ) from error
    if exit_after_vis:
        exit(0)


def _graphviz(final_tensor: Tensor) -> str:
    lines = ["digraph {", "node [shape=box, style=filled, fontname=monospace]"]
    numbers: dict[Node, int] = {}

    def add(label: str, colour: str) -> None:
        lines.append(f'{len(numbers)} [label="{label}", fillcolor={colour}]')

    def visit(node: Node) -> int:
        """Number of a node, which is added if it is new."""
        if node not in numbers:
            numbers[node] = len(numbers) + 1
            leaf = getattr(node, "variable", None)
            if leaf is None:
                add(type(node).__name__, "lightgrey")
            else:
                add(str(list(leaf.shape)), "lightblue")
            waiting.append(node)
        return numbers[node]

    waiting: list[Node] = []
    add(str(list(final_tensor.shape)), "palegreen")
    if final_tensor.grad_fn is not None:
        lines.append(f"{visit(final_tensor.grad_fn)} -> 0")
    while waiting:
        node = waiting.pop()
        lines += [
            f"{visit(before)} -> {numbers[node]}"
            for before, _ in node.next_functions
            if before is not None
        ]
    return "\n".join([*lines, "}", ""])
