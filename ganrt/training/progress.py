"""Progress of training: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

_LINES = 20
"""Number of plain lines per run."""


class TrainingProgress:
    """Context manager that shows steps, losses and steps per second.

    Args:
        console: where to print; a quiet console prints nothing.
        steps: of the whole run.
        done: steps taken before this process started.
    """

    def __init__(self, console: Console, steps: int, done: int) -> None:
        self._console, self._steps = console, steps
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[losses]}"),
            _SpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=steps, completed=done, losses="")
        self._line = done * _LINES // steps

    def report(self, step: int, values: Mapping[str, float]) -> None:
        """Show the values of a step whose names end in `_loss`. A log gets at most 20 lines per run."""
        named = ((name.removesuffix("_loss"), value) for name, value in values.items() if name.endswith("_loss"))
        losses = "  ".join(f"{name} {value:.3f}" for name, value in named)
        self._bar.update(self._task, completed=step, losses=losses)
        line = step * _LINES // self._steps
        if line > self._line and not self._console.is_terminal:
            self._line = line
            speed = _speed(self._bar.tasks[0])
            self._console.print(f"step {step}/{self._steps}  {losses}  {speed}", highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


class _SpeedColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(_speed(task))


def _speed(task: Task) -> str:
    speed = task.finished_speed or task.speed
    return "" if speed is None else f"{speed:.1f} steps/s"
