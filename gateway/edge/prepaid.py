"""What is told of a top-up: how far its payment is, where its money is, and how that is used."""

from gateway.core.agent import BALANCE, Principal
from gateway.core.money import format_usd
from gateway.core.networks import checksum_address
from gateway.core.settlement import Settlement
from gateway.store.prepaid import Prepaid

CLAIM = {
    "nonce": "/api/v1/agents/wallet-nonce",
    "register": "/api/v1/agents/wallet-register",
    "link": "/api/v1/agents/wallet-link",
}
"""How what is on a wallet's account becomes an agent's."""


def topup_told(prepaid: Prepaid, principal: Principal | None, *, again: bool = False) -> dict[str, object]:
    """{charge_id, amount_usd, settlement, account: {kind, id?, available_usd?}, use, claim?}: what a prepaid call has
    brought, and how it is used. What is on an agent's account, the agent is told. `again`: the call may be repeated."""
    topup = prepaid.topup
    told: dict[str, object] = {
        "charge_id": topup.charge.id,
        "amount_usd": format_usd(topup.charge.captured_micros),
        "settlement": settlement_status(topup.settlement, topup.transaction),
    }
    repeat = "repeat this very call with the same payment, and it is made again from there; or " if again else ""
    if prepaid.of_wallet:
        told["account"] = {
            "kind": "wallet",
            "id": checksum_address(prepaid.party),
            "available_usd": format_usd(prepaid.available_micros),
        }
        told["use"] = (
            f"it is on this wallet's account: {repeat}register the wallet, or link it to an agent, and what is there "
            "is on that agent's balance"
        )
        told["claim"] = CLAIM
        return told
    account: dict[str, object] = {"kind": "agent"}
    if principal is not None and principal.agent_id == prepaid.party:
        account["id"] = prepaid.party
        if principal.may(BALANCE):
            account["available_usd"] = format_usd(prepaid.available_micros)
    told["account"] = account
    told["use"] = f"it is on the agent's balance: {repeat}make any call with its bearer token"
    return told


def settlement_status(settlement: Settlement | None, transaction: str | None) -> dict[str, object] | None:
    """{network, transaction, state}. None: nothing is to be settled."""
    if settlement is None:
        return None
    state = "abandoned" if settlement.abandoned and settlement.state.value != "proven" else settlement.state.value
    return {"network": settlement.network, "transaction": transaction, "state": state}
