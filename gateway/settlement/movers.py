"""Movers: by whose own doing a Transfer was made, told from its transaction's receipt. Pure.

That a token's log names an account as the sender does not say that the account did anything: a stranger may have taken
to the chain what it has signed for a payment somewhere else (EIP-3009), or spend what it has approved. Its own doing is

    a key's         the transaction is signed by the account, and goes to the token, or to the account itself where it
                    has code (EIP-7702): to nobody's contract that might bring what was signed elsewhere
    a contract's    the transaction goes to the account itself, whose code has let it pass: nothing else has run before
    an operation's  the transaction goes to an entry point of ERC-4337, and the Transfer is of the account's operation:
                    an operation's logs stand behind the BeforeExecution of all of them, and before its own
                    UserOperationEvent, the first that follows

It does not see further: an account that calls a stranger's contract does what that does. And what a contract does by
way of others alone (a module that is called directly, an entry point that is not listed) is nobody's own doing.

Entry points v0.6, v0.7 and v0.8 of github.com/eth-infinitism/account-abstraction, at the same address on every chain.
"""

from gateway.core.networks import keccak
from gateway.settlement.proof import Log, Receipt

ENTRY_POINTS = frozenset(
    (
        "0x5ff137d4b0fdcd49dca30c7cf57e578a026d2789",
        "0x0000000071727de22e5e9d8baf0edac6f37da032",
        "0x4337084d9e255ff0702461cf8895ce9e3b5ff108",
    )
)
BEFORE_EXECUTION_TOPIC = "0x" + keccak(b"BeforeExecution()").hex()
USER_OPERATION_TOPIC = "0x" + keccak(b"UserOperationEvent(bytes32,address,address,uint256,bool,uint256,uint256)").hex()
_TOPICS = 4
"""Of a UserOperationEvent: itself, the operation's hash, the account, the paymaster."""
_SUCCESS, _TRUE = slice(32, 64), (1).to_bytes(32)
"""Where its data say that the account did not fail; what a paymaster does about one that did is not the account's."""


def movers(receipt: Receipt, log: Log) -> frozenset[str]:
    """The accounts, in lower case, whose own doing this Transfer of the receipt is."""
    found = {receipt.to}
    if receipt.to in (log.address, receipt.sender):
        found.add(receipt.sender)
    if receipt.to in ENTRY_POINTS:
        found.add(_of_operation(receipt, log))
    return frozenset(found - {""})


def _of_operation(receipt: Receipt, log: Log) -> str:
    """The account whose operation wrote it; "" where none did."""
    said = sorted((each for each in receipt.logs if each.address == receipt.to), key=lambda each: each.index)
    executing = any(each.index < log.index and each.topics == (BEFORE_EXECUTION_TOPIC,) for each in said)
    ends = (each for each in said if each.index > log.index and each.topics[:1] == (USER_OPERATION_TOPIC,))
    end = next(ends, None)
    if not executing or end is None or len(end.topics) != _TOPICS or end.data[_SUCCESS] != _TRUE:
        return ""
    return "0x" + end.topics[2][-40:]
