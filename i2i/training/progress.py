"""How far a run has come: a live line on a terminal, a line now and then elsewhere."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Column


class Progress:
    """Shows step, images/s, the share of time spent waiting for data, losses and the time left.

    Args:
        start, total: steps done before and steps in all.
        show: whether to print at all; only one process of a run should.
        every_s: seconds between two lines where the output is no terminal.
    """

    def __init__(self, *, start: int, total: int, show: bool, every_s: float = 10.0) -> None:
        self.done, self.start, self.total = start, start, total
        self.show, self.every_s = show, every_s
        self.console = Console()
        self.images = 0
        self.waited_s = 0.0
        self.begun = self.printed = time.perf_counter()
        self.losses: dict[str, float] = {}
        self.bar = Bar(
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
            # The rest of the line, however narrow the terminal.
            TextColumn("{task.fields[text]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            expand=True,
            console=self.console,
            disable=not (show and self.console.is_terminal),
        )
        self.task = self.bar.add_task("", total=total, completed=start, text="")

    def __enter__(self) -> "Progress":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    @property
    def images_per_s(self) -> float:
        return self.images / max(time.perf_counter() - self.begun, 1e-9)

    @property
    def waiting_share(self) -> float:
        return self.waited_s / max(time.perf_counter() - self.begun, 1e-9)

    def advance(self, *, losses: dict[str, float], images: int, waited_s: float) -> None:
        self.done += 1
        self.images += images
        self.waited_s += waited_s
        for name, value in losses.items():
            self.losses[name] = 0.95 * self.losses.get(name, value) + 0.05 * value
        self.bar.update(self.task, advance=1, text=self._text())
        now = time.perf_counter()
        if self.show and self.bar.disable and (now - self.printed >= self.every_s or self.done == self.total):
            self.printed = now
            left_s = (now - self.begun) / (self.done - self.start) * (self.total - self.done)
            self._print(f"step {self.done}/{self.total}  {self._text()}  {duration(left_s)} left")

    def summarise(self) -> None:
        """Tell how fast it went, evaluation and saving included."""
        seconds = time.perf_counter() - self.begun
        self.say(
            f"{self.done - self.start} steps in {duration(seconds)}: {self.images_per_s:.3g} images/s, "
            f"{self.waiting_share:.1%} of the time waiting for data"
        )

    def say(self, text: str) -> None:
        if self.show:
            self._print(text)

    def _print(self, text: str) -> None:
        self.bar.console.print(text, soft_wrap=True, highlight=False)

    def _text(self) -> str:
        losses = "  ".join(f"{name} {value:.3g}" for name, value in self.losses.items())
        return f"{self.images_per_s:.3g} images/s  waiting for data {self.waiting_share:.0%}  {losses}"


class StepsBar:
    """For what is trained on the side, called with steps done and all steps: a bar from the first step to the last."""

    def __init__(self, title: str) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = Bar(*columns, transient=True)
        self.task = self.bar.add_task(title)

    def __call__(self, done: int, steps: int) -> None:
        if done == 1:
            self.bar.start()
        self.bar.update(self.task, completed=done, total=steps)
        if done == steps:
            self.bar.stop()


def duration(seconds: float) -> str:
    """In words that suit its length."""
    if seconds < 1:
        return f"{seconds:.1g} s"
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
