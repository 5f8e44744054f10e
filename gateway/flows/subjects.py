"""Subjects: whom a call asks about and whom an answer tells of, before it is known to the ledger.

The list of whom nothing is told about is read again within a second of a change, by whichever process. That is for
asking nobody in vain; what is binding is looked up in the transactions that open and end a charge (store/subjects.py).
"""

import asyncio

import structlog

from gateway.core.errors import Code, Problem
from gateway.core.subject import Hides, SubjectKey, Suppressed, asked
from gateway.flows.fulfilling import Call
from gateway.store import subjects
from gateway.store.database import Database

log = structlog.get_logger("subjects")

LOOK_S = 1.0


class Subjects:
    def __init__(self, db: Database, key: SubjectKey) -> None:
        self._db = db
        self._suppressed = Suppressed(key)
        self._version = 0

    @property
    def key(self) -> SubjectKey:
        return self._suppressed.key

    @property
    def hides(self) -> Hides | None:
        """Of the list as it was last read; None while nobody is on it."""
        return self._suppressed.hides if self._suppressed.digests else None

    def asked(self, call: Call) -> frozenset[bytes]:
        """Whom it asks about."""
        if call.topup is not None:
            return frozenset()
        return self.key.digests(asked(call.query.model_dump(mode="json", by_alias=True, exclude_none=True)))

    def require_tellable(self, digests: frozenset[bytes]) -> None:
        """Raises Problem SUPPRESSED_SUBJECT."""
        if not self._suppressed.digests.isdisjoint(digests):
            raise Problem(Code.SUPPRESSED_SUBJECT, subjects.SUPPRESSED)

    async def read(self) -> None:
        """Reads the list anew where it has changed."""
        if await self._db.read(subjects.version) != self._version:
            self._version, digests = await self._db.read(subjects.suppressed)
            self._suppressed = Suppressed(self.key, digests)

    async def run(self) -> None:
        """Forever."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.read()
            except Exception:
                log.exception("suppressions_unread")
