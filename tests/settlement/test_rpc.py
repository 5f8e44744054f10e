"""The JSON-RPC client: one usable answer, or none at all."""

import asyncio

import aiohttp
import pytest
from rigs import rpc as rig
from rigs.rpc import RpcProxy, refuse

from gateway.settlement.rpc import BATCH_MAX, Rpc, RpcError, RpcUnavailable, quantity
from gateway.settlement.together import Together


class Node(RpcProxy):
    """A node of its own, without a chain: every method answers with its first parameter."""

    def __init__(self) -> None:
        super().__init__("")
        self.head = 100

    async def forward(self, calls: rig.Calls) -> list[dict[str, object]]:
        return [{"jsonrpc": "2.0", "id": call["id"], "result": self._answer(call)} for call in calls]

    def _answer(self, call: dict[str, object]) -> object:
        match call["method"]:
            case "eth_chainId":
                return "0x1"
            case "eth_getBlockByNumber":
                return {"number": hex(self.head), "hash": "0xab", "timestamp": "0x5", "baseFeePerGas": "0x7"}
        return call["params"][0] if call["params"] else None  # type: ignore[index]


@pytest.fixture
async def node():
    async with Node() as node:
        yield node


@pytest.fixture
async def other():
    async with Node() as node:
        yield node


async def test_answers_come_in_order_whatever_the_node_does(http: aiohttp.ClientSession, node: Node) -> None:
    async def shuffled(proxy: RpcProxy, calls: rig.Calls) -> rig.Answers:
        return list(reversed(await proxy.forward(calls)))

    node.on("*", shuffled)
    rpc = Rpc(http, [node.url], chain_id=1)
    assert await rpc.batch([("echo", str(i)) for i in range(9)]) == [str(i) for i in range(9)]


async def test_one_failing_call_is_one_error(http: aiohttp.ClientSession, node: Node) -> None:
    async def partly(proxy: RpcProxy, calls: rig.Calls) -> rig.Answers:
        answers = await proxy.forward(calls)
        answers[-1] = {"jsonrpc": "2.0", "id": answers[-1]["id"], "error": {"code": 3, "message": "execution reverted"}}
        return answers

    node.on("*", partly)
    first, second = await Rpc(http, [node.url], chain_id=1).batch([("echo", "a"), ("echo", "b")])
    assert first == "a"
    assert isinstance(second, RpcError)
    assert second.reverted


@pytest.mark.parametrize("behaviour", [rig.truncated, rig.wrong_ids, rig.html, rig.status(500), rig.endless])
async def test_half_an_answer_is_none(http: aiohttp.ClientSession, node: Node, behaviour: rig.Behaviour) -> None:
    node.on("*", behaviour)
    with pytest.raises(RpcUnavailable):
        await Rpc(http, [node.url], chain_id=1).batch([("echo", "a"), ("echo", "b")])


async def test_an_answer_beyond_all_measure_is_none(
    http: aiohttp.ClientSession, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.settlement.rpc.ANSWER_BYTES_MAX", 1000)
    rpc = Rpc(http, [node.url], chain_id=1)
    assert await rpc.call("echo", "x" * 500) == "x" * 500
    with pytest.raises(RpcUnavailable, match="measure"):
        await rpc.call("echo", "x" * 2000)


async def test_a_long_batch_goes_in_parts(http: aiohttp.ClientSession, node: Node) -> None:
    rpc = Rpc(http, [node.url], chain_id=1)
    count = BATCH_MAX * 2 + 5
    assert await rpc.batch([("echo", i) for i in range(count)]) == list(range(count))
    assert node.requests == 3


async def test_the_chain_is_checked_once_on_each_url(http: aiohttp.ClientSession, node: Node, other: Node) -> None:
    other.on("*", rig.answering("eth_chainId", "0x2"))
    rpc = Rpc(http, [other.url, node.url], chain_id=1)
    for _ in range(3):
        assert await rpc.call("echo", "x") == "x"
    assert rpc.alarms == ("rpc_wrong_chain",)
    assert node.calls["eth_chainId"] == other.calls["eth_chainId"] == 1


async def test_a_slow_url_does_not_use_up_everybodys_time(
    http: aiohttp.ClientSession, node: Node, other: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It never answers; as soon as it is asked, two thirds of the time for a question have passed."""
    monkeypatch.setattr("gateway.settlement.rpc.REST_FIRST_S", 3600.0)
    loop = asyncio.get_running_loop()
    time, passed_s = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: time() + passed_s)

    async def slow(proxy: RpcProxy, calls: rig.Calls) -> rig.Answers:
        nonlocal passed_s
        passed_s += 40.0
        await asyncio.Event().wait()
        return None

    other.on("*", slow)
    rpc = Rpc(http, [other.url, node.url], chain_id=1, timeout_s=60.0)
    assert await rpc.call("echo", "x") == "x"
    assert await rpc.call("echo", "x") == "x"
    assert passed_s == 40.0, "who was slow just now is not asked first"


async def test_who_was_down_is_asked_again_later(
    http: aiohttp.ClientSession, node: Node, other: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.settlement.rpc.REST_FIRST_S", 0.05)
    other.on("*", refuse, times=1)
    rpc = Rpc(http, [other.url, node.url], chain_id=1)
    await rpc.call("echo", "x")
    assert node.requests == 1
    await asyncio.sleep(0.06)
    await rpc.call("echo", "x")
    assert node.requests == 1
    assert rpc.alarms == ()


async def test_the_latest_never_goes_back(http: aiohttp.ClientSession, node: Node, other: Node) -> None:
    rpc = Rpc(http, [node.url, other.url], chain_id=1, timeout_s=0.2)
    node.head, other.head = 100, 103
    rpc.heard_of(102)
    assert await rpc.latest([("echo", "x")], lambda head, answers: (head.number, answers)) == (103, ["x"])
    assert rpc.head == 103
    other.head = 99
    with pytest.raises(RpcUnavailable):
        await rpc.latest([("echo", "x")], lambda head, answers: head.number)


async def test_no_url_appears_in_what_is_said(http: aiohttp.ClientSession, capsys: pytest.CaptureFixture[str]) -> None:
    rpc = Rpc(http, ["http://user:secret-key@127.0.0.1:9/v2/secret-key"], chain_id=1)
    with pytest.raises(RpcUnavailable) as failure:
        await rpc.call("echo", "x")
    told = capsys.readouterr()
    assert "secret-key" not in str(failure.value) + told.out + told.err


@pytest.mark.parametrize("answer", [None, 5, "5", "0x", "0xzz", "0x" + "1" * 65, "0x1" + "0" * 63 + "0", True, []])
def test_what_is_no_quantity_is_no_answer(answer: object) -> None:
    with pytest.raises(RpcUnavailable):
        quantity(answer, bits=64)  # type: ignore[arg-type]


async def test_questions_of_many_share_a_batch(http: aiohttp.ClientSession, node: Node) -> None:
    node.on("*", rig.delay(0.02))
    together = Together(Rpc(http, [node.url], chain_id=1))
    asked = [together.latest([("echo", i), ("echo", -i)], lambda head, answers: answers) for i in range(60)]
    assert await asyncio.gather(*asked) == [[i, -i] for i in range(60)]
    assert node.requests < 12


async def test_one_bad_answer_among_many_is_asked_again_alone(http: aiohttp.ClientSession, node: Node) -> None:
    together = Together(Rpc(http, [node.url], chain_id=1))
    tries: list[object] = []

    def choosy(head: object, answers: list[object]) -> object:
        tries.append(answers)
        if len(tries) == 1:
            raise RpcUnavailable("not this one")
        return answers[0]

    asked = [together.latest([("echo", "picky")], choosy)]  # type: ignore[arg-type]
    asked += [together.latest([("echo", i)], lambda head, answers: answers[0]) for i in range(5)]
    assert await asyncio.gather(*asked) == ["picky", 0, 1, 2, 3, 4]


async def test_when_nobody_answers_all_are_told(http: aiohttp.ClientSession, node: Node) -> None:
    node.on("*", refuse)
    together = Together(Rpc(http, [node.url], chain_id=1, timeout_s=0.1))
    asked = [together.latest([("echo", i)], lambda head, answers: answers) for i in range(9)]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(outcome, RpcUnavailable) for outcome in outcomes)
