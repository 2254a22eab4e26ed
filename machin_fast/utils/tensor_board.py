"""One TensorBoard writer for the whole program.

Attributes:
    default_board: The board that programs share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from machin_fast.utils.extras import need

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """A TensorBoard writer that is made once.

    Attributes:
        writer: A ``torch.utils.tensorboard.SummaryWriter``; None until ``init``.
    """

    def __init__(self) -> None:
        self.writer: SummaryWriter | None = None

    def init(self, *writer_args: Any) -> None:
        """Makes the writer.

        Args:
            *writer_args: Of ``SummaryWriter``; the first is the folder.

        Raises:
            RuntimeError: It is there already.
            MissingExtraError: tensorboard is not installed.
        """
        if self.writer is not None:
            raise RuntimeError(
                "TensorBoard.init: a board must be initialized once, got a second call: "
                "the writer has been initialized"
            )
        need("tensorboard", extra="tensorboard", for_what="TensorBoard")
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(*writer_args)

    def is_inited(self) -> bool:
        """Whether there is a writer."""
        return self.writer is not None


default_board = TensorBoard()
