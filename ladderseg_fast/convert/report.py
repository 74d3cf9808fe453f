"""The report of a conversion: what it did to a model, and what it left alone."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ConversionReport:
    """A record of what `convert` did, or would do. print() shows it.

    converted: what runs lean now, by its path in the model; "" is the model itself.
    left: why parts that lean could take the place of were left alone, by path.
    dry_run: whether the model has not been changed.
    """

    converted: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    dry_run: bool = False

    def __str__(self) -> str:
        lines = ["would run lean:" if self.dry_run else "runs lean:", *_rows(self.converted)]
        if self.left:
            lines += ["left as it was:", *_rows(self.left)]
        return "\n".join(lines)


def _rows(entries: dict[str, str]) -> list[str]:
    shown = {path or "(the model)": text for path, text in entries.items()}
    width = max(map(len, shown), default=0)
    return [f"  {path:{width}}  {text}" for path, text in shown.items()] or ["  nothing"]
