"""What the operator must hear of: counted here, shown by /metrics, told in the log by whoever noticed it.

    payment_pending_too_long   a settlement has neither an end nor news for longer than any chain takes
    queue_stuck                one waits to be sent, and nobody sends it
    audit_difference           the books do not agree with themselves
    webhooks_failing           events were given up in the last hour
    relayer_funds_low          from the settler's own health, beside whatever else it complains of
    provider_refuses_key:NAME  a provider does not take our key; over with its next answer
    provider_account_empty:NAME    our account with it is; over with its next answer
    provider_quota_low:NAME    what it says is left of our quota is little

plus what the flows report as it happens: settlement_lost, settlement_taken_back, settled_amount_differs,
proof_used_twice, paid_twice, recovery_failed, collecting_failed, delivering_failed.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import structlog

from gateway.core import ids
from gateway.core.settlement import State
from gateway.core.vendor_call import ErrorClass, Standing
from gateway.settlement.protocol import Settler
from gateway.store import outbox, settlements
from gateway.store.audit import audit
from gateway.store.database import Database

log = structlog.get_logger("alarms")

PENDING_MAX_S = 120.0
QUEUED_MAX_S = 30.0
GIVEN_UP_S = 3600.0
AUDIT_EVERY_S = 45.0
AUDIT_SHARE = 20
"""An audit that took a second is not run again before twenty have passed: it must not be the load it looks for."""


class Alarms:
    def __init__(
        self,
        *,
        db: Database,
        settler: Settler | None,
        clock: Callable[[], float],
        providers: Callable[[], Mapping[str, Standing]] = dict,
    ) -> None:
        """`providers`: those that are configured, by name."""
        self._providers = providers
        self._db = db
        self._settler = settler
        self._clock = clock
        self._told: Counter[str] = Counter()
        self._findings = 0

    def tell(self, name: str, subject: str) -> None:
        """One occurrence of something an operator must look at. It stays counted until the process ends."""
        log.error("alarm", alarm=name, subject=subject)
        self._told[name] += 1

    async def levels(self) -> dict[str, float]:
        """By name, 0 while all is well."""
        pending = queued = 0
        for settlement in await self._db.read(settlements.unfinished):
            age_s = self._clock() - ids.made_ms(settlement.id) / 1000
            pending += age_s > PENDING_MAX_S and not settlement.abandoned
            queued += age_s > QUEUED_MAX_S and settlement.state is State.QUEUED and not settlement.abandoned
        levels: dict[str, float] = dict(self._told)
        if self._settler is not None:
            for name in (await self._settler.health()).alarms:
                levels[name] = levels.get(name, 0) + 1
        since_ms = int((self._clock() - GIVEN_UP_S) * 1000)
        return {
            "relayer_funds_low": 0,
            **levels,
            **{name: 1 for name in self._of_providers()},
            "payment_pending_too_long": pending,
            "queue_stuck": queued,
            "audit_difference": self._findings,
            "webhooks_failing": await self._db.read(outbox.given_up_since, since_ms),
        }

    def _of_providers(self) -> Iterator[str]:
        for name, standing in self._providers().items():
            if standing.trouble is ErrorClass.AUTH:
                yield f"provider_refuses_key:{name}"
            if standing.trouble is ErrorClass.QUOTA:
                yield f"provider_account_empty:{name}"
            if standing.quota_low:
                yield f"provider_quota_low:{name}"

    async def run(self) -> None:
        """Forever: audits the books now and then, so that a difference is seen within a minute on a ledger of any
        usual size. Cancelled at shutdown."""
        while True:
            started = self._clock()
            try:
                findings = await self._db.read(audit)
            except Exception:
                log.exception("audit_failed")
                findings = []
                self.tell("audit_failed", "")
            for finding in findings[:20]:
                log.error("audit_difference", rule=finding.rule, subject=finding.subject)
            self._findings = len(findings)
            await asyncio.sleep(max(AUDIT_EVERY_S, AUDIT_SHARE * (self._clock() - started)))
