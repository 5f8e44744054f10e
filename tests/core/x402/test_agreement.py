"""Our verdict and that of the official SDK's facilitator, payment by payment.

The SDK asks a chain, which here says yes to everything: nobody has code but the token, every balance and allowance is
large, every simulation passes. What is left is what we decide offline. Where the two differ, the tables say so and
why; a difference that is in no table fails, and so does an entry of a table that is not true any more.

An account without code pays only by its own key, so a payment that we pass on to the chain as "not by the payer's key"
counts as refused here.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pytest
from eth_abi import encode
from rigs import paper
from rigs.chain import PAYER_KEYS
from rigs.payer import Payer
from x402.mechanisms.evm.exact.facilitator import ExactEvmScheme
from x402.mechanisms.evm.upto.facilitator import UptoEvmScheme
from x402.schemas import PaymentPayload, PaymentRequirements

from gateway.core.errors import Problem
from gateway.core.x402.messages import Requirements
from gateway.core.x402.verify import Refused

SEED = 402
ROUNDS = 2
YEAR_S = 365 * 86_400
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

STRICTER = {
    "twin of a signature": "a payment has one signature: its twin would be a second set of bytes for it",
    "echo of another amount": "an echo that contradicts our offer is refused before anything else is looked at",
    "echo of another payee": "the same",
    "echo of another asset": "the same",
    "echo of another timeout": "the same",
    "echo of another domain": "the same",
    "payer is the payee": "a transfer to oneself moves nothing and looks like a payment",
    "payer is a relayer": "our own keys hold gas money and owe nobody anything",
    "good for years": "what lives for years has to be watched for years",
    "no 0x before a nonce": "one spelling of a payment, or few",
    "spaces around a number": "Python reads them, other languages do not",
    "underscores in a number": "the same",
    "plus before a number": "the same",
    "facilitator in the witness of exact": "what stands in a payload is what was signed, and nothing beside it",
}
"""We refuse, the SDK does not."""

LOOSER = {
    "permit nonce in hexadecimal": "the standard's own example is written so",
    "no echo": "the only offer of its kind needs no echo",
}
"""We accept, the SDK does not."""

OTHER_WORDS = {
    ("other scheme", "upto"): ("unsupported_scheme", "invalid_upto_evm_scheme"),
    ("other network", "upto"): ("network_mismatch", "invalid_upto_evm_network_mismatch"),
    ("short signature", "eip3009"): (
        "invalid_exact_evm_payload_signature",
        "invalid_exact_evm_payload_undeployed_smart_wallet",
    ),
    ("odd v", "eip3009"): (
        "invalid_exact_evm_payload_signature",
        "invalid_exact_evm_failed_to_verify_signature",
    ),
}
"""Both refuse, in different words: ours and the SDK's."""


class AnObligingChain:
    """What the SDK asks. Nobody has code but the token."""

    def get_addresses(self) -> list[str]:
        return [paper.RELAYER, paper.FORMER_RELAYER, Payer(PAYER_KEYS[7]).address]

    def get_code(self, address: str) -> bytes:
        return b"\x60" if address.lower() == paper.TOKEN.address.lower() else b""

    def get_chain_id(self) -> int:
        return 8453

    def read_contract(self, address: str, abi: object, name: str, *args: object) -> object:
        return 10**30 if name in ("balanceOf", "allowance") else None


@dataclass
class Scene:
    """A payer before an offer, and randomness."""

    random: random.Random
    offer: Requirements
    payer: Payer

    @property
    def by_token(self) -> bool:
        return "assetTransferMethod" not in self.offer.extra

    @property
    def bytes20(self) -> str:
        return "0x" + self.random.randbytes(20).hex()

    def paid(self, **changes: Any) -> paper.Json:
        """Signed as asked, or with changes made before signing."""
        return self.payer.pay(self.offer.to_json(), **changes)

    def instead(self, **terms: Any) -> paper.Json:
        """Signed for other terms, sent as if for the offer."""
        return {**self.payer.pay({**self.offer.to_json(), **terms}), "accepted": self.offer.to_json()}

    def edited(self, *path: str, to: object) -> paper.Json:
        """Signed, then changed in what was signed."""
        return paper.changed(
            self.paid(), "payload", "authorization" if self.by_token else "permit2Authorization", *path, to=to
        )

    def last(self, to: object) -> paper.Json:
        return self.edited("validBefore" if self.by_token else "deadline", to=to)

    def echoed(self, *path: str, to: object) -> paper.Json:
        return paper.changed(self.paid(), "accepted", *path, to=to)

    def signature(self, change: Callable[[bytes], bytes]) -> paper.Json:
        return paper.signature(self.paid(), change)

    def window(self, begins_s: int, ends_s: int) -> paper.Json:
        """Seconds from now."""
        now = int(time.time())
        end = {"validBefore": str(now + ends_s)} if self.by_token else {"deadline": now + ends_s}
        return self.paid(validAfter=str(now + begins_s), **end)

    def pays_itself(self) -> paper.Json:
        self.offer = replace(self.offer, pay_to=self.payer.address)
        return self.paid()

    def pays_as(self, key: bytes) -> paper.Json:
        self.payer = Payer(key)
        return self.paid()


class Maker(NamedTuple):
    name: str
    make: Callable[[Scene], paper.Json]
    kinds: tuple[str, ...] = ("eip3009", "permit2", "upto")


PERMITS, UPTO, TOKEN = ("permit2", "upto"), ("upto",), ("eip3009",)


def twin(old: bytes) -> bytes:
    return old[:32] + (ORDER - int.from_bytes(old[32:64], "big")).to_bytes(32, "big") + bytes([55 - old[64]])


def undeployed(old: bytes) -> bytes:
    return encode(["address", "bytes", "bytes"], [paper.STRANGER, bytes(36), old]) + bytes.fromhex("6492" * 16)


GOOD = (
    Maker("as asked", lambda s: s.paid()),
    Maker("for long already", lambda s: s.window(-s.random.randrange(5, 10**6), s.random.randrange(30, 80_000))),
    Maker("small nonce of a token", lambda s: s.paid(nonce="0x" + s.random.randbytes(1).rjust(32, b"\0").hex()), TOKEN),
    Maker("small nonce of a permit", lambda s: s.paid(nonce=s.random.randrange(1000)), PERMITS),
    Maker("v from zero", lambda s: s.signature(lambda old: old[:64] + bytes([old[64] - 27]))),
    Maker("payer in lower case", lambda s: s.edited("from", to=str.lower)),
    Maker("payee in lower case", lambda s: s.edited(*(("to",) if s.by_token else ("witness", "to")), to=str.lower)),
    Maker("number as a number", lambda s: s.last(int)),
    Maker("zeros before a number", lambda s: s.last(lambda old: "00" + old)),
    Maker("more in extra", lambda s: s.echoed("extra", "note", to="mine")),
    Maker("former settler", lambda s: s.paid(facilitator=paper.FORMER_RELAYER), UPTO),
    Maker("permit nonce in hexadecimal", lambda s: s.edited("nonce", to=lambda old: hex(int(old))), PERMITS),
    Maker("no echo", lambda s: paper.without(s.paid(), "accepted")),
)
BAD = (
    Maker("other value", lambda s: s.paid(value=str(int(s.offer.amount) + s.random.choice((-1, 1, 10**9)))), TOKEN),
    Maker("other amount", lambda s: s.paid(amount=int(s.offer.amount) + s.random.choice((-1, 1, 10**9))), PERMITS),
    Maker("other payee", lambda s: s.paid(to=s.bytes20)),
    Maker("other token", lambda s: s.paid(token=s.bytes20), PERMITS),
    Maker("other spender", lambda s: s.edited("spender", to=s.bytes20), PERMITS),
    Maker("other settler", lambda s: s.paid(facilitator=s.bytes20), UPTO),
    Maker("expired", lambda s: s.window(-YEAR_S, -s.random.randrange(0, 10**7))),
    Maker("nearly expired", lambda s: s.window(-60, 2)),
    Maker("not good yet", lambda s: s.window(s.random.randrange(20, 40), 300)),
    Maker("by another key", lambda s: s.edited("from", to=Payer(PAYER_KEYS[5]).address)),
    Maker("by a payer made up", lambda s: s.edited("from", to=s.bytes20)),
    Maker("for another chain", lambda s: s.instead(network="eip155:1")),
    Maker("for another domain", lambda s: s.instead(extra={"name": "USDC", "version": "2"}), TOKEN),
    Maker("for another version", lambda s: s.instead(extra={"name": "USD Coin", "version": "1"}), TOKEN),
    Maker("nonce changed", lambda s: s.edited("nonce", to="0x" + s.random.randbytes(32).hex()), TOKEN),
    Maker("permit nonce changed", lambda s: s.edited("nonce", to=str(s.random.getrandbits(256))), PERMITS),
    Maker("time changed", lambda s: s.last(str(int(time.time()) + s.random.randrange(500, 900)))),
    Maker("bit flipped", lambda s: s.signature(lambda old: old[:9] + bytes([old[9] ^ 1]) + old[10:])),
    Maker("short signature", lambda s: s.signature(lambda old: old[: s.random.randrange(1, 64)])),
    Maker("odd v", lambda s: s.signature(lambda old: old[:64] + bytes([s.random.choice((2, 5, 29, 31, 255))]))),
    Maker("twin of a signature", lambda s: s.signature(twin)),
    Maker("wallet not deployed", lambda s: s.signature(undeployed)),
    Maker("other scheme", lambda s: s.echoed("scheme", to="exact" if s.offer.scheme == "upto" else "upto")),
    Maker("other network", lambda s: s.echoed("network", to=s.random.choice(("eip155:1", "eip155:84532", "base")))),
    Maker("echo of another amount", lambda s: s.echoed("amount", to=str(s.random.randrange(10**5)))),
    Maker("echo of another payee", lambda s: s.echoed("payTo", to=s.bytes20)),
    Maker("echo of another asset", lambda s: s.echoed("asset", to=s.bytes20)),
    Maker("echo of another timeout", lambda s: s.echoed("maxTimeoutSeconds", to=s.random.choice((1, 59, 61, 10**6)))),
    Maker("echo of another domain", lambda s: s.echoed("extra", "name", to="Other")),
    Maker("payer is the payee", lambda s: s.pays_itself()),
    Maker("payer is a relayer", lambda s: s.pays_as(PAYER_KEYS[7])),
    Maker("good for years", lambda s: s.window(0, s.random.randrange(1, 100) * YEAR_S)),
    Maker(
        "facilitator in the witness of exact", lambda s: s.edited("witness", "facilitator", to=s.bytes20), ("permit2",)
    ),
)
MALFORMED = (
    Maker("no 0x before a payer", lambda s: s.edited("from", to=lambda old: old[2:])),
    Maker("no 0x before a nonce", lambda s: s.edited("nonce", to=lambda old: old[2:]), TOKEN),
    Maker("spaces around a number", lambda s: s.last(lambda old: f" {old} ")),
    Maker("underscores in a number", lambda s: s.last(lambda old: f"{old[0]}_{old[1:]}")),
    Maker("plus before a number", lambda s: s.last(lambda old: "+" + old)),
    Maker("minus before a number", lambda s: s.last(lambda old: "-" + old)),
    Maker("number that is none", lambda s: s.last(s.random.choice(("", "soon", "1e9", "1.5", None, [])))),
    Maker("nonce of 31 bytes", lambda s: s.edited("nonce", to="0x" + s.random.randbytes(31).hex()), TOKEN),
    Maker("signature of other letters", lambda s: paper.changed(s.paid(), "payload", "signature", to="0xno")),
    Maker("no signature", lambda s: paper.without(s.paid(), "payload", "signature")),
)
"""We do not even read these; the SDK's word for one depends on where it stumbles."""


class Outcome(NamedTuple):
    maker: Maker
    kind: str
    ours: str
    """Empty for yes, else the reason."""
    theirs: str


def ours(payload: paper.Json, offer: Requirements) -> str:
    settlers = AnObligingChain().get_addresses()
    asked = {"now_s": int(time.time()), "work_s": 0, "settle_margin_s": 6, "settlers": settlers, "forbidden_payers": ()}
    try:
        came = paper.verdict(payload, (offer,), **asked)
    except Problem as problem:
        return str(problem.reason)
    if isinstance(came, Refused):
        return came.reason
    wrong = "invalid_exact_evm_payload_signature" if came.method == "eip3009" else "invalid_permit2_signature"
    return "" if came.recovered else wrong


def theirs(payload: paper.Json, offer: Requirements) -> str:
    scheme = UptoEvmScheme if offer.scheme == "upto" else ExactEvmScheme
    try:
        requirements = PaymentRequirements.model_validate(offer.to_json())
        came = scheme(AnObligingChain()).verify(PaymentPayload.model_validate(payload), requirements)  # type: ignore[arg-type]
    except (ValueError, TypeError) as error:
        return f"raised {type(error).__name__}"
    return "" if came.is_valid else str(came.invalid_reason)


def outcome(maker: Maker, kind: str, randomness: random.Random) -> Outcome:
    scene = Scene(randomness, paper.ALL[kind], Payer(PAYER_KEYS[randomness.randrange(4)]))
    payload = maker.make(scene)
    return Outcome(maker, kind, ours(payload, scene.offer), theirs(payload, scene.offer))


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    randomness = random.Random(SEED)
    return [
        outcome(maker, kind, randomness)
        for maker in (*GOOD, *BAD, *MALFORMED)
        for kind in maker.kinds
        for _ in range(ROUNDS)
    ]


def test_there_are_many_of_each_sort(outcomes: list[Outcome]) -> None:
    assert len(outcomes) >= 200
    for kind in paper.ALL:
        verdicts = [not outcome.ours for outcome in outcomes if outcome.kind == kind]
        assert verdicts.count(True) >= 20
        assert verdicts.count(False) >= 50


def test_both_say_yes_to_the_same_payments_but_for_the_ones_named(outcomes: list[Outcome]) -> None:
    surprises = {}
    for maker, kind, mine, sdk in outcomes:
        yes = (not mine, not sdk)
        expected = (
            (False, True) if maker.name in STRICTER else (True, False) if maker.name in LOOSER else (yes[1], yes[1])
        )
        if yes != expected:
            surprises[maker.name, kind] = (mine or "yes", sdk or "yes")
    assert surprises == {}


def test_what_is_good_is_good_and_what_is_bad_is_bad(outcomes: list[Outcome]) -> None:
    """Not only alike: right."""
    assert [outcome for outcome in outcomes if bool(outcome.ours) is (outcome.maker in GOOD)] == []


def test_both_give_one_fault_the_same_reason_but_for_the_words_named(outcomes: list[Outcome]) -> None:
    surprises = {}
    for maker, kind, mine, sdk in outcomes:
        if mine and sdk and maker not in MALFORMED:
            words = OTHER_WORDS.get((maker.name, kind), (sdk, sdk))
            if (mine, sdk) != words:
                surprises[maker.name, kind] = (mine, sdk)
    assert surprises == {}


def test_the_tables_name_nothing_that_is_not_tried(outcomes: list[Outcome]) -> None:
    tried = {outcome.maker.name for outcome in outcomes}
    assert tried >= {*STRICTER, *LOOSER, *(name for name, _ in OTHER_WORDS)}
