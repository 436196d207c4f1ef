"""What a failure looks like to a person."""

from __future__ import annotations

from .run import Result


class Report:
    """A law that does not hold, for people: `text()`."""

    def __init__(self, info, result: Result):
        self.info, self.result = info, result

    def text(self) -> str:
        r = self.result
        if r.finding is None:
            return f"{self.info.name}: {r.law.id} ({r.law.title}): {r.verdict}, {r.reason}"
        lines = [f"{self.info.name}: {r.finding.what}: {r.law.id} ({r.law.title}) does not hold"]
        lines += [f"  expected {r.finding.expected}, got {r.finding.got}"]
        lines += [f"  {line}" for line in r.example.describe()]
        return "\n".join(lines)
