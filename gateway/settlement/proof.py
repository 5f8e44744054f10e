"""Proof: which log shows that a payment came. Pure; a transaction's receipt in, a Transfer out.

EIP-3009. The token says AuthorizationUsed(payer, nonce) and moves the money in the same call, so the Transfer that
belongs to it is the nearest one from the payer to us behind it (or, with tokens that do it the other way round, before
it), not separated from it by another authorization.

Permit2 says nothing of its own. A Transfer from the payer to us of exactly the amount counts when the transaction's
input holds this very signature; the caller has looked at the input and at the nonce's bit. What an authorization of
EIP-3009 accounts for is no Permit2 payment.

A token may deliver less than it was asked for: then the lone Transfer from the payer to us is what came.

A receipt is as long as its transaction's sender likes, and one answer has a limit. Those of our own transactions are
read many at once: a payer's contract runs in them to confirm a signature only, in a static call, which writes no log.
One of somebody else's, who has taken what was signed out of the pool, is read for that one payment alone, so that a
long one hides that payment and no other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway.core.x402.messages import Eip3009, Payment
from gateway.settlement.calldata import AUTHORIZATION_USED_TOPIC, TRANSFER_TOPIC, topic
from gateway.settlement.rpc import Answer, RpcUnavailable, data, members, quantity, text


@dataclass(frozen=True, slots=True)
class Log:
    address: str
    """Lower case."""
    topics: tuple[str, ...]
    data: bytes
    index: int

    @property
    def value(self) -> int:
        return int.from_bytes(self.data[:32], "big")


@dataclass(frozen=True, slots=True)
class Receipt:
    transaction: str
    block: int
    succeeded: bool
    logs: tuple[Log, ...]
    block_hash: str = ""
    sender: str = ""
    """Who has signed the transaction, lower case."""
    to: str = ""
    """What it calls, lower case; "" where it makes a contract."""
    _of: "dict[str, _Told]" = field(default_factory=dict, repr=False, compare=False)

    def told_by(self, token: str) -> "_Told":
        """What a token said in it. Sorted once for all the payments that one transaction carried."""
        told = self._of.get(token)
        if told is None:
            told = self._of[token] = _told([log for log in self.logs if log.address == token])
        return told


@dataclass(frozen=True, slots=True)
class _Told:
    logs: Sequence[Log]
    used: Mapping[tuple[str, ...], int]
    """Where an AuthorizationUsed of these topics stands; -1 where it stands more than once."""
    ends_on_authorization: bool


def _told(logs: Sequence[Log]) -> _Told:
    used: dict[tuple[str, ...], int] = {}
    last = ""
    for at, log in enumerate(logs):
        kind = log.topics[0] if log.topics else ""
        if kind == AUTHORIZATION_USED_TOPIC:
            used[log.topics] = -1 if log.topics in used else at
        if kind in (AUTHORIZATION_USED_TOPIC, TRANSFER_TOPIC):
            last = kind
    return _Told(logs, used, last == AUTHORIZATION_USED_TOPIC)


def receipt(answer: Answer, transaction: str) -> Receipt | None:
    """What a node answered when it was asked for this transaction's; None for one that is not in a block."""
    if answer is None:
        return None
    found = members(answer)
    if text(found.get("transactionHash")).lower() != transaction:
        raise RpcUnavailable("a receipt of something else")
    logs = found.get("logs")
    if not isinstance(logs, list):
        raise RpcUnavailable("a receipt without logs")
    return Receipt(
        transaction=transaction,
        block=quantity(found.get("blockNumber"), bits=63),
        succeeded=quantity(found.get("status")) == 1,
        logs=tuple(read_log(each) for each in logs),
        block_hash=text(found.get("blockHash", "")).lower(),
        sender=text(found.get("from", "")).lower(),
        to=text(found.get("to") or "").lower(),
    )


def read_log(answer: Answer) -> Log:
    found = members(answer)
    topics = found.get("topics")
    if not isinstance(topics, list):
        raise RpcUnavailable("a log without topics")
    return Log(
        address=text(found.get("address")).lower(),
        topics=tuple(text(each).lower() for each in topics),
        data=data(found.get("data")),
        index=quantity(found.get("logIndex"), bits=63),
    )


def transfer_of(receipt: Receipt, payment: Payment, *, token: str, payer: str, pay_to: str, amount: int) -> Log | None:
    """The Transfer in this receipt that pays `payment`, or None."""
    if not receipt.succeeded:
        return None
    told = receipt.told_by(token.lower())
    signed = payment.authorization
    if isinstance(signed, Eip3009):
        return _by_authorization(told, topic(payer), topic(pay_to), "0x" + signed.nonce.hex())
    return _by_amount(told.logs, topic(payer), topic(pay_to), amount)


def _is_transfer(log: Log, payer: str, pay_to: str) -> bool:
    return log.topics == (TRANSFER_TOPIC, payer, pay_to)


def _is_authorization(log: Log) -> bool:
    return log.topics[:1] == (AUTHORIZATION_USED_TOPIC,)


def _by_authorization(told: _Told, payer: str, pay_to: str, nonce: str) -> Log | None:
    at = told.used.get((AUTHORIZATION_USED_TOPIC, payer, nonce), -1)
    if at < 0:
        return None
    # Who moves first and says it afterwards ends on the word; everybody else ends on a Transfer.
    neighbours = reversed(told.logs[:at]) if told.ends_on_authorization else told.logs[at + 1 :]
    for log in neighbours:
        if _is_authorization(log):
            return None
        if _is_transfer(log, payer, pay_to):
            return log
    return None


def _by_amount(logs: Sequence[Log], payer: str, pay_to: str, amount: int) -> Log | None:
    candidates, authorized = [], False
    for log in logs:
        if _is_authorization(log):
            authorized = True
        elif log.topics[:1] == (TRANSFER_TOPIC,):
            if _is_transfer(log, payer, pay_to) and not authorized:
                candidates.append(log)
            authorized = False
    exact = [log for log in candidates if log.value == amount]
    if exact:
        return exact[0]
    return candidates[0] if len(candidates) == 1 and candidates[0].value < amount else None
