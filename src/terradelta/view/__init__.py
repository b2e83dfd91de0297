"""The product of a map in the browser: looked at, judged, and learned from.

The package can be called: ``terradelta.view("OUT")`` serves a product from this process and shows it in a notebook.
"""

import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from terradelta.view.serving import View

__all__: list[str] = []


class _CallableRoom(types.ModuleType):
    """A module that stands for its one function, as ``terradelta.view`` is both."""

    def __call__(
        self,
        out: str | Path,
        *,
        before: str | None = None,
        after: str | None = None,
        author: str | None = None,
        task: str | Path | None = None,
        **frame: Any,  # noqa: ANN401  of View
    ) -> "View":
        """Serve a product in a page; the last line of a notebook's cell shows it there.

        Args:
            out: folder that `map` made.
            before: where the first image lies now; None: where it was mapped.
            after: where the second image lies now.
            author: who gives verdicts; None: the user's name.
            task: samples of `terradelta area --draw` to be labelled; the map's answer is hidden then.
            **frame: ``height``, ``host`` and ``port``, see `terradelta.view.serving.View`.

        Returns:
            The page, served until its ``close`` or the end of the process.

        Raises:
            MissingExtraError: without the optional dependencies ``[view]``.
            InputError: if the folder is no product, or the port is taken.
        """
        from terradelta.errors import MissingExtraError

        try:
            from terradelta.view.serving import View
            from terradelta.view.view_session import ViewOptions
        except ModuleNotFoundError as error:
            raise MissingExtraError("terradelta.view", "view") from error
        options = ViewOptions(before, after, author, None if task is None else Path(task))
        return View(out, options, **frame)


sys.modules[__name__].__class__ = _CallableRoom
