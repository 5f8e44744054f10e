"""Payers: sign what a 402 asks for, with eth-account's own EIP-712, and share no code with the gateway.

Payer(key).eip3009(requirements) -> the PaymentPayload as JSON, with nothing but what was signed
echoing(payment, required)       -> the same with what official clients send back of the 402
"""

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils import keccak
from rigs.chain import EXACT_PROXY, PERMIT2, UPTO_PROXY

Json = dict[str, Any]

_DOMAIN = [("name", "string"), ("version", "string"), ("chainId", "uint256"), ("verifyingContract", "address")]
_TRANSFER = [
    ("from", "address"), ("to", "address"), ("value", "uint256"),
    ("validAfter", "uint256"), ("validBefore", "uint256"), ("nonce", "bytes32"),
]  # fmt: skip
_PERMITTED = [("token", "address"), ("amount", "uint256")]
_PERMIT = [
    ("permitted", "TokenPermissions"), ("spender", "address"), ("nonce", "uint256"),
    ("deadline", "uint256"), ("witness", "Witness"),
]  # fmt: skip
_PERMIT_2612 = [
    ("owner", "address"), ("spender", "address"), ("value", "uint256"), ("nonce", "uint256"), ("deadline", "uint256"),
]  # fmt: skip
_EXACT_WITNESS = [("to", "address"), ("validAfter", "uint256")]
_UPTO_WITNESS = [("to", "address"), ("facilitator", "address"), ("validAfter", "uint256")]


def _fields(pairs: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"name": name, "type": type_} for name, type_ in pairs]


class Payer:
    def __init__(self, key: bytes, *, wallet: str | None = None, now: Callable[[], float] = time.time) -> None:
        """`wallet`: pays from this contract, which `key` owns."""
        self._account = Account.from_key(key)
        self.key = key
        self.signer: str = self._account.address
        self.address: str = wallet or self.signer
        self._now = now

    def eip3009(self, requirements: Mapping[str, Any], **changes: Any) -> Json:
        """`changes` replace fields of the authorization before it is signed; `wrap` works on the signature."""
        wrap = changes.pop("wrap", None)
        authorization = {
            "from": self.address,
            "to": requirements["payTo"],
            "value": requirements["amount"],
            "validAfter": "0",
            "validBefore": str(int(self._now()) + requirements["maxTimeoutSeconds"]),
            "nonce": "0x" + secrets.token_hex(32),
            **changes,
        }
        domain = _domain(requirements)
        message = {
            key: int(value) if key in ("value", "validAfter", "validBefore") else value
            for key, value in authorization.items()
        }
        digest = _digest(
            domain, _DOMAIN, "TransferWithAuthorization", {"TransferWithAuthorization": _TRANSFER}, message
        )
        payload = {"signature": self._sign(digest, wrap), "authorization": authorization}
        return _payment(requirements, payload)

    def permit2(self, requirements: Mapping[str, Any], **changes: Any) -> Json:
        """`exact` or `upto`, as the requirements say. `changes` may name nonce, deadline, to, amount, validAfter."""
        wrap = changes.pop("wrap", None)
        upto = requirements["scheme"] == "upto"
        witness: Json = {
            "to": changes.get("to", requirements["payTo"]),
            "validAfter": str(changes.get("validAfter", 0)),
        }
        if upto:
            witness["facilitator"] = changes.get("facilitator", requirements["extra"]["facilitatorAddress"])
        authorization = {
            "permitted": {
                "token": changes.get("token", requirements["asset"]),
                "amount": str(changes.get("amount", requirements["amount"])),
            },
            "from": self.address,
            "spender": UPTO_PROXY if upto else EXACT_PROXY,
            "nonce": str(changes.get("nonce", secrets.randbits(256))),
            "deadline": str(changes.get("deadline", int(self._now()) + requirements["maxTimeoutSeconds"])),
            "witness": witness,
        }
        message = {
            "permitted": {**authorization["permitted"], "amount": int(authorization["permitted"]["amount"])},
            "spender": authorization["spender"],
            "nonce": int(authorization["nonce"]),
            "deadline": int(authorization["deadline"]),
            "witness": {**witness, "validAfter": int(witness["validAfter"])},
        }
        domain = {"name": "Permit2", "chainId": _chain_id(requirements), "verifyingContract": PERMIT2}
        types = {
            "PermitWitnessTransferFrom": _PERMIT,
            "TokenPermissions": _PERMITTED,
            "Witness": _UPTO_WITNESS if upto else _EXACT_WITNESS,
        }
        digest = _digest(domain, [_DOMAIN[0], *_DOMAIN[2:]], "PermitWitnessTransferFrom", types, message)
        return _payment(requirements, {"signature": self._sign(digest, wrap), "permit2Authorization": authorization})

    def sponsored(self, requirements: Mapping[str, Any], *, nonce: int = 0, **changes: Any) -> Json:
        """A payment by Permit2 with the permit that approves it. `changes` are of the permit, before it is signed:
        owner, spender, value, deadline, asset; `sign_as` another payer's key; `paying` changes of the payment."""
        payment = self.permit2(requirements, **changes.pop("paying", {}))
        return with_permit(payment, self.permit(requirements, payment, nonce=nonce, **changes))

    def permit(self, requirements: Mapping[str, Any], payment: Json, *, nonce: int = 0, **changes: Any) -> Json:
        """`eip2612GasSponsoring.info` as the official clients fill it in."""
        signer: Payer = changes.pop("sign_as", self)
        signed = payment["payload"]["permit2Authorization"]
        asset = changes.pop("asset", requirements["asset"])
        message = {
            "owner": self.address, "spender": PERMIT2, "value": int(signed["permitted"]["amount"]), "nonce": nonce,
            "deadline": int(signed["deadline"]), **changes,
        }  # fmt: skip
        domain = _domain({**requirements, "asset": asset})
        digest = _digest(domain, _DOMAIN, "Permit", {"Permit": _PERMIT_2612}, message)
        return {
            "from": message["owner"], "asset": asset, "spender": message["spender"], "amount": str(message["value"]),
            "nonce": str(message["nonce"]), "deadline": str(message["deadline"]),
            "signature": signer._sign(digest, None), "version": "1",
        }  # fmt: skip

    def cancel(self, payment: Json) -> tuple[str, bytes, int, bytes, bytes]:
        """Arguments of the token's cancelAuthorization for a payment by EIP-3009: (authorizer, nonce, v, r, s)."""
        asked, nonce = payment["accepted"], bytes.fromhex(payment["payload"]["authorization"]["nonce"][2:])
        message = {"authorizer": self.address, "nonce": nonce}
        types = {"CancelAuthorization": [("authorizer", "address"), ("nonce", "bytes32")]}
        signature = bytes.fromhex(
            self._sign(_digest(_domain(asked), _DOMAIN, "CancelAuthorization", types, message), None)[2:]
        )
        return self.address, nonce, signature[64], signature[:32], signature[32:64]

    def pay(self, requirements: Mapping[str, Any], **changes: Any) -> Json:
        """By whatever way the requirements ask for."""
        by_permit2 = requirements["scheme"] == "upto" or requirements["extra"].get("assetTransferMethod") == "permit2"
        return (self.permit2 if by_permit2 else self.eip3009)(requirements, **changes)

    def _sign(self, digest: bytes, wrap: Callable[[bytes, Callable[[bytes], bytes]], bytes] | None) -> str:
        def sign(hash: bytes) -> bytes:
            return bytes(self._account.unsafe_sign_hash(hash).signature)

        return "0x" + (wrap(digest, sign) if wrap else sign(digest)).hex()


def with_permit(payment: Json, info: Json) -> Json:
    """The payment with a permit beside it, in the echo of what was offered."""
    extension = {"info": {"description": "as it was offered", **info}, "schema": {}}
    return {**payment, "extensions": {**payment.get("extensions", {}), "eip2612GasSponsoring": extension}}


def permit_arguments(payment: Json) -> tuple[str, str, int, int, int, bytes, bytes]:
    """Arguments of the token's `permit` for the permit beside a payment: anybody may call it."""
    info = payment["extensions"]["eip2612GasSponsoring"]["info"]
    signature = bytes.fromhex(info["signature"][2:])
    return (
        info["from"], info["spender"], int(info["amount"]), int(info["deadline"]),
        signature[64], signature[:32], signature[32:64],
    )  # fmt: skip


def requirements(
    *, amount: int, pay_to: str, asset: str, network: str, scheme: str = "exact", method: str = "eip3009",
    name: str = "USDC", version: str = "2", timeout_s: int = 120, facilitator: str | None = None,
) -> Json:  # fmt: skip
    """PaymentRequirements as a client reads them."""
    extra = {"name": name, "version": version}
    if method == "permit2":
        extra["assetTransferMethod"] = "permit2"
    if facilitator:
        extra["facilitatorAddress"] = facilitator
    return {
        "scheme": scheme, "network": network, "amount": str(amount), "asset": asset, "payTo": pay_to,
        "maxTimeoutSeconds": timeout_s, "extra": extra,
    }  # fmt: skip


def echoing(payment: Json, required: Mapping[str, Any]) -> Json:
    """`required` is the PaymentRequired that is paid."""
    return {**payment, **{name: required[name] for name in ("resource", "extensions") if name in required}}


def _payment(requirements: Mapping[str, Any], payload: Json) -> Json:
    return {"x402Version": 2, "accepted": dict(requirements), "payload": payload}


def _domain(requirements: Mapping[str, Any]) -> Json:
    return {
        "name": requirements["extra"]["name"],
        "version": requirements["extra"]["version"],
        "chainId": _chain_id(requirements),
        "verifyingContract": requirements["asset"],
    }


def _chain_id(requirements: Mapping[str, Any]) -> int:
    return int(requirements["network"].split(":")[1])


def _digest(
    domain: Json,
    domain_type: list[tuple[str, str]],
    primary: str,
    types: dict[str, list[tuple[str, str]]],
    message: Json,
) -> bytes:
    typed = {
        "types": {"EIP712Domain": _fields(domain_type), **{name: _fields(pairs) for name, pairs in types.items()}},
        "primaryType": primary,
        "domain": domain,
        "message": message,
    }
    signable = encode_typed_data(full_message=typed)
    return keccak(b"\x19" + signable.version + signable.header + signable.body)
