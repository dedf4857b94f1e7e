"""How far a job on many files has come: a live line on a terminal, a line now and then elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column


class FileProgress:
    """Shows the files done, the time left and the name of the current one.

    Args:
        total: how many files there are.
        show: whether to print at all; only one process of several should.
        every_s: seconds between two lines where the output is no terminal.
    """

    def __init__(self, *, total: int, show: bool, every_s: float = 10.0) -> None:
        console = Console()
        self.total = total
        self.done = 0
        self.every_s = every_s
        self.begun = self.printed = time.perf_counter()
        self.prints = show and not console.is_terminal
        self.bar = Progress(
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
            # The rest of the line, however narrow the terminal; names may hold what rich takes for markup.
            TextColumn(
                "{task.fields[name]}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
            ),
            expand=True,
            console=console,
            disable=not (show and console.is_terminal),
            speed_estimate_period=300,
        )
        self.task = self.bar.add_task("", total=total, name="")

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def begin(self, name: str) -> None:
        """Show that the file `name` is being worked on."""
        self.bar.update(self.task, name=name)

    def within(self, share: float) -> None:
        """Show how much of the current file is done, between 0 and 1."""
        self.bar.update(self.task, completed=self.done + share)

    def advance(self) -> None:
        """Count the current file as done."""
        self.done += 1
        self.within(0)
        now = time.perf_counter()
        if self.prints and now - self.printed >= self.every_s:
            self.printed = now
            left_s = (now - self.begun) / self.done * (self.total - self.done)
            print(f"{self.done}/{self.total} images, {duration(left_s)} left", flush=True)


def duration(seconds: float) -> str:
    """Seconds, or minutes where these are many, in words."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
