"""SANDBOX: no chain at all. Balances in memory, real signatures, and everything a chain would refuse is refused.

It stands on a network of its own (`eip155:31337`), so nothing signed for it is worth anything anywhere. What it
remembers is made again at start from the settlements that were proven: the store is its disk. The same contract
tests run on it and on a real EVM, which keeps it honest.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

import orjson

from gateway.core.money import atomic_to_micros_down
from gateway.core.networks import NETWORKS, PERMIT2, SANDBOX, Network, keccak
from gateway.core.settlement import ProofKind, Settled, Settlement
from gateway.core.x402.messages import Eip2612, Eip3009, Payment, Permit2, Requirements, parse_payment
from gateway.core.x402.typed_data import eip2612_digest, eip3009_digest, permit2_digest, recover
from gateway.core.x402.verify import Verified
from gateway.settlement import reasons
from gateway.settlement.protocol import Admitted, Health, Holding, Refused, Senders, SignedText, Unknown

FACILITATOR = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
"""The first of the well-known development keys: `upto` names it."""

PREFUNDED: Mapping[str, str] = MappingProxyType(
    {
        "0x70997970C51812dc3A010C7d01b50e0d17dc79C8": (
            "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"
        ),
        "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC": (
            "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a"
        ),
        "0x90F79bf6EB2c4f870365E785982E1f101E93b906": (
            "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6"
        ),
    }
)
"""Addresses and their private keys, known to every developer in the world: play money only."""

PREFUNDED_ATOMIC = 1_000_000_000
_UNLIMITED = 2**256 - 1


class Weather(StrEnum):
    """What a test or a curious operator may ask for."""

    FAIR = "fair"
    UNREACHABLE = "unreachable"
    """Nothing is known and nothing is done."""
    LOST_REPLY = "lost_reply"
    """It is done, and the answer gets lost."""
    STUCK = "stuck"
    """It is taken, and not done until the weather is fair."""


@dataclass(frozen=True, slots=True)
class _Terms:
    """Of a stored payment: what moves from whom, and by whose signature."""

    identity: str
    payer: str
    amount: int
    valid_before_s: int
    by_permit2: bool
    permit: Eip2612 | None = None
    """One over exactly what was signed: the proxies take no other."""


class Sandbox:
    sandbox = True
    journals = True  # it has nothing to broadcast

    def __init__(
        self,
        *,
        pay_to: str,
        clock: Callable[[], float],
        network: Network = NETWORKS[SANDBOX],
        balances: Mapping[str, int] | None = None,
        settled: Iterable[Settlement] = (),
    ) -> None:
        """`balances` in atomic units by address, of every token; `settled`: what was proven in earlier runs."""
        self.networks = (network.id,)
        self.weather = Weather.FAIR
        self._network = network
        self._pay_to = pay_to.lower()
        self._clock = clock
        self._tokens = {token.address.lower(): token for token in network.tokens}
        self._opening = {
            address.lower(): amount
            for address, amount in (balances or dict.fromkeys(PREFUNDED, PREFUNDED_ATOMIC)).items()
        }
        self._balances: dict[tuple[str, str], int] = {}
        self._came: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        """By token and receiver, what came from whom."""
        self._allowances: dict[tuple[str, str], int] = {}
        self._permit_nonces: dict[tuple[str, str], int] = {}
        self._proofs: dict[str, Settled] = {}
        self._cancelled: set[str] = set()
        self._frozen: set[str] = set()
        self._block = 0
        for settlement in settled:
            self._move(settlement.token, settlement.payer, settlement.pay_to, settlement.amount_atomic)
            self._prove(settlement.identity, settlement.amount_atomic)

    # the world, for tests and the curious

    def balance(self, address: str, token: str | None = None) -> int:
        """Atomic units; of the network's first token where none is named."""
        address, token = address.lower(), (token or self._network.tokens[0].address).lower()
        return self._balances.get((token, address), self._opening.get(address, 0))

    def fund(self, address: str, amount: int, token: str | None = None) -> None:
        """Sets a balance."""
        self._balances[((token or self._network.tokens[0].address).lower(), address.lower())] = amount

    def send(self, sender: str, receiver: str, amount: int, token: str | None = None) -> None:
        """A plain transfer, whoever asks for it."""
        self._move(token or self._network.tokens[0].address, sender, receiver, amount)

    def allow_permit2(self, address: str, amount: int, token: str | None = None) -> None:
        """Sets the allowance; without it, everybody has approved Permit2 without a limit."""
        self._allowances[((token or self._network.tokens[0].address).lower(), address.lower())] = amount

    def permit2_allowance(self, address: str, token: str | None = None) -> int:
        return self._allowance(token or self._network.tokens[0].address, address.lower())

    def permit(self, permit: Eip2612) -> bool:
        """What the token's `permit` does, called by anybody; False where the token would not take it."""
        if not self._takes(permit):
            return False
        self._permit_nonces[permit.token, permit.owner] = permit.nonce + 1
        if permit.spender == PERMIT2.lower():
            self._allowances[permit.token, permit.owner] = permit.value
        return True

    def cancel(self, identity: str) -> None:
        """The payer takes a signature back: its nonce is used, and nothing moved."""
        self._cancelled.add(identity)

    def freeze(self, address: str) -> None:
        self._frozen.add(address.lower())

    # gateway.settlement.protocol.Settler

    def facilitator_addresses(self, network: str) -> tuple[str, ...]:
        return (FACILITATOR,) if network in self.networks else ()

    def sponsors(self, network: str) -> bool:
        return network in self.networks

    def serves(self, requirements: Requirements) -> bool:
        return (
            requirements.network in self.networks
            and requirements.asset.lower() in self._tokens
            and requirements.pay_to.lower() == self._pay_to
        )

    async def start(self) -> None:
        """There is nothing to connect to."""

    async def close(self) -> None:
        """There is nothing to close."""

    async def check(self, payment: Verified) -> Admitted | Refused | Unknown:
        if self.weather is Weather.UNREACHABLE:
            return Unknown("the sandbox is out of reach, as it was told to be")
        asked = payment.requirements
        if not self.serves(asked):
            return Refused(reasons.NOT_ASKED_FOR, "this is not asked for here")
        by_permit2 = payment.method == "permit2"
        if not payment.recovered:
            return Refused(reasons.signature(by_permit2), "an account without code signs with its own key")
        terms = _Terms(
            payment.identity, payment.payer, payment.value_atomic, payment.valid_before_s, by_permit2, payment.permit
        )
        refused = self._refusal(asked.asset, terms)
        if refused is not None:
            return refused
        by_permit = self._short(asked.asset, terms)
        balance, allowance = self.balance(payment.payer, asked.asset), self._allowance(asked.asset, payment.payer)
        spendable = min(balance, payment.value_atomic if by_permit else allowance) if by_permit2 else balance
        return Admitted(self._block, int(self._clock()), spendable, by_permit)

    async def settle(self, settlement: Settlement) -> Settled | Refused | Unknown:
        ours = settlement.network in self.networks and settlement.token.lower() in self._tokens
        if not ours or settlement.pay_to.lower() != self._pay_to or settlement.abandoned:
            return Unknown("nothing of this kind is sent")
        if self.weather in (Weather.UNREACHABLE, Weather.STUCK):
            return Unknown(f"the sandbox is {self.weather}, as it was told to be")
        proof = self._proofs.get(settlement.identity)
        if proof is None:
            payment = parse_payment(orjson.loads(settlement.payment))
            signed = payment.authorization
            by_permit2 = isinstance(signed, Permit2)
            exactly = (
                isinstance(signed, Permit2) and payment.permit is not None and payment.permit.value == signed.amount
            )
            terms = _Terms(
                settlement.identity, settlement.payer, settlement.amount_atomic, settlement.valid_before_s, by_permit2,
                payment.permit if exactly else None,
            )  # fmt: skip
            refused = self._unsigned(payment, settlement) or self._refusal(settlement.token, terms)
            if refused is not None:
                return refused
            if terms.permit is not None and self._short(settlement.token, terms):
                self.permit(terms.permit)
            if by_permit2:
                self._draw(settlement.token, settlement.payer, settlement.amount_atomic)
            self._move(settlement.token, settlement.payer, settlement.pay_to, settlement.amount_atomic)
            proof = self._prove(settlement.identity, settlement.amount_atomic)
        if self.weather is Weather.LOST_REPLY:
            return Unknown("the sandbox lost its answer, as it was told to", proof.transaction)
        return proof

    async def find(self, settlement: Settlement) -> Settled | Refused | Unknown:
        if self.weather is Weather.UNREACHABLE:
            return Unknown("the sandbox is out of reach, as it was told to be")
        proof = self._proofs.get(settlement.identity)
        if proof is not None:
            return proof
        if settlement.identity in self._cancelled:
            return Refused(reasons.NONCE_USED, "used, and nothing came")
        if settlement.valid_before_s <= self._clock():
            return Refused(reasons.TRANSACTION_FAILED, "it expired unused")
        return Unknown("not settled yet")

    async def health(self) -> Health:
        reachable = self.weather is not Weather.UNREACHABLE
        return Health(ready=reachable, alarms=() if reachable else ("sandbox_unreachable",), facts={"sandbox": True})

    # gateway.settlement.protocol.Wallets

    async def confirms(self, network: str, wallet: str, signed: Sequence[SignedText]) -> bool | Unknown:
        """There are no contracts here: an account signs with its own key."""
        return self._out_of_reach(network) or False

    async def holding(self, network: str, wallet: str) -> Holding | Unknown:
        tokens = self._network.tokens
        each = [
            Holding(token, atomic_to_micros_down(self.balance(wallet, token.address), token.decimals)[0], self._block)
            for token in tokens
        ]
        return self._out_of_reach(network) or max(each, key=lambda holding: holding.micros)

    async def senders(self, network: str, wallet: str, holding: Holding) -> Senders | Unknown:
        came = self._came[holding.token.address.lower(), wallet.lower()]
        return self._out_of_reach(network) or Senders.of(came, holding.token.decimals)

    def _out_of_reach(self, network: str) -> Unknown | None:
        if network not in self.networks or self.weather is Weather.UNREACHABLE:
            return Unknown("the sandbox is out of reach, or no such network")
        return None

    # the rules of the chain

    def _refusal(self, token: str, terms: _Terms) -> Refused | None:
        by_permit2 = terms.by_permit2
        if terms.identity in self._proofs or terms.identity in self._cancelled:
            return Refused(reasons.NONCE_USED, "its nonce was used before", final=True)
        if terms.valid_before_s <= self._clock():
            return Refused(reasons.expired(by_permit2), "it has expired", final=True)
        if {terms.payer, self._pay_to} & self._frozen:
            return Refused(reasons.TRANSACTION_FAILED, "the token has frozen the payer or the receiver", final=False)
        if self._short(token, terms) and (terms.permit is None or not self._takes(terms.permit)):
            return self._not_allowed(terms.permit)
        if self.balance(terms.payer, token) < terms.amount:
            return Refused(reasons.insufficient(by_permit2), "the payer has less than that", final=False)
        return None

    def _short(self, token: str, terms: _Terms) -> bool:
        return terms.by_permit2 and self._allowance(token, terms.payer) < terms.amount

    def _not_allowed(self, permit: Eip2612 | None) -> Refused:
        expected = 0 if permit is None else self._permit_nonces.get((permit.token, permit.owner), 0)
        if permit is not None and permit.nonce != expected:
            told = f"the permit has the nonce {permit.nonce}; the token takes {expected} next: sign a new one"
            return Refused(reasons.PERMIT_NONCE, told, final=False)
        return Refused(reasons.ALLOWANCE, "approve Permit2 on the token first", final=False)

    def _takes(self, permit: Eip2612) -> bool:
        """Whether the token would take it: the owner's next, in time, signed by him."""
        token = self._tokens.get(permit.token)
        if token is None or permit.deadline < self._clock():
            return False
        digest = eip2612_digest(
            permit, name=token.name, version=token.version, chain_id=self._network.chain_id, token=token.address
        )
        in_turn = permit.nonce == self._permit_nonces.get((permit.token, permit.owner), 0)
        return in_turn and recover(digest, permit.signature) == permit.owner

    def _draw(self, token: str, payer: str, amount: int) -> None:
        """What Permit2 has taken is no longer allowed to it, unless everything is."""
        key = token.lower(), payer.lower()
        if self._allowances.get(key, _UNLIMITED) != _UNLIMITED:
            self._allowances[key] -= amount

    def _unsigned(self, payment: Payment, settlement: Settlement) -> Refused | None:
        signed = payment.authorization
        if isinstance(signed, Eip3009):
            token = self._tokens[settlement.token.lower()]
            digest = eip3009_digest(
                signed, name=token.name, version=token.version, chain_id=self._network.chain_id, token=token.address
            )
            due = signed.value
        else:
            digest = permit2_digest(signed, chain_id=self._network.chain_id)
            due = settlement.amount_atomic if signed.facilitator else signed.amount
            if due > signed.amount:
                return Refused(reasons.MORE_THAN_SIGNED, "more than was signed for")
        if recover(digest, payment.signature) != signed.from_ or due != settlement.amount_atomic:
            return Refused(reasons.signature(isinstance(signed, Permit2)), "the signature is not the payer's")
        return None

    def _allowance(self, token: str, payer: str) -> int:
        return self._allowances.get((token.lower(), payer), _UNLIMITED)

    def _move(self, token: str, payer: str, pay_to: str, amount: int) -> None:
        token, payer, pay_to = token.lower(), payer.lower(), pay_to.lower()
        self._balances[token, payer] = self.balance(payer, token) - amount
        self._balances[token, pay_to] = self.balance(pay_to, token) + amount
        self._came[token, pay_to][payer] += amount

    def _prove(self, identity: str, amount: int) -> Settled:
        self._block += 1
        transaction = "0x" + keccak(b"sandbox " + identity.encode()).hex()
        proof = Settled(ProofKind.SANDBOX, transaction, 0, self._block, amount, final=True)
        self._proofs[identity] = proof
        return proof
