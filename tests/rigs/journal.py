"""A journal in memory that is as strict as the store's: what may not be written there is not written here."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from gateway.core.errors import Conflict
from gateway.core.settlement import Attempt, Event, Settlement, State, advance

Nonce = tuple[str, str, int]


@dataclass
class MemoryJournal:
    """gateway.settlement.protocol.Journal. Survives the settler that writes it, as a database does."""

    settlements: dict[str, Settlement] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    closed_nonces: dict[Nonce, str | None] = field(default_factory=dict)
    retried: list[str] = field(default_factory=list)
    broken: bool = False
    """Every write fails."""
    lost_words: int = 0
    """So many attempts are written, and whoever wrote them is told that they were not."""

    def add(self, settlement: Settlement) -> Settlement:
        return self.settlements.setdefault(settlement.id, settlement)

    def move(self, id: str, event: Event, micros: int = 0) -> None:
        self.settlements[id], _ = advance(self.settlements[id], event, micros)

    def abandon(self, id: str) -> bool:
        if any(self._alive(attempt) for attempt in self.attempts if id in attempt.settlements):
            return False
        self.settlements[id] = replace(self.settlements[id], abandoned=True)
        return True

    async def sending(self, attempt: Attempt) -> tuple[str, ...]:
        self._require_disk()
        carried = [self.settlements[id] for id in attempt.settlements]
        refused = tuple(s.id for s in carried if s.abandoned or s.state not in (State.QUEUED, State.SENT))
        if refused:
            return refused
        here = (attempt.network, attempt.key, attempt.nonce)
        if here in self.closed_nonces:
            raise Conflict("the nonce is used")
        for other in self.attempts:
            if (other.network, other.key, other.nonce) == here:
                if other.settlements != attempt.settlements:
                    raise Conflict("the nonce carries other calls")
            elif self._alive(other) and set(other.settlements) & set(attempt.settlements):
                raise Conflict("it can still be paid by another nonce")
        for other in self.attempts:
            if (other.network, other.key, other.nonce, other.number) == (*here, attempt.number):
                if other.hash != attempt.hash:
                    raise Conflict("the attempt is another transaction")
                return ()
        self.attempts.append(attempt)
        for settlement in carried:
            self.move(settlement.id, Event.SENT)
        if self.lost_words:
            self.lost_words -= 1
            raise OSError("the disk went away after the commit")
        return ()

    async def pending(self, network: str, key: str) -> Sequence[Attempt]:
        mine = [a for a in self.attempts if (a.network, a.key) == (network, key) and self._alive(a)]
        return sorted(mine, key=lambda a: (a.nonce, a.number))

    async def attempts_of(self, settlement_id: str) -> Sequence[Attempt]:
        return [a for a in self.attempts if settlement_id in a.settlements]

    async def closed(self, network: str, key: str, nonce: int, mined_hash: str | None) -> None:
        self._require_disk()
        self.closed_nonces.setdefault((network, key, nonce), mined_hash)

    async def retry(self, settlement_id: str) -> None:
        self._require_disk()
        if any(self._alive(a) for a in self.attempts if settlement_id in a.settlements):
            raise Conflict("an attempt could still be mined")
        if self.settlements[settlement_id].state is not State.SENT:
            raise Conflict("it is not sent")
        self.move(settlement_id, Event.RETRY)
        self.retried.append(settlement_id)

    async def nonce_after(self, network: str, key: str) -> int:
        return max((a.nonce + 1 for a in self.attempts if (a.network, a.key) == (network, key)), default=0)

    def _alive(self, attempt: Attempt) -> bool:
        return (attempt.network, attempt.key, attempt.nonce) not in self.closed_nonces

    def _require_disk(self) -> None:
        if self.broken:
            raise OSError("the disk is full")


class MemoryLock:
    """gateway.settlement.protocol.Lock among everybody who was given the same `holder` list."""

    def __init__(self, holder: list["MemoryLock"]) -> None:
        self._holder = holder

    def acquire(self) -> bool:
        if not self._holder:
            self._holder.append(self)
        return self._holder[0] is self

    def release(self) -> None:
        if self._holder and self._holder[0] is self:
            self._holder.clear()
