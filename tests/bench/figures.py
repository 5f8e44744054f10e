"""A figure, and what it must reach."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Plan:
    quick: bool
    peer_python: Path

    def rounds(self, full: int) -> int:
        return max(1, full // 3) if self.quick else full

    def seconds(self, full: float) -> float:
        return full / 3 if self.quick else full


@dataclass(frozen=True)
class Figure:
    """`ratio` says how many times better ours is: ours/peer for rates, peer/ours for time, CPU, memory and gas."""

    ours: float
    peer: float | None
    unit: str
    target: str
    """`x5`: a ratio; `>=2500`, `<40`: the figure itself."""
    lower_is_better: bool = False

    @property
    def ratio(self) -> float | None:
        if self.peer is None:
            return None
        return self.peer / self.ours if self.lower_is_better else self.ours / self.peer

    @property
    def reached(self) -> bool:
        goals = self.target.split()
        return all(self._reaches(goal) for goal in goals)

    def _reaches(self, goal: str) -> bool:
        if goal.startswith("x"):
            return self.ratio is not None and self.ratio >= float(goal[1:])
        return self.ours >= float(goal[2:]) if goal.startswith(">=") else self.ours < float(goal[1:])

    def to_json(self) -> dict[str, object]:
        return {"ours": self.ours, "peer": self.peer, "ratio": self.ratio, "unit": self.unit}
