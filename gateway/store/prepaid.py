"""Prepaid calls: what was paid for one is a top-up like any other, and the call is held from the account it came to.

    top-up       a charge by signature of the same request; its settlement credits the payer's account
    call         a charge from balance that names the top-up; one that has not failed, whoever asks and however often

The account is that of the agent whose bearer came with the payment, else that of the wallet that has signed. From the
day on that a wallet belongs to an agent, what comes to it goes on to the agent (gateway/store/ledger.py), and the call
is held from there: never more than its top-up has brought, and only by whoever has that very payment.
"""

from dataclasses import dataclass, replace

from gateway.core.agent import Principal, Status
from gateway.core.charge import Charge
from gateway.core.errors import Code, IllegalMove, Problem
from gateway.core.money import format_usd
from gateway.core.transfer import Part, account, is_wallet
from gateway.store import agents, charges, ledger, usage_keys, wallets
from gateway.store.charges import Capped, ChargeView, Held, Short, Work
from gateway.store.database import Tx

FIND = """
SELECT id FROM charges WHERE topup_id = :id AND (reason IS NULL OR reason NOT IN ('failed', 'expired'))
"""
COME = "SELECT 1 FROM settlements WHERE subject = :id AND purpose = 'topup' AND state = 'proven'"


@dataclass(frozen=True, slots=True)
class NotCome:
    """The top-up is not on the account: not yet, or not any more."""


@dataclass(frozen=True, slots=True)
class Prepaid:
    """A top-up that was made for a call, and where its money is."""

    topup: ChargeView
    party: str
    """The account: an agent's, or a wallet's that belongs to nobody here."""
    available_micros: int
    """On it now, for any call."""

    @property
    def of_wallet(self) -> bool:
        return is_wallet(self.party)


def refuse(tx: Tx, payer: str, agent: Principal | None, scopes: tuple[str, ...], call_micros: int) -> Capped | None:
    """Why the call could not be held once its top-up has come: asked before anything is taken. The hold asks again.
    Raises Problem AGENT_FROZEN, BALANCE_TOO_LOW for an account that owes, SCOPE_DENIED."""
    party = agent.agent_id if agent is not None else holder(tx, payer)
    if agent is None and not is_wallet(party):
        ((status,),) = tx.execute("SELECT status FROM agents WHERE id = :id", {"id": party})
        if status != Status.ACTIVE:
            raise Problem(Code.AGENT_FROZEN, "the agent that this wallet belongs to is frozen; ask the operator")
    for owing in {party, payer} if agent is None else {party}:
        if (debt := -ledger.balance(tx, account(owing, Part.DEBT))) > 0:
            raise Problem(
                Code.BALANCE_TOO_LOW,
                f"{format_usd(debt)} USD are owed on this account, since a deposit was taken back: a payment would go "
                "there first. Nothing was taken; top the balance up, then call again",
                details={"debt_usd": format_usd(debt)},
            )
    if agent is not None and agent.key_id is not None:
        return usage_keys.covers(tx, agent.key_id, scopes, call_micros)
    return None


def find(tx: Tx, topup_id: str) -> ChargeView | None:
    """The call of this top-up: at work, or answered. One that has failed is none."""
    rows = tx.execute(FIND, {"id": topup_id})
    return charges.find(tx, rows[0][0]) if rows else None


def hold(tx: Tx, charge: Charge, work: Work) -> Held | Short | Capped | NotCome | ChargeView:
    """The call of `charge.topup_id`, held from wherever its money is; the call that there is already, if there is one.
    Raises Problem as charges.hold."""
    if charge.topup_id is None:
        raise IllegalMove(f"{charge.id} is no prepaid call")
    topup = charges.find(tx, charge.topup_id)
    if topup is None or not topup.charge.topup or topup.request_hash != work.request_hash:
        raise IllegalMove(f"{charge.topup_id} is no top-up for {charge.id}")
    if work.agent_id != topup.agent_id:
        raise IllegalMove(f"{charge.id} would spend what is another's")
    known = find(tx, charge.topup_id)
    if known is not None:
        return known
    if not tx.execute(COME, {"id": charge.topup_id}):
        return NotCome()
    if charge.held_micros > topup.charge.captured_micros:
        raise IllegalMove(f"{charge.id} would spend more than {charge.topup_id} has brought")
    outcome = charges.hold(tx, replace(charge, party=holder(tx, topup.charge.party)), work, None, None)
    assert isinstance(outcome, Held | Short | Capped), "there is neither a claim nor a key"
    return outcome


def holder(tx: Tx, party: str) -> str:
    """On whose account the money of this party is: its own, or of a wallet its agent's."""
    return (wallets.owner(tx, party) if is_wallet(party) else None) or party


def look(tx: Tx, topup_id: str) -> Prepaid:
    """Raises IllegalMove when there is no such top-up."""
    topup = charges.find(tx, topup_id)
    if topup is None:
        raise IllegalMove(f"{topup_id} is no top-up")
    party = holder(tx, topup.charge.party)
    has = agents.balance(tx, party)
    return Prepaid(topup, party, has.available + has.bonus)
