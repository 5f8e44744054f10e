"""A remote facilitator: somebody else's server that settles for us, and that is believed as little as possible.

    verify    a yes is one opinion beside the chain's own; a no is a no
    settle    a yes is a hint where to look: proof is the Transfer on chain
              a no means that nothing of ours is under way; what was signed may still be sent by others
              no answer, or one that cannot be read: unknown, and the chain tells later

With `trust` and no chain to ask, its word is the proof, recorded as such; then only /settle itself, asked again with
the same bytes, can tell what became of a payment, and "nonce already used" tells nothing: it stays unknown and on the
operator's list.

What is sent is made from what was signed and from our own terms. The client's own words (its resource, its extensions)
stay here: they may name what was looked up, or whom.
"""

import asyncio
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import aiohttp
import orjson
import structlog
from yarl import URL

from gateway.core.api_key import ApiKey
from gateway.core.networks import Network, Token, checksum_address, parse_address
from gateway.core.settlement import ProofKind, Settled, Settlement
from gateway.core.x402.messages import GAS_SPONSORING, Eip2612, Json, Permit2, Requirements
from gateway.core.x402.verify import Verified
from gateway.settlement import reasons
from gateway.settlement.onchain import Due, OnChain, due_of, due_of_verified
from gateway.settlement.protocol import Admitted, Health, Refused, Unknown
from gateway.settlement.rpc import RpcUnavailable

log = structlog.get_logger("facilitator")

ANSWER_BYTES_MAX = 256 * 1024
SUPPORTED_EVERY_S, SUPPORTED_RETRY_S = 300.0, 5.0
PROOF_POLL_S = 0.25
ASKED_MAX = 10_000
_HASH = re.compile(r"0x[0-9a-fA-F]{64}", re.ASCII)
_REASON = re.compile(r"[a-z0-9_]{1,80}", re.ASCII)
_ANYBODY = "0x" + "11" * 20
"""Whose name simulations run in where anybody may settle."""
_USED = frozenset({reasons.NONCE_USED, "nonce_already_used", "authorization_already_used"})


Outcome = Settled | Refused | Unknown


class _NoAnswer(Exception):
    """It may have done what it was asked to."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    verify_s: float = 5.0
    settle_s: float = 30.0
    supported_s: float = 5.0
    proof_s: float = 15.0
    """How long after its yes the chain is asked for the proof."""


@dataclass(frozen=True, slots=True)
class Place:
    """A network on which it settles for us."""

    network: Network
    pay_to: str
    chain: OnChain | None
    """None only with `trust`: there is nobody else to ask."""
    methods: tuple[str, ...] = ("eip3009", "permit2")
    """How payers may sign: the contracts that each way needs are looked for."""

    def token(self, address: str) -> Token | None:
        return next((token for token in self.network.tokens if token.address.lower() == address.lower()), None)


class Facilitator:
    sandbox = False
    journals = False

    def __init__(
        self,
        *,
        url: str,
        http: aiohttp.ClientSession,
        places: Sequence[Place],
        clock: Callable[[], float],
        credential: str | ApiKey | None = None,
        trust: bool = False,
        timeouts: Timeouts | None = None,
    ) -> None:
        """`url` is the base to which /verify, /settle and /supported are added, `credential` a bearer token, or the key
        that signs one for each request. Raises ValueError for a place without a chain to ask when its word is not
        trusted."""
        if not trust and any(place.chain is None for place in places):
            raise ValueError("without trust in the facilitator every network needs an RPC url for the proof")
        self.networks = tuple(place.network.id for place in places)
        self._places = {place.network.id: place for place in places}
        self._url = url.rstrip("/")
        self._http = http
        self._clock = clock
        self._credential = credential
        self._trust = trust
        self._timeouts = timeouts or Timeouts()
        self._supported: frozenset[tuple[str, str]] | None = None
        """(scheme, network) of what it says it does; None until it said so once."""
        self._settlers: dict[str, tuple[str, ...]] = {}
        self._sponsors = False
        """Whether it said at the start that it takes permits along."""
        self._asked: set[str] = set()
        """Settlements it was asked for by this process: looked for before it is asked again."""
        self._disputed: set[str] = set()
        self._used: set[str] = set()
        self._reachable = False
        self._locked: set[str] = set()
        """Paths at which it does not take our credential: some answer /supported to everybody."""
        self._task: asyncio.Task[None] | None = None

    def facilitator_addresses(self, network: str) -> tuple[str, ...]:
        return self._settlers.get(network, ())

    def sponsors(self, network: str) -> bool:
        return network in self._places and self._sponsors

    def serves(self, requirements: Requirements) -> bool:
        place = self._places.get(requirements.network)
        return (
            place is not None
            and place.token(requirements.asset) is not None
            and requirements.pay_to.lower() == place.pay_to.lower()
        )

    async def start(self) -> None:
        """Asks what it supports, once now for a moment, and again in the background: it may be down, we start."""
        await self._ask_supported()
        self._task = asyncio.create_task(self._keep_asking(), name="facilitator supported")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep_asking(self) -> None:
        while True:
            for place in self._places.values():
                if place.chain is not None:
                    await place.chain.confirm(place.methods, batches=False)
            await asyncio.sleep(SUPPORTED_EVERY_S if self._settled_in() else SUPPORTED_RETRY_S)
            await self._ask_supported()

    def _settled_in(self) -> bool:
        return self._reachable and all(place.chain is None or place.chain.confirmed for place in self._places.values())

    async def _ask_supported(self) -> None:
        try:
            answer = await self._request("GET", "/supported", None, self._timeouts.supported_s)
            self._supported, self._settlers = _read_supported(answer, self.networks)
            if self._task is None:  # what we offer is made at the start, and only what was offered is looked at
                extensions = answer.get("extensions")
                self._sponsors = isinstance(extensions, list) and GAS_SPONSORING in extensions
            self._reachable = True
        except _NoAnswer as failure:
            self._reachable = False
            log.warning("facilitator_unreachable", cause=str(failure))

    # gateway.settlement.protocol.Settler

    async def check(self, payment: Verified) -> Admitted | Refused | Unknown:
        asked = payment.requirements
        place = self._places.get(asked.network)
        if place is None or not self.serves(asked):
            return Refused(reasons.NOT_ASKED_FOR, "this is not asked for here")
        if self._supported is None:
            return Unknown("the facilitator has not told yet what it supports")
        if (asked.scheme, asked.network) not in self._supported:
            return Unknown("the facilitator does not support this scheme on this network")
        opinion, seen = await asyncio.gather(self._verify(payment), self._see(place, payment))
        # What the chain refuses is refused in the chain's words; what only the facilitator refuses, in its own.
        for each in (seen, opinion):
            if isinstance(each, Refused):
                return each
        return opinion if isinstance(opinion, Unknown) else seen

    async def _verify(self, payment: Verified) -> Refused | Unknown | None:
        due = due_of_verified(payment)
        envelope = _envelope(due, payment.requirements.to_json(), due.permit if self._sponsors else None)
        try:
            answer = await self._request("POST", "/verify", envelope, self._timeouts.verify_s)
        except _NoAnswer as failure:
            self._reachable = False
            return Unknown(f"the facilitator cannot be asked: {failure}")
        if answer.get("isValid") is True:
            return None
        if answer.get("isValid") is False:
            return Refused(_reason(answer.get("invalidReason"), reasons.VERIFY_FAILED), "the facilitator refuses it")
        return Unknown("the facilitator's answer makes no sense")

    async def _see(self, place: Place, payment: Verified) -> Admitted | Refused | Unknown:
        """The chain's view. Without one no balance is known: a payer may have one payment open at a time."""
        if place.chain is None:
            return Admitted(0, int(self._clock()), payment.value_atomic, by_permit=payment.permit is not None)
        return await place.chain.check(payment, due_of_verified(payment).facilitator or _ANYBODY)

    async def settle(self, settlement: Settlement) -> Settled | Refused | Unknown:
        place = self._places.get(settlement.network)
        if place is None or place.token(settlement.token) is None or settlement.abandoned:
            return Unknown("nothing of this kind is sent")
        if settlement.pay_to.lower() != place.pay_to.lower():
            return Unknown("nothing of this kind is sent")
        if settlement.id in self._asked and place.chain is not None:
            found = await place.chain.find(settlement, ())
            if not isinstance(found, Unknown):
                return self._known(settlement, found)
        return self._known(settlement, await self._settle(place, settlement))

    async def find(self, settlement: Settlement) -> Settled | Refused | Unknown:
        """On chain, by logs: a hash it told us is no evidence. Trusted without a chain: asked again, the same bytes."""
        place = self._places.get(settlement.network)
        if place is None:
            return Unknown("this network is not served here any more")
        if place.chain is not None:
            return self._known(settlement, await place.chain.find(settlement, ()))
        return self._known(settlement, await self._settle(place, settlement))

    def _known(self, settlement: Settlement, outcome: Outcome) -> Outcome:
        """What is known is no longer on the operator's list."""
        if not isinstance(outcome, Unknown):
            for listed in (self._disputed, self._used):
                listed.discard(settlement.id)
        return outcome

    async def health(self) -> Health:
        alarms = ["facilitator_unreachable"] if not self._reachable else []
        alarms += ["facilitator_refuses_us"] if self._locked else []
        alarms += ["facilitator_disputed"] if self._disputed else []
        alarms += ["facilitator_says_used"] if self._used else []
        for place in self._places.values():
            if place.chain is not None:
                alarms += [*place.chain.rpc.alarms, *place.chain.alarms]
        supported = self._supported
        if supported is not None and any(("exact", network) not in supported for network in self.networks):
            alarms.append("facilitator_lacks_network")
        return Health(
            ready=self._supported is not None and self._settled_in(),
            alarms=tuple(dict.fromkeys(alarms)),
            facts={"trusted": self._trust, "disputed": sorted(self._disputed), "says_used": sorted(self._used)},
        )

    # settling

    async def _settle(self, place: Place, settlement: Settlement) -> Settled | Refused | Unknown:
        due = due_of(settlement)
        permit = due.permit if self._sponsors else None
        try:
            # It would use a permit whether it is needed or not, and lower what the payer has allowed.
            if permit is not None and place.chain is not None and await place.chain.allows(due):
                permit = None
        except RpcUnavailable as failure:
            return Unknown(f"the chain cannot be asked: {failure}")
        if len(self._asked) >= ASKED_MAX:
            self._asked.clear()  # whoever is asked for twice was found or is still alive: nothing is paid twice
        self._asked.add(settlement.id)
        asked = _requirements(place, due, settlement.amount_atomic)
        try:
            answer = await self._request("POST", "/settle", _envelope(due, asked, permit), self._timeouts.settle_s)
        except _NoAnswer as failure:
            return Unknown(f"the facilitator gave no answer: {failure}")
        claimed = answer.get("transaction")
        transaction = claimed.lower() if isinstance(claimed, str) and _HASH.fullmatch(claimed) else ""
        if answer.get("success") is True:
            return await self._said_yes(place, settlement, due, transaction)
        if answer.get("success") is False:
            return await self._said_no(place, settlement, _reason(answer.get("errorReason"), reasons.SETTLE_FAILED))
        return Unknown("the facilitator's answer makes no sense", transaction)

    async def _said_yes(self, place: Place, settlement: Settlement, due: Due, transaction: str) -> Settled | Unknown:
        if place.chain is None:
            if not transaction:
                return Unknown("the facilitator says yes and names no transaction")
            return Settled(ProofKind.FACILITATOR, transaction, _log_index(due), 0, settlement.amount_atomic, final=True)
        deadline = asyncio.get_running_loop().time() + self._timeouts.proof_s
        while True:
            found = await place.chain.find(settlement, ())
            if isinstance(found, Settled):
                if found.transaction != transaction:
                    log.warning("facilitator_named_another_transaction", settlement=settlement.id)
                return found
            if asyncio.get_running_loop().time() + PROOF_POLL_S > deadline or isinstance(found, Refused):
                # Not in our chain's logs: it may be late, or it may be a lie. Never a yes.
                log.error("facilitator_disputed", settlement=settlement.id)
                self._disputed.add(settlement.id)
                return Unknown("the facilitator says yes and the chain does not show it", transaction)
            await asyncio.sleep(PROOF_POLL_S)

    async def _said_no(self, place: Place, settlement: Settlement, reason: str) -> Settled | Refused | Unknown:
        if place.chain is not None:
            found = await place.chain.find(settlement, ())
            if not isinstance(found, Unknown):
                return found
            if reason in _USED or reason == reasons.PENDING:
                return Unknown(f"the facilitator says {reason}, and the chain is not sure")
        elif reason in _USED:
            self._used.add(settlement.id)
            log.error("facilitator_says_used", settlement=settlement.id)
            return Unknown("the facilitator says that its nonce was used; whether by us, nobody can tell")
        elif reason == reasons.PENDING:
            return Unknown("the facilitator says that it is under way")
        return Refused(reason, "the facilitator does not settle it", final=False)

    # talking

    async def _request(self, method: str, path: str, body: bytes | None, timeout_s: float) -> Mapping[str, Json]:
        """A JSON object. Raises _NoAnswer for anything else, redirects above all: they carry off what is signed."""
        headers = {"Content-Type": "application/json"}
        try:
            url = URL(self._url + path)
            headers |= authorization(self._credential, method, url, self._clock())
            async with asyncio.timeout(timeout_s):
                async with self._http.request(
                    method, url, data=body, headers=headers, allow_redirects=False
                ) as response:
                    answered = await response.content.read(ANSWER_BYTES_MAX + 1)
                    while len(answered) <= ANSWER_BYTES_MAX and not response.content.at_eof():
                        answered += await response.content.read(ANSWER_BYTES_MAX + 1 - len(answered))
                    status = response.status
        except TimeoutError:
            raise _NoAnswer("no answer in time") from None
        except (aiohttp.ClientError, ValueError) as error:  # ValueError: what cannot stand in a URL or a header
            raise _NoAnswer(type(error).__name__) from None
        if len(answered) > ANSWER_BYTES_MAX:
            raise _NoAnswer("an answer beyond all measure")
        if status in (401, 403) and path not in self._locked:
            self._locked.add(path)
            log.error("facilitator_refuses_us", path=path, status=status)
        # A refusal comes with 200 from some and with 400 or 402 from others; only its body counts.
        if status not in (200, 400, 402):
            raise _NoAnswer(f"HTTP {status}")
        try:
            found = orjson.loads(answered)
        except orjson.JSONDecodeError:
            raise _NoAnswer("no JSON") from None
        if not isinstance(found, dict) or (status != 200 and "success" not in found and "isValid" not in found):
            raise _NoAnswer(f"HTTP {status} without an answer")
        self._locked.discard(path)
        return cast(Mapping[str, Json], found)


def authorization(credential: str | ApiKey | None, method: str, url: URL, now: float) -> dict[str, str]:
    """The headers by which a facilitator knows us. A key signs for this method, host and path alone."""
    if isinstance(credential, ApiKey):
        asked = f"{method} {url.host_port_subcomponent}{url.raw_path}"
        credential = credential.token(asked, int(now), secrets.token_hex(16))
    return {"Authorization": f"Bearer {credential}"} if credential else {}


def _envelope(due: Due, requirements: Mapping[str, Json], permit: Eip2612 | None) -> bytes:
    """The same payment gives the same bytes, whenever it is sent with its permit or without it."""
    stored = cast(Mapping[str, Json], orjson.loads(due.payment.raw))
    signed = due.payment.authorization
    amount = signed.amount if isinstance(signed, Permit2) else signed.value
    payload: dict[str, Json] = {
        "x402Version": 2, "accepted": {**requirements, "amount": str(amount)}, "payload": stored["payload"]
    }  # fmt: skip
    if permit is not None:
        payload["extensions"] = {GAS_SPONSORING: {"info": _info(permit)}}
    return orjson.dumps(
        {"x402Version": 2, "paymentPayload": payload, "paymentRequirements": requirements}, option=orjson.OPT_SORT_KEYS
    )


def _info(permit: Eip2612) -> dict[str, Json]:
    return {
        "from": checksum_address(permit.owner),
        "asset": checksum_address(permit.token),
        "spender": checksum_address(permit.spender),
        "amount": str(permit.value),
        "nonce": str(permit.nonce),
        "deadline": str(permit.deadline),
        "signature": "0x" + permit.signature.hex(),
        "version": "1",
    }


def _requirements(place: Place, due: Due, amount: int) -> dict[str, Json]:
    """Our own terms for a stored payment; only the lifetime is taken from the client's echo of them."""
    token = place.token(due.token)
    assert token is not None
    extra: dict[str, Json] = {"name": token.name, "version": token.version}
    if due.by_permit2:
        extra["assetTransferMethod"] = "permit2"
    if due.facilitator is not None:
        extra["facilitatorAddress"] = checksum_address(due.facilitator)
    echoed = (due.payment.accepted or {}).get("maxTimeoutSeconds")
    return {
        "scheme": "exact" if due.facilitator is None else "upto",
        "network": place.network.id,
        "amount": str(amount),
        "asset": token.address,
        "payTo": checksum_address(due.pay_to),
        "maxTimeoutSeconds": echoed if isinstance(echoed, int) else 60,
        "extra": extra,
    }


def _log_index(due: Due) -> int:
    """Its word names no log. Payments that share a transaction are told apart by what was signed."""
    signed = due.payment.authorization
    nonce = signed.nonce if isinstance(signed, Permit2) else int.from_bytes(signed.nonce, "big")
    return nonce & 0x7FFFFFFF


def _reason(value: Json, otherwise: str) -> str:
    return value if isinstance(value, str) and _REASON.fullmatch(value) else otherwise


def _read_supported(
    answer: Mapping[str, Json], networks: Sequence[str]
) -> tuple[frozenset[tuple[str, str]], dict[str, tuple[str, ...]]]:
    kinds = answer.get("kinds")
    if not isinstance(kinds, list):
        raise _NoAnswer("/supported without kinds")
    supported: set[tuple[str, str]] = set()
    settlers: dict[str, tuple[str, ...]] = {}
    for kind in kinds:
        if not isinstance(kind, dict) or kind.get("x402Version") != 2:
            continue
        scheme, network, extra = kind.get("scheme"), kind.get("network"), kind.get("extra")
        if not isinstance(scheme, str) or not isinstance(network, str) or network not in networks:
            continue
        supported.add((scheme, network))
        named = extra.get("facilitatorAddress") if isinstance(extra, dict) else None
        address = parse_address(named) if isinstance(named, str) else None
        if scheme == "upto" and address is not None:
            settlers[network] = (address,)
    return frozenset(supported), settlers
