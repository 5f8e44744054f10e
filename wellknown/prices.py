"""What an operation costs, in numbers and in words; and /pricing."""

from gateway.core.catalogue import Catalogue, Operation, Price
from gateway.core.money import MICROS_PER_USD, format_usd
from gateway.core.upstream import Json
from wellknown.identity import Identity
from wellknown.offer import requirements

SPEND_CONTROL_MICROS = MICROS_PER_USD
"""What official clients pay at most until their user says otherwise."""
SPEND_CONTROLS = (
    "Official x402 clients refuse offers above $1 and tokens they do not know until their user allows them "
    "(`spend_controls` in Python, `spendControls` in TypeScript)."
)


def price_json(price: Price) -> Json:
    """{mode: fixed, currency, amount} or {mode: dynamic, currency, min, max}; amounts are decimal strings of USD."""
    if price.metered:
        low, high = format_usd(price.base_micros), format_usd(price.ceiling_micros)
        return {"mode": "dynamic", "currency": "USD", "min": low, "max": high}
    return {"mode": "fixed", "currency": "USD", "amount": format_usd(price.base_micros)}


def in_words(operation: Operation) -> str:
    """ "$0.330 a call, free when nothing is found"."""
    price = operation.price
    amount = f"${format_usd(price.base_micros)} a call"
    if price.metered:
        amount = f"from ${format_usd(price.base_micros)} to ${format_usd(price.ceiling_micros)} a call"
    if operation.settle_first:
        amount += ", settled before the work"
    return f"{amount}, free when nothing is found" if operation.miss_free else amount


def needs_spend_controls(operation: Operation, identity: Identity) -> bool:
    """Whether official clients refuse this offer as they come. The sandbox's token is known to none of them."""
    return bool(identity.terms) and (identity.sandbox or operation.price.base_micros > SPEND_CONTROL_MICROS)


def notes(catalogue: Catalogue, identity: Identity) -> list[str]:
    """What a buyer should know beside the numbers, a sentence each."""
    told = ["Failed and timed out calls are never charged."]
    if identity.sandbox:
        told.append("This is a sandbox: no real money moves.")
    if any(operation.price.metered for operation in catalogue.operations):
        told.append(
            "An operation with a price range costs the lower end by x402 `exact`, where that is offered. By `upto`, or "
            "from a balance, the upper end is held, or less if the caller says so, and what the work came to is "
            "charged."
        )
    if any(operation.settle_first for operation in catalogue.operations):
        told.append(
            "Where `settle` is `before`, a payment by x402 is settled first, as a top-up of the payer's account, and "
            "the call is charged to that: of a range the upper end is paid, by `exact`. What is not charged, after a "
            "miss or a failure all of it, stays on the account, and the answer says so in `topup`. Without a bearer "
            "token the account is the wallet's: register the wallet, or link it to an agent, to spend it."
        )
    if any(operation.by_body for operation in catalogue.operations):
        told.append(
            "Work that is handed over as a job is answered with 202 when it is queued: ask its `poll_url` with its "
            "`poll_bearer`, `?wait=30` to hear of the end at once; DELETE there cancels it. Its price stands in its "
            "`bill_up_to_usd`."
        )
    if any(needs_spend_controls(operation, identity) for operation in catalogue.operations):
        told.append(SPEND_CONTROLS)
    return told


def pricing(catalogue: Catalogue, identity: Identity) -> Json:
    """/pricing: every operation with its price, and how it can be paid."""
    return {
        "name": identity.name,
        "currency": "USD",
        "updated": identity.updated,
        **({"sandbox": True} if identity.sandbox else {}),
        "operations": [_operation(operation, identity) for operation in catalogue.operations],
        "payment": {"balance": True, "anonymous": identity.anonymous, "x402": _tokens(identity)},
        "notes": notes(catalogue, identity),
    }


def _operation(operation: Operation, identity: Identity) -> Json:
    return {
        "id": operation.id,
        "method": operation.method,
        "path": operation.path,
        "summary": operation.summary,
        "price": price_json(operation.price),
        "bill_on_match": operation.miss_free,
        "settle": operation.settle,
        "schemes": list(dict.fromkeys(accepted.scheme for accepted in requirements(operation, identity))),
        "timeout_s": operation.timeout_s,
    }


def _tokens(identity: Identity) -> list[Json]:
    return [
        {
            "network": terms.network,
            "asset": terms.token.address,
            "symbol": terms.token.symbol,
            "decimals": terms.token.decimals,
            "pay_to": terms.pay_to,
            "methods": list(terms.methods),
        }
        for terms in identity.terms
    ]
