"""A stranger: what he can put together of somebody else's payment from the chain and from a 402 of his own.

rebuilt(chain, transaction, offer) -> the PaymentPayload, as a client that echoes nothing would have sent it
"""

from collections.abc import Mapping
from typing import Any

from eth_abi import decode
from eth_utils import function_signature_to_4byte_selector, to_checksum_address
from rigs.chain import EXACT_PROXY, Chain

Json = dict[str, Any]

_TRANSFER = ("address", "address", "uint256", "uint256", "uint256", "bytes32", "uint8", "bytes32", "bytes32")
_SETTLE = ("((address,uint256),uint256,uint256)", "address", "(address,uint256)", "bytes")


def rebuilt(chain: Chain, transaction: str, offer: Mapping[str, Any]) -> Json:
    """`transaction` paid one call at the price of `offer`, alone or among others by Multicall3."""
    mined = chain.rpc("eth_getTransactionByHash", transaction)
    calldata = bytes.fromhex(mined["input"][2:])
    by_permit2 = offer["extra"].get("assetTransferMethod") == "permit2"
    payload = _permit2(calldata) if by_permit2 else _eip3009(calldata)
    return {"x402Version": 2, "accepted": dict(offer), "payload": payload}


def _eip3009(calldata: bytes) -> Json:
    from_, to, value, after, before, nonce, v, r, s = _arguments(calldata, "transferWithAuthorization", _TRANSFER)
    authorization = {
        "from": to_checksum_address(from_), "to": to_checksum_address(to), "value": str(value),
        "validAfter": str(after), "validBefore": str(before), "nonce": "0x" + nonce.hex(),
    }  # fmt: skip
    return {"signature": "0x" + r.hex() + s.hex() + bytes([v]).hex(), "authorization": authorization}


def _permit2(calldata: bytes) -> Json:
    ((token, amount), nonce, deadline), owner, (to, after), signature = _arguments(calldata, "settle", _SETTLE)
    authorization = {
        "permitted": {"token": to_checksum_address(token), "amount": str(amount)},
        "from": to_checksum_address(owner), "spender": EXACT_PROXY, "nonce": str(nonce), "deadline": str(deadline),
        "witness": {"to": to_checksum_address(to), "validAfter": str(after)},
    }  # fmt: skip
    return {"signature": "0x" + signature.hex(), "permit2Authorization": authorization}


def _arguments(calldata: bytes, name: str, types: tuple[str, ...]) -> tuple[Any, ...]:
    selector = function_signature_to_4byte_selector(f"{name}({','.join(types)})")
    return decode(types, calldata[calldata.index(selector) + 4 :], strict=False)
