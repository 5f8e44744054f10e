"""What a chain knows of a payment: would it take it now, and what became of it.

`check` needs one round trip where all is well. `find` looks at the transactions we know of, then at the logs since the
payment was admitted. A no is never taken from one reader alone: nodes behind one url may be blocks apart, so whatever
would be refused is asked a second time, of a node that is not behind the first.

    find                                                        answer
    its Transfer to us in a block                               Settled, final when the block is deep enough
    nonce used at depth, no Transfer to us                      Refused: taken back by the payer, or paid to nobody
    nonce unused, expired by the time of a block at depth       Refused
    anything else                                               Unknown
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import orjson
import structlog

from gateway.core.networks import EXACT_PERMIT2_PROXY, MULTICALL3, PERMIT2, UPTO_PERMIT2_PROXY, Network, Token
from gateway.core.settlement import ProofKind, Settled, Settlement
from gateway.core.x402.messages import Eip2612, Eip3009, Payment, Permit2, Requirements, parse_payment
from gateway.core.x402.typed_data import ECDSA_BYTES, domain_separator
from gateway.core.x402.verify import Verified
from gateway.settlement import calldata, reasons
from gateway.settlement.proof import Receipt, receipt, transfer_of
from gateway.settlement.protocol import Admitted, Refused, Unknown
from gateway.settlement.rpc import Answer, Block, Call, Rpc, RpcError, RpcUnavailable, data, members, quantity, word
from gateway.settlement.together import Together

log = structlog.get_logger("onchain")

PROOF_DEPTH = 1
FINAL_DEPTH = 12
LOG_BLOCKS_MAX = 2_000
"""How many blocks one look into the logs may span; many nodes refuse more."""
LOG_LOOKS_MAX = 50

GAS_EIP3009 = 130_000
GAS_PERMIT2 = 190_000
GAS_EIP2612 = 110_000
"""More, where a permit is taken along."""
GAS_CONTRACT = 600_000
"""The most that settling may burn when the payer's own code is run."""


@dataclass(frozen=True, slots=True)
class Due:
    """What settling needs to know of a payment, whether it was just verified or long stored."""

    payment: Payment
    token: str
    payer: str
    pay_to: str
    amount: int
    valid_before_s: int
    permit: Eip2612 | None = None
    """A permit that came with it."""
    with_permit: bool = False
    """The permit is taken along: Permit2 may not take so much of the payer without it."""

    @property
    def by_permit2(self) -> bool:
        return isinstance(self.payment.authorization, Permit2)

    @property
    def facilitator(self) -> str | None:
        """Of `upto`: the only address that may send it, lower case."""
        signed = self.payment.authorization
        return signed.facilitator if isinstance(signed, Permit2) else None

    @property
    def call(self) -> tuple[str, bytes]:
        """(contract, calldata) that collects it."""
        return calldata.settle(self.payment, self.token, self.amount, self.permit if self.with_permit else None)

    @property
    def ways(self) -> "tuple[Due, ...]":
        """How it could be sent: as it is, and with the permit that came with it."""
        plain = replace(self, with_permit=False) if self.with_permit else self
        return (plain,) if self.permit is None else (plain, replace(self, with_permit=True))

    def way(self, allowance: int) -> int:
        """Which of `ways` it takes where Permit2 may take so much. A permit sets the allowance: one that is not needed
        would only lower it."""
        return 0 if self.permit is None or allowance >= self.amount else 1

    def gas(self, *, contract: bool) -> int:
        permit = GAS_EIP2612 if self.with_permit else 0
        if contract:
            return GAS_CONTRACT + permit
        return GAS_PERMIT2 + permit if self.by_permit2 else GAS_EIP3009


@lru_cache(maxsize=1024)
def _stored(payment: bytes) -> Payment:
    """What is stored is understood several times on the way of one settlement."""
    return parse_payment(orjson.loads(payment))


def due_of(settlement: Settlement) -> Due:
    payment = _stored(settlement.payment)
    permit = payment.permit
    return Due(
        payment=payment,
        token=settlement.token.lower(),
        payer=settlement.payer.lower(),
        pay_to=settlement.pay_to.lower(),
        amount=settlement.amount_atomic,
        valid_before_s=settlement.valid_before_s,
        # Of another length is one that nobody has looked at, since it was not asked for.
        permit=permit if permit is not None and len(permit.signature) == ECDSA_BYTES else None,
    )


def due_of_verified(payment: Verified) -> Due:
    asked = payment.requirements
    return Due(
        payment=payment.payment,
        token=asked.asset.lower(),
        payer=payment.payer,
        pay_to=asked.pay_to.lower(),
        amount=payment.value_atomic,
        valid_before_s=payment.valid_before_s,
        permit=payment.permit,
    )


@dataclass(frozen=True, slots=True)
class Sight:
    """What one look at the chain has shown of a payment, and of whoever would send it."""

    head: Block
    due: Due
    passed: bool
    """Sending it was tried, and went well."""
    code: bool
    """Whether the payer's account has any."""
    gas_wei: int
    nonce: int
    """How many transactions of the sender are mined."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `ok` is None when it could not be."""

    subject: str
    ok: bool | None
    message: str


def eth_call(to: str, calldata: bytes, *, sender: str | None = None, gas: int | None = None) -> Call:
    transaction: dict[str, str] = {"to": to, "data": "0x" + calldata.hex()}
    if sender is not None:
        transaction["from"] = sender
    if gas is not None:
        transaction["gas"] = hex(gas)
    return ("eth_call", transaction, "latest")


def at_block(call: Call, number: int) -> Call:
    """The same question about the state after block `number`."""
    return (*call[:-1], hex(number))


def simulation(due: Due, sender: str, *, contract: bool) -> Call:
    to, payload = due.call
    return eth_call(to, payload, sender=sender, gas=due.gas(contract=contract))


def reverts(answer: Answer) -> bool:
    """Whether a simulation failed. Raises RpcUnavailable when it was not carried out at all."""
    if isinstance(answer, RpcError):
        if not answer.reverted:
            raise RpcUnavailable(f"the node could not simulate: {answer.code}")
        return True
    data(answer)
    return False


class OnChain:
    def __init__(
        self, network: Network, rpc: Rpc, *, pay_to: str, proof_depth: int = PROOF_DEPTH, final_depth: int = FINAL_DEPTH
    ) -> None:
        self.network = network
        self.rpc = rpc
        self._together = Together(rpc)
        self.pay_to = pay_to.lower()
        self.proof_depth = proof_depth
        self.final_depth = max(final_depth, proof_depth)
        self.tokens = {token.address.lower(): token for token in network.tokens}
        self.confirmed = False
        """Whether the chain is as it was configured; until it says so, or says otherwise, nobody knows."""
        self._wrong: tuple[Finding, ...] = ()
        self._standstill: dict[str, str] = {}
        """By token, why it pays nobody here just now."""

    @property
    def alarms(self) -> tuple[str, ...]:
        """What stands in the way on our own side: `pay_to_frozen`, `token_paused`, `settlement_misconfigured`."""
        wrong = {"settlement_misconfigured"} if self._wrong else set()
        return tuple(sorted({*self._standstill.values(), *wrong}))

    def serves(self, requirements: Requirements) -> bool:
        return (
            requirements.network == self.network.id
            and requirements.asset.lower() in self.tokens
            and requirements.pay_to.lower() == self.pay_to
        )

    def owes(self, settlement: Settlement) -> bool:
        """Whether this settlement's money comes to us in a token of ours: nothing else is ever sent."""
        return (
            settlement.network == self.network.id
            and settlement.token.lower() in self.tokens
            and settlement.pay_to.lower() == self.pay_to
        )

    # before

    async def check(
        self,
        payment: Verified,
        sender: str,
        *,
        max_fee_wei: int | None = None,
        saw: Callable[[Sight], None] | None = None,
    ) -> Admitted | Refused | Unknown:
        """Would the chain take it now, sent by `sender`? `max_fee_wei` is the most that a unit of gas may cost. Where
        the sender is our own, `saw` is told what was seen; whether another one can pay for gas is his own affair."""
        if not self.serves(payment.requirements):
            return Refused(reasons.NOT_ASKED_FOR, "this is not asked for here")
        if self._wrong:
            return Unknown(f"the configuration is wrong: {self._wrong[0].subject}: {self._wrong[0].message}")
        due = due_of_verified(payment)
        ways, contract = due.ways, not payment.recovered
        calls = [
            eth_call(due.token, calldata.balance_of(due.payer)),
            ("eth_getCode", due.payer, "latest"),
        ]
        if saw is not None:
            calls += [("eth_getBalance", sender, "latest"), ("eth_getTransactionCount", sender, "latest")]
        if due.by_permit2:
            calls.append(eth_call(due.token, calldata.permit2_allowance(due.payer)))
        calls += [simulation(way, sender, contract=contract) for way in ways]

        def understand(head: Block, answers: list[Answer]) -> tuple[int, Sight]:
            spendable = allowance = word(answers[0])
            if due.by_permit2:
                allowance = word(answers[-len(ways) - 1])
            taken = due.way(allowance)
            spendable = min(spendable, _allowed(ways[taken], allowance))
            failed = reverts(answers[taken - len(ways)])
            gas_wei, nonce = (quantity(answers[2]), quantity(answers[3], bits=63)) if saw is not None else (0, 0)
            return spendable, Sight(head, ways[taken], not failed, bool(data(answers[1])), gas_wei, nonce)

        try:
            spendable, sight = await self._together.latest(calls, understand)
            head, code = sight.head, sight.code
            if saw is not None:
                saw(sight)
            if saw is not None and sight.gas_wei < sight.due.gas(contract=code) * 2 * head.base_fee:
                return Unknown("whoever settles here has no money for gas")
            if max_fee_wei is not None and head.base_fee > max_fee_wei:
                return Unknown("gas costs more than is allowed to be paid for it")
            if not sight.passed or not (payment.recovered or code):
                return await self.diagnose(due, sender, recovered=payment.recovered)
        except RpcUnavailable as failure:
            return Unknown(f"the chain cannot be asked: {failure}")
        self._standstill.pop(due.token, None)
        return Admitted(head.number, head.time_s, spendable, sight.due.with_permit)

    async def allows(self, due: Due) -> bool:
        """Whether Permit2 may take a payment's amount of its payer without a permit. Raises RpcUnavailable."""
        calls = [eth_call(due.token, calldata.permit2_allowance(due.payer))]
        return await self.rpc.latest(calls, lambda _, answers: word(answers[0]) >= due.amount)

    async def diagnose(self, due: Due, sender: str, *, recovered: bool) -> Admitted | Refused | Unknown:
        """A second look at a payment whose simulation failed, and why it did. Raises RpcUnavailable."""
        used_at, used_call = calldata.nonce_used(due.payment, due.token)
        ways = due.ways
        calls = [
            ("eth_getCode", due.payer, "latest"),
            eth_call(due.token, calldata.permit_nonce(due.payer)),
            eth_call(due.token, calldata.balance_of(due.payer)),
            eth_call(due.token, calldata.permit2_allowance(due.payer)),
            eth_call(used_at, used_call),
            eth_call(due.token, calldata.PAUSED),
            eth_call(due.token, calldata.is_blacklisted(due.pay_to)),
            eth_call(due.token, calldata.is_blacklisted(due.payer)),
            *(simulation(way, sender, contract=contract) for way in ways for contract in (False, True)),
        ]
        tried = len(calls) - 2 * len(ways)

        def understand(head: Block, answers: list[Answer]) -> Admitted | Refused | Unknown:
            code = bool(data(answers[0]))
            if not (code or recovered):
                return Refused(
                    reasons.signature(due.by_permit2), "it is signed by another key, and the payer is no contract"
                )
            balance, allowance = word(answers[2]), _word_or(answers[3], 2**256 - 1)
            taken = due.way(allowance)
            way = ways[taken]
            if not reverts(answers[tried + 2 * taken + code]):
                spendable = min(balance, _allowed(way, allowance))
                return Admitted(head.number, head.time_s, spendable, way.with_permit)
            if self._stands_still(due.token, _word_or(answers[5], 0), _word_or(answers[6], 0)):
                return Unknown("the token pays nothing to us just now")
            next_permit = _word_or(answers[1], 0) if way.with_permit else None
            frozen = _word_or(answers[7], 0)
            return _why(way, head, balance, allowance, answers[4], next_permit, frozen=frozen, code=code)

        return await self.rpc.latest(calls, understand)

    def _stands_still(self, token: str, paused: int, frozen: int) -> bool:
        """No fault of the payer, and an alarm."""
        self._standstill.pop(token, None)
        if paused:
            self._standstill[token] = "token_paused"
        elif frozen:
            self._standstill[token] = "pay_to_frozen"
        return token in self._standstill

    async def _look_at_tokens(self) -> None:
        calls = [
            eth_call(token, question)
            for token in self.tokens
            for question in (calldata.PAUSED, calldata.is_blacklisted(self.pay_to))
        ]
        try:
            answers = await self.rpc.read(calls, lambda answers: [_word_or(each, 0) for each in answers])
        except RpcUnavailable:
            return
        for place, token in enumerate(self.tokens):
            self._stands_still(token, *answers[2 * place : 2 * place + 2])

    # after

    async def find(self, settlement: Settlement, transactions: Sequence[str]) -> Settled | Refused | Unknown:
        """What became of it. `transactions` are the hashes that may have carried it."""
        due = due_of(settlement)
        try:
            outcome = await self._look(due, settlement.admitted_block, transactions)
            if isinstance(outcome, Refused):
                again = await self._look(due, settlement.admitted_block, transactions)
                return again if again == outcome or isinstance(again, Settled) else Unknown("two readers disagree")
        except RpcUnavailable as failure:
            return Unknown(f"the chain cannot be asked: {failure}", transactions[-1] if transactions else "")
        return outcome

    async def _look(self, due: Due, since_block: int, transactions: Sequence[str]) -> Settled | Refused | Unknown:
        used_at, used_call = calldata.nonce_used(due.payment, due.token)

        def understand(head: Block, answers: list[Answer]) -> tuple[Block, bool, list[Receipt]]:
            used = calldata.used(due.payment, word(answers[0]))
            return head, used, _receipts(answers[1:], transactions)

        head, used, receipts = await self.rpc.latest(
            [eth_call(used_at, used_call), *(("eth_getTransactionReceipt", hash) for hash in transactions)], understand
        )
        last = transactions[-1] if transactions else ""
        if used:
            settled = self.proof(due, receipts, head.number) or await self._proof_in_logs(due, since_block, head)
            if settled is not None:
                return settled
        elif head.time_s < due.valid_before_s:
            return Unknown("not settled yet", last)
        return await self._end(due, head, used, last)

    def proof(self, due: Due, receipts: Sequence[Receipt], head: int) -> Settled | Unknown | None:
        """Out of receipts of transactions that are known to carry the payment; `head` is the latest block's number."""
        for found in receipts:
            log = transfer_of(
                found, due.payment, token=due.token, payer=due.payer, pay_to=due.pay_to, amount=due.amount
            )
            if log is None:
                continue
            depth = head - found.block + 1
            if depth < self.proof_depth:
                return Unknown(f"{depth} of {self.proof_depth} blocks deep", found.transaction)
            return Settled(
                ProofKind.CHAIN, found.transaction, log.index, found.block, log.value, final=depth >= self.final_depth
            )
        return None

    async def _proof_in_logs(self, due: Due, since_block: int, head: Block) -> Settled | Unknown | None:
        signed = due.payment.authorization
        payer = calldata.topic(due.payer)
        if isinstance(signed, Eip3009):
            topics = [calldata.AUTHORIZATION_USED_TOPIC, payer, "0x" + signed.nonce.hex()]
        else:
            topics = [calldata.TRANSFER_TOPIC, payer, calldata.topic(due.pay_to)]
        hashes = await self._transactions_with(due.token, topics, since_block, head.number)
        if not hashes:
            return None
        if not isinstance(signed, Eip3009):
            hashes = await self._holding(calldata.signature_mark(due.payment.signature), hashes)
        receipts = await self.rpc.read(
            [("eth_getTransactionReceipt", hash) for hash in hashes], lambda answers: _receipts(answers, hashes)
        )
        if len(receipts) < len(hashes):
            raise RpcUnavailable("a log without its transaction")
        return self.proof(due, receipts, head.number)

    async def _transactions_with(self, token: str, topics: list[str], since: int, until: int) -> list[str]:
        starts = range(max(since, 0), until + 1, LOG_BLOCKS_MAX)[-LOG_LOOKS_MAX:]
        calls: list[Call] = [
            (
                "eth_getLogs",
                {
                    "address": token, "topics": topics, "fromBlock": hex(start),
                    "toBlock": hex(min(start + LOG_BLOCKS_MAX - 1, until)),
                },
            )
            for start in starts
        ]  # fmt: skip
        return await self.rpc.read(calls, _transactions_of)

    async def _holding(self, mark: bytes, hashes: Sequence[str]) -> list[str]:
        """Those of the transactions whose input holds the signature."""

        def understand(answers: list[Answer]) -> list[str]:
            inputs = [data(members(each).get("input")) for each in answers]
            return [hash for hash, input in zip(hashes, inputs, strict=True) if mark in input]

        return await self.rpc.read([("eth_getTransactionByHash", hash) for hash in hashes], understand)

    async def _end(self, due: Due, head: Block, used: bool, last: str) -> Refused | Unknown:
        """Whether it is certain, at depth, that it was never paid and never will be."""
        depth = head.number - self.final_depth + 1
        if depth < 0:
            return Unknown("the chain is too young to be sure", last)
        used_at, used_call = calldata.nonce_used(due.payment, due.token)

        def understand(answers: list[Answer]) -> tuple[int, bool]:
            time_s = quantity(members(answers[0]).get("timestamp"), bits=40)
            return time_s, calldata.used(due.payment, word(answers[1]))

        time_s, used_then = await self.rpc.read(
            [("eth_getBlockByNumber", hex(depth), False), at_block(eth_call(used_at, used_call), depth)], understand
        )
        if used and used_then:
            return Refused(reasons.NONCE_USED, "its nonce is used, and nothing came to us")
        if not used and not used_then and time_s >= due.valid_before_s:
            return Refused(reasons.expired(due.by_permit2), "it expired unused")
        return Unknown("not deep enough to be sure", last)

    # whether all of it stands where it should

    async def confirm(self, methods: Sequence[str], *, batches: bool) -> None:
        """Looks until all is as configured: a broken node's no is asked again, a wrong one stays wrong. `batches`:
        whether we send ourselves, and need Multicall3. Also whether each token would pay us at all, before a customer
        finds out."""
        await self._look_at_tokens()
        if self.confirmed:
            return
        findings = [each for each in await self.describe(methods) if batches or each.subject != "Multicall3"]
        self._wrong = tuple(finding for finding in findings if finding.ok is False)
        self.confirmed = all(finding.ok for finding in findings)
        for finding in self._wrong:
            log.error("misconfigured", network=self.network.id, subject=finding.subject, cause=finding.message)

    async def describe(self, methods: Sequence[str]) -> tuple[Finding, ...]:
        """Everything the configuration says of this chain, held against the chain itself."""
        standing = {"Multicall3": MULTICALL3}
        if "permit2" in methods:
            standing |= {"Permit2": PERMIT2, "x402 exact proxy": EXACT_PERMIT2_PROXY}
            standing |= {"x402 upto proxy": UPTO_PERMIT2_PROXY}
        try:
            codes = await self.rpc.read(
                [("eth_getCode", address, "latest") for address in standing.values()],
                lambda answers: [bool(data(each)) for each in answers],
            )
        except RpcUnavailable as failure:
            return (Finding(self.network.id, None, f"the chain cannot be asked: {failure}"),)
        contracts = tuple(
            Finding(name, code, f"stands at {address}" if code else f"nothing stands at {address}")
            for (name, address), code in zip(standing.items(), codes, strict=True)
        )
        return contracts + tuple(
            [await self.verify_token(token, signed="eip3009" in methods) for token in self.network.tokens]
        )

    async def verify_token(self, token: Token, *, signed: bool = True) -> Finding:
        """Name, version and decimals as configured against the token's own. `signed`: it takes signatures itself, and
        one over another domain is void."""
        calls = [
            ("eth_getCode", token.address, "latest"),
            *(
                eth_call(token.address, each)
                for each in (calldata.DOMAIN_SEPARATOR, calldata.DECIMALS, calldata.NAME, calldata.VERSION)
            ),
        ]
        subject = f"{token.symbol} {token.address}"
        try:
            answers = await self.rpc.batch(calls)
            if not data(answers[0]):
                return Finding(subject, False, f"there is no contract at this address on {self.network.id}")
            decimals = _word_or(answers[2], -1)
            if decimals != token.decimals:
                return Finding(subject, False, f"it has {decimals} decimals, not {token.decimals}")
            expected = domain_separator(token.name, token.version, self.network.chain_id, token.address)
            if signed and (isinstance(answers[1], RpcError) or data(answers[1])[:32] != expected):
                found = f"name {_text(answers[3])!r}, version {_text(answers[4])!r}"
                return Finding(
                    subject, False, f"its signing domain is not {token.name!r}, {token.version!r}; it says {found}"
                )
        except RpcUnavailable as failure:
            return Finding(subject, None, f"the chain cannot be asked: {failure}")
        return Finding(subject, True, f"{token.name} {token.version}, {token.decimals} decimals")


def _receipts(answers: Sequence[Answer], transactions: Sequence[str]) -> list[Receipt]:
    """Of those transactions that are in a block."""
    found = (receipt(answer, hash) for answer, hash in zip(answers, transactions, strict=True))
    return [each for each in found if each is not None]


def _transactions_of(answers: list[Answer]) -> list[str]:
    """Hashes of the transactions that hold these logs, in the order of the chain, each once."""
    hashes: dict[str, None] = {}
    for answer in answers:
        if not isinstance(answer, list):
            raise RpcUnavailable("no logs where there should be some")
        for log in answer:
            hash = members(log).get("transactionHash")
            if not isinstance(hash, str):
                raise RpcUnavailable("a log without a transaction")
            hashes[hash.lower()] = None
    return list(hashes)


def _allowed(way: Due, allowance: int) -> int:
    """What may be taken of a payer who is paid this way, whatever his balance is."""
    if not way.by_permit2:
        return 2**256 - 1
    return way.permit.value if way.with_permit and way.permit is not None else allowance


def _word_or(answer: Answer, otherwise: int) -> int:
    """Of a function that a token may lack."""
    if isinstance(answer, RpcError) or len(data(answer)) < 32:
        return otherwise
    return word(answer)


def _text(answer: Answer) -> str:
    if isinstance(answer, RpcError):
        return ""
    answered = data(answer)
    length = min(int.from_bytes(answered[32:64], "big"), 64)
    return answered[64 : 64 + length].decode(errors="replace")


def _why(
    due: Due,
    head: Block,
    balance: int,
    allowance: int,
    used: Answer,
    next_permit: int | None,
    *,
    frozen: int,
    code: bool,
) -> Refused:
    """The reason that a client can do something about, the most telling first. `next_permit` is the nonce of the
    payer's next permit, where this one was tried."""
    permit2 = due.by_permit2
    if not isinstance(used, RpcError) and calldata.used(due.payment, word(used)):
        return Refused(reasons.NONCE_USED, "its nonce was used before", final=False)
    if head.time_s >= due.valid_before_s:
        return Refused(reasons.expired(due.by_permit2), "it has expired", final=False)
    if balance < due.amount:
        reason = reasons.insufficient(permit2)
        return Refused(reason, f"the payer has {balance} atomic units of the token", final=False)
    if due.permit is not None and next_permit not in (None, due.permit.nonce):
        return Refused(
            reasons.PERMIT_NONCE,
            f"the permit has the nonce {due.permit.nonce}; the token takes {next_permit} next: sign a new one",
            final=False,
        )
    if permit2 and allowance < due.amount and not frozen:
        return Refused(reasons.ALLOWANCE, "approve Permit2 on the token first, then pay", final=False)
    if frozen:
        return Refused(reasons.TRANSACTION_FAILED, "the token's issuer has frozen the payer's account", final=False)
    if code:
        return Refused(reasons.signature(due.by_permit2), "the payer's contract does not confirm it", final=False)
    return Refused(reasons.SIMULATION_FAILED, "the token refuses the transfer", final=False)
