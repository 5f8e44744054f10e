"""Recovering an agent by its wallet: the order in which somebody who has lost his token is believed.

    challenge   may this wallet's agent be recovered? where is the chain? Nothing is written.
    complete    the id and its time, no I/O; what is known of it; then the transfer, by the ordinary way of deposits,
                which credits it whatever becomes of the answer; the answer last, in the transaction that acts on it

The answer is looked at only of whoever has proven the transfer: nobody else can learn anything by it, or burn a try.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from gateway.core import crash, ids, lead
from gateway.core import wallet_recovery as core
from gateway.core.deposit import Source
from gateway.core.errors import Code, Problem
from gateway.core.lead import LeadKey
from gateway.core.wallet_recovery import Challenge
from gateway.flows.deposits import Deposits
from gateway.store import wallet_recoveries
from gateway.store.agents import NewToken
from gateway.store.database import Database
from gateway.store.deposits import DepositView
from gateway.store.wallet_recoveries import Wrong

log = structlog.get_logger("wallet_recovery")


@dataclass(frozen=True, slots=True)
class Challenged:
    recovery_id: str = field(repr=False)
    challenge: Challenge
    tries_left: int


@dataclass(frozen=True, slots=True)
class Recovered:
    agent_id: str
    token: str = field(repr=False)
    revoked: int
    usage_keys: int
    credited_micros: int


class WalletRecovery:
    def __init__(
        self,
        *,
        db: Database,
        deposits: Deposits,
        networks: Mapping[int, str],
        secret: bytes,
        phone: Callable[[str], str | None],
        token_prefix: str,
        clock: Callable[[], float],
        entropy: Callable[[int], bytes],
        proves: Callable[[str], None] = lambda address: None,
    ) -> None:
        """`networks`: chain id -> `eip155:8453` of those that the transfer may be made on, the one to propose first;
        without any nobody is recovered. `secret`: 32 bytes that are not in the database. `phone`: a written number ->
        E.164 or None; may load tables. `proves` is told of each wallet that has sent what it was asked for, before its
        answer is looked at, and may raise Problem."""
        self.networks = networks
        self._db = db
        self._deposits = deposits
        self._leads = LeadKey.of(secret)
        self._seal_key = core.seal_key(secret)
        self._phone = phone
        self._token_prefix = f"{token_prefix}_"
        self._clock = clock
        self._entropy = entropy
        self._proves = proves

    async def challenge(self, address: str, chain_id: int | None) -> Challenged:
        """`address` in lower case. Raises Problem RECOVERY_NOT_ELIGIBLE, RECOVERY_LOCKED, CHAIN_NOT_ACCEPTED,
        SETTLEMENT_UNAVAILABLE."""
        self._require_open()
        chain_id = next(iter(self.networks)) if chain_id is None else chain_id
        if chain_id not in self.networks:
            raise Problem(
                Code.CHAIN_NOT_ACCEPTED,
                "the transfer of a recovery is not taken on this chain",
                details={"chain_ids": sorted(self.networks)},
            )
        standing = await self._db.read(wallet_recoveries.standing, address, self._leads.id)
        if standing.agent_id is None:
            raise _not_eligible()
        self._require_unlocked(standing.locked_until_ms)
        block = await self._deposits.height(chain_id)
        amount = core.amount_micros(self._deposits.terms.min_micros, self._entropy(8))
        challenge = Challenge(address, chain_id, block, int(self._clock()), amount, self._entropy(core.SALT_BYTES))
        return Challenged(core.recovery_id(challenge, self._seal_key), challenge, standing.tries_left)

    async def complete(self, recovery_id: str, transaction: str, answer: str | int) -> Recovered:
        """`transaction`: a hash in lower case. Raises Problem RECOVERY_NOT_FOUND, RECOVERY_EXPIRED, RECOVERY_USED,
        RECOVERY_NOT_ELIGIBLE, RECOVERY_LOCKED, VALIDATION_ERROR; of the transfer, as Deposits.claim and
        RECOVERY_TRANSFER_WRONG; and RECOVERY_ANSWER_WRONG, which alone takes a try."""
        self._require_open()
        challenge = core.read(recovery_id, self._seal_key)
        if challenge is None:
            raise Problem(Code.RECOVERY_NOT_FOUND, "there is no such recovery: ask for a challenge")
        id_hash = ids.token_hash(recovery_id)
        if challenge.is_over(self._clock()):
            raise Problem(
                Code.RECOVERY_EXPIRED,
                "this recovery is over its hour: ask for another challenge. What was sent for it is on the balance",
            )
        # Off the loop: a number that is written in an unusual way has the tables of all countries loaded.
        spellings = await asyncio.to_thread(lead.answered, answer, self._phone)
        if not spellings:
            raise Problem(Code.VALIDATION_ERROR, f"an answer has at least {lead.CHARS_MIN} letters or digits")
        if await self._db.read(wallet_recoveries.is_done, id_hash):
            raise wallet_recoveries.used()
        standing = await self._db.read(wallet_recoveries.standing, challenge.address, self._leads.id)
        if standing.agent_id is None:
            raise _not_eligible()
        self._require_unlocked(standing.locked_until_ms)
        deposit = await self._transfer(challenge, standing.agent_id, transaction)
        self._proves(challenge.address)
        return await self._answer(challenge, id_hash, standing.agent_id, deposit, spellings)

    async def _transfer(self, challenge: Challenge, agent_id: str, transaction: str) -> DepositView:
        """The very transfer that was asked for, credited now or before. Raises Problem."""
        try:
            views = await self._deposits.claim(agent_id, challenge.chain_id, transaction)
        except Problem as problem:
            if problem.code is not Code.SENDER_NOT_LINKED:
                raise
            raise _wrong_transfer("sender") from None
        differences = [
            core.differs(
                challenge, sender=view.sender, network=view.network, block=view.block,
                amount_micros=view.deposit.amount_micros, by_transfer=view.deposit.source is Source.TRANSFER,
            )
            for view in views
        ]  # fmt: skip
        for view, difference in zip(views, differences, strict=True):
            if difference is None:
                return view
        raise _wrong_transfer(next(each for each in differences if each is not None))

    async def _answer(
        self, challenge: Challenge, id_hash: bytes, agent_id: str, deposit: DepositView, spellings: tuple[str, ...]
    ) -> Recovered:
        token = ids.new_token(self._token_prefix, self._entropy(ids.ENTROPY_TOKEN_BYTES))
        new = NewToken(self._new_id("tok_"), ids.token_hash(token), ids.token_hint(token))
        digests = [self._leads.digest(agent_id, spelling) for spelling in spellings]
        crash.point("recovery.before")
        outcome = await self._db.write(
            wallet_recoveries.complete, id_hash, challenge.address, agent_id, deposit.deposit.id, digests, new
        )
        crash.point("recovery.after")
        if isinstance(outcome, Wrong):
            log.warning("recovery_answer_wrong", agent=agent_id, tries_left=outcome.tries_left)
            raise Problem(
                Code.RECOVERY_ANSWER_WRONG,
                "this is not the answer" + ("" if outcome.tries_left else "; it is not recovered for a day now"),
                details={"attempts_left": outcome.tries_left},
            )
        log.warning("agent_recovered", agent=agent_id, deposit=deposit.deposit.id)
        return Recovered(agent_id, token, outcome.revoked, outcome.usage_keys, deposit.deposit.amount_micros)

    # small things

    def _require_open(self) -> None:
        if not self.networks:
            raise Problem(Code.ROUTE_OFFLINE, "agents are not recovered by wallet here; ask the operator")

    def _require_unlocked(self, until_ms: int | None) -> None:
        if until_ms is not None:
            raise wallet_recoveries.locked(until_ms, int(self._clock() * 1000))

    def _new_id(self, prefix: str) -> str:
        return ids.new_id(prefix, int(self._clock() * 1000), self._entropy(ids.ENTROPY_ID_BYTES))


def _not_eligible() -> Problem:
    return Problem(
        Code.RECOVERY_NOT_ELIGIBLE,
        "by this wallet no agent is recovered: it is the wallet that the agent was registered with, and the agent has "
        "asked about somebody in the last 90 days",
    )


_DIFFERENCES = {
    "chain": "this transfer was made on another chain than the recovery asks for",
    "sender": "this transfer was sent from another wallet than the one that is recovered by",
    "amount": "this transfer is not of the very amount that the recovery asks for, to the micro-dollar",
    "block": "this transfer was made before the recovery was begun",
}


def _wrong_transfer(difference: str) -> Problem:
    return Problem(
        Code.RECOVERY_TRANSFER_WRONG,
        f"{_DIFFERENCES[difference]}; a deposit of a linked wallet it is all the same",
        details={"reason": difference},
    )
