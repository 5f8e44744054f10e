"""Calldata by hand against the general encoder."""

import secrets

import pytest
from eth_abi import decode, encode
from eth_utils import function_signature_to_4byte_selector

from gateway.core.x402.messages import Eip2612, Eip3009, Permit2
from gateway.settlement import calldata

FROM, TO, TOKEN, FACILITATOR = ("0x" + digit * 40 for digit in "1234")
PERMIT = "((address,uint256),uint256,uint256)"


def encoded(name: str, types: list[str], values: list[object]) -> bytes:
    selector: bytes = function_signature_to_4byte_selector(f"{name}({','.join(types)})")
    return selector + encode(types, values)


@pytest.mark.parametrize("length", [64, 66, 96, 97, 2048])
def test_transfer_with_authorization_by_bytes(length: int) -> None:
    signature = secrets.token_bytes(length)
    signed = Eip3009(FROM, TO, 2**255, 0, 2**64, secrets.token_bytes(32))
    types = ["address", "address", "uint256", "uint256", "uint256", "bytes32", "bytes"]
    values = [FROM, TO, 2**255, 0, 2**64, signed.nonce, signature]
    assert calldata.transfer_with_authorization(signed, signature) == encoded(
        "transferWithAuthorization", types, values
    )


@pytest.mark.parametrize(("v", "sent"), [(0, 27), (1, 28), (27, 27), (28, 28)])
def test_transfer_with_authorization_by_vrs(v: int, sent: int) -> None:
    rs = secrets.token_bytes(64)
    signed = Eip3009(FROM, TO, 1, 2, 3, secrets.token_bytes(32))
    types = ["address", "address", "uint256", "uint256", "uint256", "bytes32", "uint8", "bytes32", "bytes32"]
    values = [FROM, TO, 1, 2, 3, signed.nonce, sent, rs[:32], rs[32:]]
    made = calldata.transfer_with_authorization(signed, rs + bytes([v]))
    assert made == encoded("transferWithAuthorization", types, values)


@pytest.mark.parametrize("length", [65, 200])
def test_permit2_by_both_proxies(length: int) -> None:
    signature = secrets.token_bytes(length - 1) + b"\x1b"
    exact = Permit2(TOKEN, FROM, TO, TO, 10**20, 2**256 - 1, 2**40, 7, None)
    permit = ((TOKEN, 10**20), 2**256 - 1, 2**40)
    assert calldata.settle_exact(exact, signature) == encoded(
        "settle", [PERMIT, "address", "(address,uint256)", "bytes"], [permit, FROM, (TO, 7), signature]
    )
    upto = Permit2(TOKEN, FROM, TO, TO, 10**20, 2**256 - 1, 2**40, 7, FACILITATOR)
    assert calldata.settle_upto(upto, signature, 5) == encoded(
        "settle",
        [PERMIT, "uint256", "address", "(address,address,uint256)", "bytes"],
        [permit, 5, FROM, (TO, FACILITATOR, 7), signature],
    )
    with pytest.raises(ValueError, match="facilitator"):
        calldata.settle_upto(exact, signature, 5)


@pytest.mark.parametrize(("v", "sent"), [(0, 27), (1, 28), (27, 27), (28, 28)])
@pytest.mark.parametrize("length", [65, 200])
def test_permit2_with_a_permit_for_it(v: int, sent: int, length: int) -> None:
    rs, signature = secrets.token_bytes(64), secrets.token_bytes(length - 1) + b"\x1b"
    given = Eip2612(FROM, TOKEN, TO, 10**20, 7, 2**256 - 1, rs + bytes([v]))
    first = (10**20, 2**256 - 1, rs[:32], rs[32:], sent)
    exact = Permit2(TOKEN, FROM, TO, TO, 10**20, 2**256 - 1, 2**40, 7, None)
    permit = ((TOKEN, 10**20), 2**256 - 1, 2**40)
    types = ["(uint256,uint256,bytes32,bytes32,uint8)", PERMIT]
    assert calldata.settle_exact(exact, signature, given) == encoded(
        "settleWithPermit",
        [*types, "address", "(address,uint256)", "bytes"],
        [first, permit, FROM, (TO, 7), signature],
    )
    upto = Permit2(TOKEN, FROM, TO, TO, 10**20, 2**256 - 1, 2**40, 7, FACILITATOR)
    assert calldata.settle_upto(upto, signature, 5, given) == encoded(
        "settleWithPermit",
        [*types, "uint256", "address", "(address,address,uint256)", "bytes"],
        [first, permit, 5, FROM, (TO, FACILITATOR, 7), signature],
    )
    assert calldata.signature_mark(signature) in calldata.settle_exact(exact, signature, given)


def test_aggregate3_and_its_answer() -> None:
    calls = [("0x" + secrets.token_hex(20), secrets.token_bytes(length)) for length in (0, 1, 31, 32, 33, 300)]
    to, made = calldata.aggregate3(calls)
    assert to == "0xca11bde05977b3631167028862be2a173976ca11"
    assert made == encoded("aggregate3", ["(address,bool,bytes)[]"], [[(target, True, data) for target, data in calls]])
    outcomes = [(index % 2 == 0, secrets.token_bytes(index * 40)) for index in range(6)]
    answer = encode(["(bool,bytes)[]"], [outcomes])
    assert calldata.aggregate3_outcomes(answer, 6) == [True, False, True, False, True, False]


@pytest.mark.parametrize("answer", [b"", b"\0" * 64, encode(["(bool,bytes)[]"], [[(True, b"")]]), b"\xff" * 320])
def test_an_answer_of_something_else_is_none(answer: bytes) -> None:
    with pytest.raises(ValueError, match="aggregate3"):
        calldata.aggregate3_outcomes(answer, 2)


def test_questions() -> None:
    assert calldata.balance_of(FROM) == encoded("balanceOf", ["address"], [FROM])
    permit2 = "0x000000000022D473030F116dDEE9F6B43aC78BA3"
    assert calldata.permit2_allowance(FROM) == encoded("allowance", ["address", "address"], [FROM, permit2])
    assert calldata.is_blacklisted(FROM) == encoded("isBlacklisted", ["address"], [FROM])


def test_topics_are_addresses_in_words() -> None:
    assert decode(["address"], bytes.fromhex(calldata.topic(FROM)[2:])) == (FROM,)
