"""CHAIN: a real EVM of our own, with everything x402 meets on Base Sepolia.

    chain = Chain.start()                     one process, ready in under a second
    chain.mint(payer, 1_000_000)              Circle's real token at Base Sepolia's USDC address
    chain.approve_permit2(payer)              Uniswap's real Permit2 at its canonical address
    chain.automine(False); chain.mine(3)      time, blocks, forks and a pool with holes, on demand
    with chain.restored(): ...                whatever happened inside is undone

The chain's id is 84532, so official clients know the token and pay unchanged. Everything here blocks; one call
takes about a millisecond.
"""

import contextlib
import functools
import http.client
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eth_abi import decode, encode
from eth_utils import function_signature_to_4byte_selector

HERE = Path(__file__).parents[1] / "chain"
MODULES = HERE / "node_modules"

CHAIN_ID = 84532
NETWORK = f"eip155:{CHAIN_ID}"
USDC = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
PERMIT2 = "0x000000000022D473030F116dDEE9F6B43aC78BA3"
MULTICALL3 = "0xcA11bde05977b3631167028862bE2a173976CA11"
EXACT_PROXY = "0x402085c248EeA27D92E8b30b2C58ed07f9E20001"
UPTO_PROXY = "0x4020A4f3b7b90ccA423B9fabCc0CE57C6C240002"
TOKEN_IMPLEMENTATION = "0x00000000000000000000000000000000000F1a70"

RELAYER_KEY = bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
"""The first of anvil's well-known keys; the other nine are PAYER_KEYS. All of them have gas money."""
PAYER_KEYS = tuple(
    bytes.fromhex(key)
    for key in (
        "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
        "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
        "7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
        "47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
        "8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba",
        "92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e",
        "4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356",
        "dbda1821b80551c9d65939329250298aa3472ba22feea921c0cf5d620ea67b97",
        "2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6",
    )
)

_OWNER = "0x00000000000000000000000000000000000A11cE"
_IMPLEMENTATION_SLOT = "0x7050c9e0f4ca769c69bd3a8ef740bc37934f8e2c036e5a723fd8ee048ed3f8c3"
_ADMIN_SLOT = "0x10d6a54a4754c8869d6886b5f5d7fbfa5b4522237ea5c60d11bc4e7a1ff9390b"
_FOREVER = 2**256 - 1


class ChainError(Exception):
    """The node answered with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error.get("message"))
        self.code = error.get("code")
        self.data = error.get("data")


def anvil() -> Path | None:
    """The node's binary: from npm, else whatever is installed. None where there is neither."""
    found = sorted(MODULES.glob("@foundry-rs/anvil-*/bin/anvil*"))
    installed = shutil.which("anvil")
    return found[0] if found else Path(installed) if installed else None


@functools.cache
def contracts() -> dict[str, Any]:
    """Runtime code by name, gathered by build.mjs; made again when a contract has changed since."""
    built = MODULES / ".cache" / "contracts.json"
    sources = [*(HERE / "contracts").glob("*.sol"), HERE / "build.mjs"]
    if not built.exists() or built.stat().st_mtime < max(path.stat().st_mtime for path in sources):
        subprocess.run(["node", "build.mjs"], cwd=HERE, check=True)
    made: dict[str, Any] = json.loads(built.read_text())
    return made


def calldata(signature: str, *values: object) -> str:
    """`calldata("transfer(address,uint256)", to, 5)` -> hex."""
    types = signature[signature.index("(") + 1 : -1]
    selector = function_signature_to_4byte_selector(signature)
    return "0x" + (selector + encode(types.split(",") if types else [], list(values))).hex()


def aggregate3(calls: list[tuple[str, bool, bytes]]) -> str:
    """Multicall3's: (contract, whether it may fail, calldata) each, in one transaction."""
    selector = function_signature_to_4byte_selector("aggregate3((address,bool,bytes)[])")
    return "0x" + (selector + encode(["(address,bool,bytes)[]"], [calls])).hex()


class Chain:
    def __init__(self, process: subprocess.Popen[bytes] | None, port: int) -> None:
        self._process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._automining = True
        self._places = 0x7E57000000000000000000000000000000000000

    @classmethod
    def start(cls, *options: str) -> "Chain":
        """A fresh chain; `options` go to anvil (`"--block-time", "2"`)."""
        binary = anvil()
        if binary is None:
            raise RuntimeError("no anvil: run scripts/setup")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        process = subprocess.Popen(
            [
                str(binary), "--host", "127.0.0.1", "--port", str(port), "--chain-id", str(CHAIN_ID), "--quiet",
                "--auto-impersonate", "--balance", "1000000", "--prune-history", "5000", "--no-request-size-limit",
                "--threads", "2", *options,
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={"PATH": os.environ.get("PATH", ""), "HOME": os.environ.get("HOME", "/tmp"), "NO_PROXY": "*"},
        )  # fmt: skip
        chain = cls(process, port)
        try:
            chain._wait()
            chain._furnish()
        except BaseException:
            chain.close()
            raise
        return chain

    def close(self) -> None:
        self._http.close()
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    def kill(self) -> None:
        """The node is gone at once."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    # talking

    def rpc(self, method: str, *params: object) -> Any:
        return self.batch((method, *params))[0]

    def batch(self, *calls: tuple[Any, ...]) -> list[Any]:
        body = [{"jsonrpc": "2.0", "id": i, "method": call[0], "params": call[1:]} for i, call in enumerate(calls)]
        answers = sorted(self._post(json.dumps(body)), key=lambda answer: answer["id"])
        for answer in answers:
            if "error" in answer:
                raise ChainError(answer["error"])
        return [answer["result"] for answer in answers]

    def _post(self, body: str) -> list[dict[str, Any]]:
        try:
            self._http.request("POST", "/", body, {"Content-Type": "application/json"})
            answer: list[dict[str, Any]] = json.loads(self._http.getresponse().read())
        except (http.client.HTTPException, OSError):
            self._http.close()
            raise
        return answer

    def _wait(self) -> None:
        for _ in range(1000):
            with contextlib.suppress(OSError):
                self.rpc("eth_chainId")
                return
            time.sleep(0.01)
        raise RuntimeError("anvil does not answer")

    def call(self, to: str, signature: str, *values: object, returns: str = "uint256") -> Any:
        answer = self.rpc("eth_call", {"to": to, "data": calldata(signature, *values)}, "latest")
        return decode([returns], bytes.fromhex(answer[2:]))[0]

    def send(self, sender: str, to: str, data: str = "0x", *, value: int = 0, **fields: object) -> str:
        """A transaction by anybody, no key needed. Answers its hash; mined at once while automining."""
        transaction = {"from": sender, "to": to, "data": data, "value": hex(value), **fields}
        sent: str = self.rpc("eth_sendTransaction", transaction)
        for _ in range(500 if self._automining else 0):
            if self.receipt(sent) is not None:
                break
            time.sleep(0.002)
        return sent

    def do(self, sender: str, to: str, signature: str, *values: object) -> str:
        """`send` of one call that must succeed if it is mined at once."""
        transaction = self.send(sender, to, calldata(signature, *values))
        receipt = self.receipt(transaction)
        if receipt is not None and receipt["status"] != "0x1":
            raise AssertionError(f"{signature} reverted")
        return transaction

    def receipt(self, transaction: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.rpc("eth_getTransactionReceipt", transaction)
        return found

    def mined(self, transaction: str, within_s: float = 10.0) -> dict[str, Any]:
        """Its receipt. A busy machine answers a send now and then before it has mined it."""
        until = time.monotonic() + within_s
        while (receipt := self.receipt(transaction)) is None:
            if time.monotonic() > until:
                raise AssertionError("it was never mined")
            time.sleep(0.005)
        return receipt

    # what stands on it

    def _furnish(self) -> None:
        built = contracts()
        code = {name: "0x" + runtime for name, runtime in built["contracts"].items()}
        multicall3 = self.rpc("eth_call", {"data": "0x" + built["creation"]["Multicall3"]}, "latest")
        self.batch(
            ("anvil_setCode", MULTICALL3, multicall3),
            ("anvil_setCode", PERMIT2, code["Permit2"]),
            ("anvil_setCode", EXACT_PROXY, code["ExactPermit2Proxy"]),
            ("anvil_setCode", UPTO_PROXY, code["UptoPermit2Proxy"]),
            ("anvil_setCode", built["library"], code["SignatureChecker"]),
            ("anvil_setBalance", _OWNER, hex(10**24)),
        )
        self.place_circle_token(USDC, "USDC", "USDC")

    def place_circle_token(self, address: str, name: str, symbol: str, decimals: int = 6) -> None:
        """Circle's proxy and implementation, taken through the three initialisations that the real one went through."""
        code = contracts()["contracts"]
        implementation = TOKEN_IMPLEMENTATION
        slot = "0x" + implementation[2:].lower().rjust(64, "0")
        self.batch(
            ("anvil_setCode", implementation, "0x" + code["FiatToken"]),
            ("anvil_setCode", address, "0x" + code["FiatTokenProxy"]),
            ("anvil_setStorageAt", address, _IMPLEMENTATION_SLOT, slot),
            ("anvil_setStorageAt", address, _ADMIN_SLOT, "0x" + (b"\0" * 31 + b"\1").hex()),
        )  # fmt: skip
        steps = (
            calldata(
                "initialize(string,string,string,uint8,address,address,address,address)",
                name, symbol, "USD", decimals, _OWNER, _OWNER, _OWNER, _OWNER,
            ),
            calldata("initializeV2(string)", name),
            calldata("initializeV2_1(address)", _OWNER),
            "0x" + function_signature_to_4byte_selector("initializeV2_2(address[],string)").hex()
            + encode(["address[]", "string"], [[], symbol]).hex(),
            calldata("configureMinter(address,uint256)", _OWNER, _FOREVER),
        )  # fmt: skip
        for step in steps:
            receipt = self.mined(self.send(_OWNER, address, step, gas=hex(2_000_000)))
            assert receipt["status"] == "0x1", "the token would not be set up"

    def place(self, name: str, *, owner: str | None = None, at: str | None = None) -> str:
        """Puts one of the test contracts somewhere, with `owner` in its first storage slot; answers the address."""
        if at is None:
            self._places += 1
            at = f"0x{self._places:040x}"
        self.rpc("anvil_setCode", at, "0x" + contracts()["contracts"][name])
        if owner is not None:
            self.rpc("anvil_setStorageAt", at, "0x0", "0x" + owner[2:].lower().rjust(64, "0"))
        return at

    def odd_token(
        self, *, name: str = "Odd", version: str = "1", decimals: int = 6, fee_percent: int = 0, echo: bool = False
    ) -> str:
        """A token that only takes ECDSA signatures, may keep a fee, or has another contract tell of its Transfers."""
        token = self.place("OddToken")
        teller = self.place("Echo") if echo else "0x" + "0" * 40
        self.do(
            _OWNER, token, "setUp(string,string,uint8,uint256,address)", name, version, decimals, fee_percent, teller
        )
        return token

    def delegate(self, account: str, code: str = "Delegate") -> None:
        """Makes an account of a key run a contract's code, as EIP-7702 does."""
        target = self.place(code)
        self.rpc("anvil_setCode", account, "0xef0100" + target[2:])

    # money

    def mint(self, to: str, amount: int, token: str = USDC) -> None:
        self.do(_OWNER, token, "mint(address,uint256)", to, amount)

    def balance(self, who: str, token: str = USDC) -> int:
        held: int = self.call(token, "balanceOf(address)", who)
        return held

    def approve_permit2(self, owner: str, token: str = USDC, amount: int = _FOREVER) -> None:
        self.do(owner, token, "approve(address,uint256)", PERMIT2, amount)

    def gas_money(self, who: str, wei: int | None = None) -> int:
        """The native balance; sets it first when `wei` is given."""
        if wei is not None:
            self.rpc("anvil_setBalance", who, hex(wei))
        return int(self.rpc("eth_getBalance", who, "latest"), 16)

    def freeze(self, who: str, frozen: bool = True) -> None:
        self.do(_OWNER, USDC, "blacklist(address)" if frozen else "unBlacklist(address)", who)

    def pause(self, paused: bool = True) -> None:
        self.do(_OWNER, USDC, "pause()" if paused else "unpause()")

    # blocks and time

    def automine(self, on: bool) -> None:
        self._automining = on
        self.rpc("evm_setAutomine", on)

    def mine(self, blocks: int = 1) -> None:
        self.rpc("anvil_mine", hex(blocks))

    def block(self, number: int | str = "latest") -> dict[str, Any]:
        found: dict[str, Any] = self.rpc(
            "eth_getBlockByNumber", hex(number) if isinstance(number, int) else number, False
        )
        return found

    @property
    def height(self) -> int:
        return int(self.rpc("eth_blockNumber"), 16)

    @property
    def now(self) -> int:
        """The latest block's time."""
        return int(self.block()["timestamp"], 16)

    def next_block_at(self, timestamp: int) -> None:
        self.rpc("evm_setNextBlockTimestamp", hex(timestamp))

    def pass_time(self, seconds: int) -> None:
        """Moves chain time ahead and mines a block there."""
        self.rpc("evm_increaseTime", hex(seconds))
        self.mine()

    def base_fee(self, wei: int) -> None:
        """Of the next block."""
        self.rpc("anvil_setNextBlockBaseFeePerGas", hex(wei))

    def reorganise(self, depth: int) -> None:
        """The last `depth` blocks are replaced by empty ones; what they held is forgotten."""
        self.rpc("anvil_reorg", depth, [])

    def drop(self, transaction: str) -> None:
        """The pool forgets a transaction that is not mined yet."""
        self.rpc("anvil_dropTransaction", transaction)

    def drop_all(self) -> None:
        self.rpc("anvil_dropAllTransactions")

    def pool(self) -> dict[str, Any]:
        """{sender: {nonce: transaction}} of what waits to be mined."""
        content = self.rpc("txpool_content")
        waiting: dict[str, Any] = {}
        for part in ("pending", "queued"):
            for sender, by_nonce in content[part].items():
                waiting.setdefault(sender.lower(), {}).update(by_nonce)
        return waiting

    def nonce(self, who: str) -> int:
        return int(self.rpc("eth_getTransactionCount", who, "latest"), 16)

    @contextlib.contextmanager
    def restored(self) -> Iterator["Chain"]:
        """Inside, anything may happen to the chain; afterwards it is as it was."""
        snapshot = self.rpc("evm_snapshot")
        try:
            yield self
        finally:
            self.drop_all()
            self.automine(True)
            self.rpc("evm_revert", snapshot)
