"""The messages of x402 version 2: what is asked of a payer, and what he signed.

What comes in is untrusted down to its types. `parse_payment` reads every member that anything is decided by into one
canonical form (addresses in lower case, numbers as int, nonces without spelling), so that nobody after it compares
text; all else is kept as it came and never believed.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import orjson

from gateway.core.errors import Code, Problem
from gateway.core.x402.verdict import Reason

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None

VERSION = 2
SIGNATURE_BYTES_MAX = 2048
"""Smart wallets sign in many words; what is longer is no signature but a burden on whoever carries it."""
DEPTH_MAX = 32
GAS_SPONSORING = "eip2612GasSponsoring"
_OFFERED = ("scheme", "network", "asset", "amount", "payTo", "maxTimeoutSeconds", "extra")
"""What an offer has."""
"""The extension in which a payer without gas brings his signed approval of Permit2."""
_PERMIT_MEMBERS = ("from", "asset", "spender", "amount", "nonce", "deadline", "signature")

_LABEL = re.compile(r"[ -~]{1,32}", re.ASCII)
_TAGS_MAX = 5
_ICON_URL_MAX = 2048
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
_BYTES32 = re.compile(r"0x[0-9a-fA-F]{64}", re.ASCII)
_HEX_NUMBER = re.compile(r"0x[0-9a-fA-F]{1,64}", re.ASCII)
_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{16,128}", re.ASCII)
_REPEAT_KEY = re.compile(r"[0-9a-f]{32}", re.ASCII)
_VERSION = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){0,4}", re.ASCII)
_UINT_DIGITS_MAX = 78
_UINT_BOUND = 1 << 256


@dataclass(frozen=True, slots=True)
class Requirements:
    """One way to pay (PaymentRequirements): what is offered, and what a payment is verified against."""

    scheme: str
    """`exact` or `upto`."""
    network: str
    """CAIP-2."""
    amount: str
    """Atomic units of the token as decimal digits; of `upto` the most that may be taken."""
    asset: str
    """The token's address, EIP-55."""
    pay_to: str
    """EIP-55."""
    max_timeout_s: int
    extra: Mapping[str, Json]
    """`name` and `version` of the token's EIP-712 domain always; what the scheme needs beside them."""

    def to_json(self) -> dict[str, Json]:
        """Exactly the seven members of the wire."""
        return {
            "scheme": self.scheme,
            "network": self.network,
            "amount": self.amount,
            "asset": self.asset,
            "payTo": self.pay_to,
            "maxTimeoutSeconds": self.max_timeout_s,
            "extra": dict(self.extra),
        }


@dataclass(frozen=True, slots=True)
class Resource:
    """What is sold (ResourceInfo). Raises ValueError where a strict reader would drop the whole offer for it."""

    url: str
    description: str = ""
    mime_type: str = "application/json"
    service_name: str | None = None
    """1 to 32 printable ASCII characters."""
    tags: tuple[str, ...] = ()
    """At most 5, each as a service name."""
    icon_url: str | None = None

    def __post_init__(self) -> None:
        if self.service_name is not None and _LABEL.fullmatch(self.service_name) is None:
            raise ValueError("a service name has 1 to 32 printable ASCII characters")
        if len(self.tags) > _TAGS_MAX or not all(_LABEL.fullmatch(tag) for tag in self.tags):
            raise ValueError("at most 5 tags, each of 1 to 32 printable ASCII characters")
        if self.icon_url is not None and not 0 < len(self.icon_url) <= _ICON_URL_MAX:
            raise ValueError(f"an icon's URL has at most {_ICON_URL_MAX} characters")

    def to_json(self) -> dict[str, Json]:
        members: dict[str, Json] = {
            "url": self.url,
            "description": self.description,
            "mimeType": self.mime_type,
            "serviceName": self.service_name,
            "tags": list(self.tags),
            "iconUrl": self.icon_url,
        }
        return {name: value for name, value in members.items() if value}


@dataclass(frozen=True, slots=True)
class Eip3009:
    """A signed TransferWithAuthorization. Addresses in lower case, times in unix seconds."""

    from_: str
    to: str
    value: int
    valid_after: int
    valid_before: int
    nonce: bytes
    """32 bytes."""


@dataclass(frozen=True, slots=True)
class Permit2:
    """A signed PermitWitnessTransferFrom. Addresses in lower case, times in unix seconds."""

    token: str
    from_: str
    spender: str
    to: str
    """The witness's: where the proxy sends the money."""
    amount: int
    nonce: int
    deadline: int
    valid_after: int
    facilitator: str | None
    """The one who may settle it; None in the witness of `exact`."""


@dataclass(frozen=True, slots=True)
class Eip2612:
    """A signed Permit of the token: it sets what `spender` may take from `owner`. Addresses in lower case."""

    owner: str
    token: str
    spender: str
    value: int
    """What the allowance is set to, whatever it was before."""
    nonce: int
    """Each of an owner's permits has the next number: the token takes none out of turn."""
    deadline: int
    """Unix seconds: good in a block of this very time, and in none after it."""
    signature: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Payment:
    """A PaymentPayload as it was understood. Nothing of it is verified."""

    accepted: Mapping[str, Json] | None
    """The offer as the client echoed it: only ever compared with our own."""
    authorization: Eip3009 | Permit2
    signature: bytes = field(repr=False)
    resource: Json | None
    extensions: Mapping[str, Json] | None = field(repr=False)
    raw: bytes = field(repr=False)
    """Compact canonical JSON of the payload: what is hashed, and what `kept` is made of."""
    permit: Eip2612 | None = None
    """Beside a payment by Permit2: the approval that it may need."""

    @property
    def payment_hash(self) -> bytes:
        """SHA-256 of `raw`: the same for the same payload, however its JSON was spelt."""
        return hashlib.sha256(self.raw).digest()

    @property
    def kept(self) -> bytes:
        """Of `raw` what settling it needs, and none of the client's own words, such as the url that it called: those
        would be kept for as long as the books are (F-173). A payment again."""
        whole = orjson.loads(self.raw)
        kept: dict[str, Json] = {name: whole[name] for name in ("x402Version", "payload")}
        if self.accepted is not None:
            kept["accepted"] = {name: self.accepted[name] for name in _OFFERED if name in self.accepted}
        extensions: dict[str, Json] = {}
        if self.extensions is not None and GAS_SPONSORING in self.extensions:
            extensions[GAS_SPONSORING] = self.extensions[GAS_SPONSORING]
        if self.repeat_key is not None:
            extensions["repeat-key"] = {"info": {"key": self.repeat_key}}
        if extensions:
            kept["extensions"] = extensions
        return orjson.dumps(kept, option=orjson.OPT_SORT_KEYS)

    @property
    def payment_identifier(self) -> str | None:
        """The idempotency key the client chose: 16 to 128 characters of [A-Za-z0-9_-]."""
        return _identifier(self.extensions)

    @property
    def repeat_key(self) -> str | None:
        """The random value of the 402 that was paid, as it came back: 32 hexadecimal digits. What has another form is
        none. Nobody remembers which were given out: one that the payer made up is as good."""
        key = _info(self.extensions, "repeat-key", "key")
        return key if isinstance(key, str) and _REPEAT_KEY.fullmatch(key) else None

    @property
    def is_guessable(self) -> bool:
        """Whether all of it can be put together again from the chain and a public 402: it carries neither a repeat key
        nor a payment identifier."""
        return self.repeat_key is None and self.payment_identifier is None


def parse_payment(value: Json) -> Payment:
    """A PaymentPayload's JSON -> Payment. Raises Problem PAYMENT_MALFORMED, whatever else it was given."""
    raw = _canonical(value)
    payload = _object(value, "the payment")
    version = payload.get("x402Version")
    if type(version) is not int or version != VERSION:
        raise malformed("x402Version is the number 2: sign a payment of x402 version 2", Reason.INVALID_VERSION)
    accepted = payload.get("accepted")
    extensions = payload.get("extensions")
    inner = _object(payload.get("payload"), "payload")
    if ("authorization" in inner) == ("permit2Authorization" in inner):
        raise malformed("payload has either `authorization` or `permit2Authorization`")
    echoed = None if extensions is None else _object(extensions, "extensions")
    authorization = _eip3009(inner) if "authorization" in inner else _permit2(inner)
    payment = Payment(
        accepted=None if accepted is None else _object(accepted, "accepted"),
        authorization=authorization,
        signature=_signature(inner.get("signature"), "payload.signature"),
        resource=payload.get("resource"),
        extensions=echoed,
        raw=raw,
        permit=_permit(echoed) if isinstance(authorization, Permit2) else None,
    )
    _identifier(payment.extensions)
    return payment


def malformed(message: str, reason: Reason = Reason.INVALID_PAYLOAD) -> Problem:
    return Problem(Code.PAYMENT_MALFORMED, message, reason=reason)


def _eip3009(inner: Mapping[str, Json]) -> Eip3009:
    signed = _object(inner["authorization"], "authorization")
    return Eip3009(
        from_=_address(signed.get("from"), "authorization.from"),
        to=_address(signed.get("to"), "authorization.to"),
        value=_uint(signed.get("value"), "authorization.value"),
        valid_after=_uint(signed.get("validAfter"), "authorization.validAfter"),
        valid_before=_uint(signed.get("validBefore"), "authorization.validBefore"),
        nonce=_bytes32(signed.get("nonce"), "authorization.nonce"),
    )


def _permit2(inner: Mapping[str, Json]) -> Permit2:
    signed = _object(inner["permit2Authorization"], "permit2Authorization")
    permitted = _object(signed.get("permitted"), "permit2Authorization.permitted")
    witness = _object(signed.get("witness"), "permit2Authorization.witness")
    facilitator = witness.get("facilitator")
    return Permit2(
        token=_address(permitted.get("token"), "permitted.token"),
        from_=_address(signed.get("from"), "permit2Authorization.from"),
        spender=_address(signed.get("spender"), "permit2Authorization.spender"),
        to=_address(witness.get("to"), "witness.to"),
        amount=_uint(permitted.get("amount"), "permitted.amount"),
        nonce=_nonce(signed.get("nonce")),
        deadline=_uint(signed.get("deadline"), "permit2Authorization.deadline"),
        valid_after=_uint(witness.get("validAfter"), "witness.validAfter"),
        facilitator=None if facilitator is None else _address(facilitator, "witness.facilitator"),
    )


def _permit(extensions: Mapping[str, Json] | None) -> Eip2612 | None:
    """Clients send back what we offered with the permit's members put into its `info`; without them it is an echo and
    no permit. One that is there is read as strictly as the payment itself: it moves money too."""
    extension = extensions.get(GAS_SPONSORING) if extensions else None
    if extension is None:
        return None
    try:
        info = _object(extension, GAS_SPONSORING).get("info")
        members = {} if info is None else _object(info, f"{GAS_SPONSORING}.info")
        if not any(name in members for name in _PERMIT_MEMBERS):
            return None
        version = members.get("version", "1")
        if not isinstance(version, str) or _VERSION.fullmatch(version) is None:
            raise malformed(f"{GAS_SPONSORING}.info.version is a version number")
        return Eip2612(
            owner=_address(members.get("from"), f"{GAS_SPONSORING}.info.from"),
            token=_address(members.get("asset"), f"{GAS_SPONSORING}.info.asset"),
            spender=_address(members.get("spender"), f"{GAS_SPONSORING}.info.spender"),
            value=_uint(members.get("amount"), f"{GAS_SPONSORING}.info.amount"),
            nonce=_uint(members.get("nonce"), f"{GAS_SPONSORING}.info.nonce"),
            deadline=_uint(members.get("deadline"), f"{GAS_SPONSORING}.info.deadline"),
            signature=_signature(members.get("signature"), f"{GAS_SPONSORING}.info.signature"),
        )
    except Problem as problem:
        raise malformed(problem.message, Reason.PERMIT_FORMAT) from None


def _object(value: Json, name: str) -> Mapping[str, Json]:
    if not isinstance(value, dict):
        raise malformed(f"{name} is a JSON object")
    return value


def _address(value: Json, name: str) -> str:
    if not isinstance(value, str) or _ADDRESS.fullmatch(value) is None:
        raise malformed(f"{name} is an address: 0x and 40 hexadecimal digits")
    return value.lower()


def _uint(value: Json, name: str) -> int:
    """A decimal string, as every official client sends it, or a JSON integer, as some others do."""
    if isinstance(value, str) and len(value) <= _UINT_DIGITS_MAX and value.isascii() and value.isdigit():
        number = int(value)
    elif type(value) is int and value >= 0:
        number = value
    else:
        raise malformed(f"{name} is a whole number as a decimal string of at most {_UINT_DIGITS_MAX} digits")
    if number >= _UINT_BOUND:
        raise malformed(f"{name} is below 2^256")
    return number


def _nonce(value: Json) -> int:
    """Permit2's nonce is a number that some write in hexadecimal: one nonce must not have two identities."""
    if isinstance(value, str) and _HEX_NUMBER.fullmatch(value):
        return int(value, 16)
    return _uint(value, "permit2Authorization.nonce")


def _bytes32(value: Json, name: str) -> bytes:
    if not isinstance(value, str) or _BYTES32.fullmatch(value) is None:
        raise malformed(f"{name} is 32 bytes: 0x and 64 hexadecimal digits")
    return bytes.fromhex(value[2:])


def _signature(value: Json, name: str) -> bytes:
    if not isinstance(value, str) or not value.startswith("0x") or len(value) > 2 + 2 * SIGNATURE_BYTES_MAX:
        raise malformed(f"{name} is 0x and at most {SIGNATURE_BYTES_MAX} bytes in hexadecimal")
    digits = value[2:]
    try:
        # fromhex would skip spaces; the length tells.
        signature = bytes.fromhex(digits)
    except ValueError:
        raise malformed(f"{name} is hexadecimal") from None
    if 2 * len(signature) != len(digits):
        raise malformed(f"{name} is hexadecimal")
    return signature


def _info(extensions: Mapping[str, Json] | None, name: str, member: str) -> Json:
    """A member of an extension's `info`; None where there is no such thing."""
    extension = extensions.get(name) if extensions else None
    info = extension.get("info") if isinstance(extension, dict) else None
    return info.get(member) if isinstance(info, dict) else None


def _identifier(extensions: Mapping[str, Json] | None) -> str | None:
    identifier = _info(extensions, "payment-identifier", "id")
    if identifier is None:
        return None
    if not isinstance(identifier, str) or _IDENTIFIER.fullmatch(identifier) is None:
        raise malformed("a payment identifier has 16 to 128 characters of A-Z, a-z, 0-9, _ and -")
    return identifier


def _canonical(value: Json) -> bytes:
    """Keys sorted, no spaces. Refuses what is nested deeper than any client nests."""
    try:
        raw = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        # A number beyond 64 bits, half a surrogate pair, or nesting without end.
        raise malformed("the payment is JSON that every reader understands alike") from None
    openings = raw.count(b"{") + raw.count(b"[")
    if openings > DEPTH_MAX and _deeper_than(value, DEPTH_MAX):
        raise malformed(f"the payment is nested deeper than {DEPTH_MAX} levels")
    return raw


def _deeper_than(value: Json, levels: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    if levels == 0:
        return True
    members = value.values() if isinstance(value, dict) else value
    return any(_deeper_than(member, levels - 1) for member in members)
