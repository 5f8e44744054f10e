"""`faregate demo`: a whole gateway with play money and invented people, and a show of what it does.

Everything is real but the chain and the people: the server, the ledger, the signatures, and the client that pays
over HTTP. What is kept lies in a folder that goes with the demo unless one is named.
"""

import asyncio
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from gateway.cli import terminal

if TYPE_CHECKING:
    from rich.console import Console

    from gateway.assemble import Gateway
    from gateway.core.http import HttpClient, HttpResponse
    from gateway.core.keys import Key
    from gateway.settings import Settings

OPERATION = "enrich/phone"
CREDIT = "5.00"
PEOPLE = 500
TIMEOUT_S = 20.0


def demo(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0 takes any free port.")] = 8402,
    data: Annotated[
        Path | None, typer.Option(file_okay=False, help="Keep the demo's files in this folder; else they vanish.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End after the show.")] = False,
) -> None:
    """Show a gateway at work, with play money.

    The people are invented. After the show it stays up to be tried.
    """
    from gateway.edge import logs

    logs.configure("console", "warning")
    with ExitStack() as stack:
        folder = data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faregate-demo-")))
        folder.mkdir(parents=True, exist_ok=True)
        asyncio.run(_demo(folder, port, once))


async def _demo(folder: Path, port: int, once: bool) -> None:
    from gateway.assemble import assemble
    from gateway.cli.serving import limits_of
    from gateway.edge import logs, server
    from gateway.outbound import OutboundClient

    with _listener(port) as listener:
        settings = settings_of(folder, listener.getsockname()[1])
        load_people(settings)
        stop = _told_to_stop()
        async with (
            assemble(settings) as gateway,
            server.serving(gateway.app, limits=limits_of(settings), listener=listener) as url,
            OutboundClient() as http,
        ):
            show = Show(gateway, url, http, terminal.console())
            with suppress(asyncio.CancelledError):
                await show.run()
            if not once:
                show.go_on()
                logs.configure("console", "info")
                await stop.wait()


def _listener(port: int) -> "Any":
    from gateway.edge import server

    try:
        return server.bind("127.0.0.1", port)
    except OSError as error:
        terminal.fail(f"port {port}: {error.strerror}; choose another, as `faregate demo --port 8403`, or --port 0", 5)


def _told_to_stop() -> asyncio.Event:
    stop = asyncio.Event()
    for kind in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows: Ctrl-C ends it all the same
            asyncio.get_running_loop().add_signal_handler(kind, stop.set)
    return stop


def settings_of(folder: Path, port: int) -> "Settings":
    from gateway.settings import parse

    return parse(
        {
            "service": {"name": "Faregate demo", "host": "127.0.0.1", "port": port},
            "settlement": {"kind": "sandbox"},
            "store": {"path": str(folder.absolute() / "demo.db")},
            "directory": {"path": str(folder.absolute() / "demo-directory.db"), "sell_lists": True},
        }
    )


def load_people(settings: "Settings") -> None:
    """The invented people, into the demo's own directory; once."""
    from upstreams.directory import invented, loading

    path = settings.directory.path
    assert path is not None, "settings_of names it"
    if path.exists():
        return
    file = path.with_suffix(".csv")
    invented.write(file, PEOPLE)
    try:
        loading.load(file, path, workers=0, source=invented.SOURCE)
    finally:
        file.unlink()


@dataclass
class Show:
    """Five acts, each a call and what came of it, over real HTTP."""

    gateway: "Gateway"
    url: str
    http: "HttpClient"
    console: "Console"
    token: str = field(default="", repr=False)

    async def run(self) -> None:
        from upstreams.directory.invented import MISSING_PHONE

        self._say(f"[bold]Faregate[/] answers at [cyan]{self.url}[/]. Payments here are play money, people invented.")
        known = self._operation.example
        await self._unpaid(known)
        await self._paid(known)
        await self._missed({"phone": MISSING_PHONE})
        await self._from_balance(known)
        await self._audit()

    @property
    def _operation(self) -> "Any":
        operation = self.gateway.catalogue.get(OPERATION)
        assert operation is not None, "the demo's directory is loaded"
        return operation

    async def _unpaid(self, question: Mapping[str, Any]) -> None:
        self._act(1, "A call without money", question)
        response = await self._call(question)
        body = orjson.loads(response.body)
        self._line("answer", f"{response.status} {body['code']}")
        for offer in body["accepts"]:
            method = offer["extra"].get("assetTransferMethod", "eip3009")
            price = f"{int(offer['amount']) / 10**6:.3f} {offer['extra']['name']}"
            self._line("offer", f"{price} by {offer['scheme']}, {method}, on {offer['network']}")

    async def _paid(self, question: Mapping[str, Any]) -> None:
        self._act(2, "The same call, paid by x402", question)
        before = self._wallet()
        reply = await self._pay(question)
        self._answer(reply)
        self._line("receipt", orjson.dumps(receipt_of(reply)).decode())
        self._line("wallet", f"{before - self._wallet():.3f} Sandbox USD less than before")

    async def _missed(self, question: Mapping[str, Any]) -> None:
        self._act(3, "A number that nobody has: a miss costs nothing", question)
        before = self._wallet()
        self._answer(await self._pay(question))
        self._line("wallet", f"{before - self._wallet():.3f} Sandbox USD less than before")

    async def _from_balance(self, question: Mapping[str, Any]) -> None:
        from gateway.cli.agents import new_agent
        from gateway.core.money import parse_usd
        from gateway.core.transfer import Kind

        self._act(4, f"An agent with a prepaid balance of ${CREDIT}", question)
        prefix = self.gateway.settings.service.token_prefix
        _, self.token = await new_agent(self.gateway.db, prefix, "demo", [(Kind.CREDIT, parse_usd(CREDIT))])
        self._answer(await self._call(question, {"Authorization": f"Bearer {self.token}"}))
        balance = await self._get("/api/v1/agents/balance", {"Authorization": f"Bearer {self.token}"})
        kept = {name: value for name, value in orjson.loads(balance.body).items() if name.endswith("_usd")}
        self._line("balance", orjson.dumps(kept).decode())

    async def _audit(self) -> None:
        from gateway.store.audit import audit

        self._act(5, "The books, checked")
        findings = await self.gateway.db.read(audit)
        for finding in findings:
            self._line(finding.rule, f"{finding.subject}: {finding.message}")
        self._line("audit", "clean" if not findings else f"{len(findings)} findings")
        if findings:
            raise typer.Exit(terminal.WRONG)

    def go_on(self) -> None:
        """Prints lines to copy."""
        where, body = f"{self.url}{self._operation.path}", orjson.dumps(dict(self._operation.example)).decode()
        post = f"-H 'Content-Type: application/json' -d {shlex.quote(body)}"
        command = shlex.quote(sys.argv[0] if Path(sys.argv[0]).name == "faregate" else "faregate")
        _, key = _wallet_key()
        lines = (
            ("the 402", f"curl -i -X POST {where}"),
            ("from the balance", f"curl {where} -H 'Authorization: Bearer {self.token}' {post}"),
            ("by x402", f"FAREGATE_PAY_KEY={key} {command} pay {where} -d {shlex.quote(body)}"),
            ("what is sold", f"curl {self.url}/pricing"),
            ("for machines", f"curl {self.url}/openapi.json   {self.url}/.well-known/x402   {self.url}/llms.txt"),
        )
        self._say("\n[bold]Go on yourself[/] (Ctrl-C ends it):")
        for what, line in lines:
            self.console.print(f"\n  [dim]# {what}[/]")
            self.console.print("  " + line, markup=False)
        self.console.print()

    # the calls

    async def _call(self, question: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> "HttpResponse":
        return await self.http.request(
            self._operation.method,
            self.url + self._operation.path,
            headers={"Content-Type": "application/json", **(headers or {})},
            body=orjson.dumps(dict(question)),
            timeout_s=TIMEOUT_S,
            bytes_max=1_000_000,
            private=True,
        )

    async def _get(self, path: str, headers: Mapping[str, str]) -> "HttpResponse":
        return await self.http.request(
            "GET", self.url + path, headers=headers, timeout_s=TIMEOUT_S, bytes_max=1_000_000, private=True
        )

    async def _pay(self, question: Mapping[str, Any]) -> "HttpResponse":
        from gateway.flows import paying

        call = paying.Call(self._operation.method, self.url + self._operation.path, orjson.dumps(dict(question)))
        payer = paying.Payer(self.http)
        quote = paying.quote(await payer.ask(call))
        offer = paying.choose(quote, cap_micros=1_000_000)
        payment = paying.sign(offer, quote, self._key(), now_s=int(time.time()), entropy=os.urandom)
        return (await payer.pay(call, payment)).response

    @staticmethod
    def _key() -> "Key":
        from gateway.core.keys import Key

        return Key.from_hex(_wallet_key()[1])

    def _wallet(self) -> float:
        """What the demo's wallet holds, in Sandbox USD."""
        from gateway.settlement.sandbox import Sandbox

        settler = self.gateway.settler
        assert isinstance(settler, Sandbox), "the demo's settlement"
        return settler.balance(_wallet_key()[0]) / 10**6

    # the stage

    def _act(self, number: int, title: str, question: Mapping[str, Any] | None = None) -> None:
        self._say(f"\n[bold]{number}. {title}[/]")
        if question is not None:
            asked = orjson.dumps(dict(question)).decode()
            self._line("call", f"{self._operation.method} {self._operation.path} {asked}")

    def _answer(self, response: "HttpResponse") -> None:
        body = orjson.loads(response.body)
        told = ", ".join(f"{name}: {orjson.dumps(body.get(name)).decode()}" for name in ("matched", "billed"))
        self._line("answer", f"{response.status}, {told}")
        for person in (body.get("data") or {}).get("people", [])[:1]:
            self._line("data", orjson.dumps(person).decode()[:160] + " ...")
        billing = body.get("billing") or {}
        self._line("billing", f"${billing.get('charged_usd')} charged, {billing.get('mode')}")

    def _line(self, name: str, text: str) -> None:
        self.console.print(f"   [cyan]{name:<8}[/] ", end="")
        self.console.print(text, markup=False)

    def _say(self, text: str) -> None:
        self.console.print(text)


def receipt_of(response: "HttpResponse") -> Any:
    """The PAYMENT-RESPONSE header, decoded; None without one."""
    from gateway.flows.paying import decoded

    return decoded(response.headers.get("payment-response", ""))


def _wallet_key() -> tuple[str, str]:
    """The first prefunded wallet of the sandbox: address and private key, known to everybody."""
    from gateway.settlement.sandbox import PREFUNDED

    return next(iter(PREFUNDED.items()))
