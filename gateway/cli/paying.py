"""`faregate pay`: a paying x402 client, to try a gateway out: this one or any other."""

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import orjson
import typer

from gateway.cli import following, terminal
from gateway.core.errors import TABLE, Code

if TYPE_CHECKING:
    from gateway.core.http import HttpResponse
    from gateway.core.keys import Key
    from gateway.flows.paying import Call, Offer, Payer, Quote, Reply

KEY_VARIABLE = "FAREGATE_PAY_KEY"


@dataclass(frozen=True, slots=True)
class Terms:
    """What the user of this command allows, and by what means."""

    cap_micros: int
    network: str | None
    by: str | None
    rpc: str | None
    key_file: Path | None
    yes: bool


def pay(
    url: Annotated[str, typer.Argument(help="What to buy, as http://127.0.0.1:8402/api/v1/enrich/phone")],
    data: Annotated[str | None, typer.Option("--data", "-d", help="The JSON body; makes it a POST.")] = None,
    method: Annotated[str | None, typer.Option("--method", "-X", help="GET or POST by default.")] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", help="A further header, as 'Name: value'.")
    ] = None,
    most: Annotated[str, typer.Option("--max", metavar="USD", help="The most to pay, or to sign for.")] = "1.00",
    network: Annotated[str | None, typer.Option(help="Only on this network, as eip155:8453.")] = None,
    by: Annotated[Literal["eip3009", "permit2", "upto"] | None, typer.Option(help="Only in this way.")] = None,
    rpc: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A node of the network: to see whether this wallet has approved Permit2."),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help=f"A private key or a keystore; {KEY_VARIABLE} otherwise."),
    ] = None,
    follow: Annotated[
        bool, typer.Option(" /--no-follow", help="Print how to ask about a job, instead of following it to its end.")
    ] = True,
    yes: terminal.Yes = False,
) -> None:
    """Call a URL and pay for it by x402.

    Shows the offer, asks, signs, pays, prints the answer and the receipt. A job is followed to its end; what is
    printed then is what came of it.
    """
    from gateway.cli.agents import micros
    from gateway.core.http import HttpFailure
    from gateway.flows.paying import Call, CannotPay

    cap = micros(most, "--max")
    if data is not None:
        _require_json(data)
    call = Call(
        (method or ("GET" if data is None else "POST")).upper(),
        url,
        data.encode() if data is not None else None,
        _headers(header or ()),
    )
    try:
        asyncio.run(_pay(call, Terms(cap, network, by, rpc, key_file, yes), follow))
    except CannotPay as error:
        terminal.fail(f"Nothing was paid: {terminal.plain(str(error))}", terminal.MONEY)
    except HttpFailure as failure:
        terminal.fail(str(failure), terminal.NO_ANSWER)


async def _pay(call: "Call", terms: Terms, follow: bool) -> None:
    from gateway.flows.following import handed_over
    from gateway.flows.paying import Payer
    from gateway.outbound import OutboundClient

    async with OutboundClient() as http:
        payer = Payer(http)
        response = await payer.ask(call)
        reply = await _buy(payer, call, response, terms) if response.status in (402, 412) else None
        if reply is not None:
            response = reply.response
        job = handed_over(response, call.url)
        if job is not None and follow:
            await following.follow(http, job)
        elif job is not None:
            terminal.say_body(response.body)
            following.show_secret(job)
            following.show_how_to_ask(job)
        elif reply is not None:
            _tell(call, reply)
        else:
            terminal.say_body(response.body)
            terminal.note(f"Status    {response.status}; nothing was paid")
            raise typer.Exit(_exit_status(response))


async def _buy(payer: "Payer", call: "Call", response: "HttpResponse", terms: Terms) -> "Reply":
    """Pays what a 402 asks for, as far as its user agrees."""
    from gateway.flows import paying

    quote = paying.quote(response)
    offer = paying.choose(quote, cap_micros=terms.cap_micros, network=terms.network, method=terms.by)
    key = read_key(terms.key_file)
    sponsored = paying.sponsors(offer, quote)
    standing = await payer.standing(terms.rpc, offer.token, key.address) if terms.rpc and sponsored else None
    short = standing is not None and standing.allowance < offer.amount_atomic
    _show(offer, quote, key)
    if short:
        _show_permit(offer)
    if not terms.yes:
        _confirm("Pay?")
    payment = paying.sign(offer, quote, key, now_s=int(time.time()), entropy=os.urandom)
    nonce = standing.permit_nonce if standing is not None else 0
    if short:
        payment = paying.approve(payment, offer, quote, key, nonce=nonce)
    reply = await _send(payer, call, payment)
    if reply.response.status == 412 and sponsored and not short:
        # Only now is it known, and nothing was taken: the same payment goes again, with the permit.
        _show_permit(offer)
        if standing is None:
            terminal.note("          as the first permit of this wallet; if it has signed others, name a node by --rpc")
        if not terms.yes:
            _confirm("Approve and pay?")
        reply = await _send(payer, call, paying.approve(payment, offer, quote, key, nonce=nonce))
    return reply


def _confirm(question: str) -> None:
    """Raises typer.Abort for a no, and at once for Ctrl-C, which the loop would keep to itself until the answer."""
    by_signal = threading.current_thread() is threading.main_thread()
    of_the_loop = signal.signal(signal.SIGINT, signal.default_int_handler) if by_signal else None
    try:
        typer.confirm(question, abort=True, err=True)
    finally:
        if by_signal:
            signal.signal(signal.SIGINT, of_the_loop)


async def _send(payer: "Payer", call: "Call", payment: str) -> "Reply":
    """Whoever pays and hears no answer must not pay again: the payment that has left is shown."""
    from gateway.core.http import HttpFailure

    try:
        return await payer.pay(call, payment)
    except asyncio.CancelledError:
        _show_sent(payment)
        raise typer.Exit(following.INTERRUPTED) from None
    except HttpFailure as failure:
        if failure.sent:
            _show_sent(payment)
        raise


def _show_sent(payment: str) -> None:
    terminal.note("The payment has left and may have been taken. The same call with the very same payment tells")
    terminal.note(f"what became of it, and is charged once: PAYMENT-SIGNATURE: {payment}")


def read_key(key_file: Path | None) -> "Key":
    """From the file (64 hexadecimal digits, or an encrypted keystore, whose password is asked for), else from the
    environment."""
    from gateway.core.keys import Key

    text = key_file.read_text(encoding="utf-8") if key_file else os.environ.get(KEY_VARIABLE, "")
    if not text.strip():
        terminal.fail(f"No key to pay with: set {KEY_VARIABLE}, or name a --key-file", terminal.MISUSED)
    try:
        return Key(_decrypted(text)) if text.lstrip().startswith("{") else Key.from_hex(text)
    except ValueError as error:
        terminal.fail(f"{key_file or KEY_VARIABLE}: {error}", terminal.MISUSED)


def _decrypted(keystore: str) -> bytes:
    from eth_account import Account

    return bytes(Account.decrypt(keystore, typer.prompt("Password", hide_input=True, err=True)))


def _headers(lines: Sequence[str]) -> dict[str, str]:
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            terminal.fail(f"--header {line}: write 'Name: value'", terminal.MISUSED)
        headers[name.strip()] = value.strip()
    return headers


def _require_json(data: str) -> None:
    try:
        orjson.loads(data)
    except ValueError as error:
        terminal.fail(f"--data is no JSON: {error}", terminal.MISUSED)


def _show(offer: "Offer", quote: "Quote", key: "Key") -> None:
    from gateway.core.money import format_usd
    from gateway.core.networks import NETWORKS

    resource = quote.resource if isinstance(quote.resource, dict) else {}
    description = resource.get("description")
    if isinstance(description, str):
        terminal.note(f"Offer     {terminal.plain(description)}")
    network = NETWORKS[offer.token.network]
    price = f"${format_usd(offer.price_micros)} in {offer.token.symbol}, by {offer.method}"
    upto = offer.facilitator is not None
    terminal.note(f"Price     {f'at most {price}: you pay what it comes to' if upto else price}")
    terminal.note(f"Network   {network.name} ({network.id}){', play money' if network.testnet else ''}")
    terminal.note(f"To        {terminal.plain(str(offer.accepted['payTo']))}")
    terminal.note(f"From      {key.address}")


def _show_permit(offer: "Offer") -> None:
    from gateway.core.money import format_usd

    price = format_usd(offer.price_micros)
    terminal.note(f"Permit    Permit2 may not take ${price} of this wallet yet; a permit for just that is signed too")
    terminal.note("          (EIP-2612: no gas needed, whoever settles takes it to the chain)")


def _tell(call: "Call", reply: "Reply") -> None:
    from gateway.flows.paying import status_url

    response = reply.response
    terminal.say_body(response.body)
    terminal.note(f"Status    {response.status}")
    if reply.receipt is not None:
        terminal.note(f"Receipt   {json.dumps(reply.receipt)}")
    elif response.status == 200:
        terminal.note("Receipt   none: nothing was settled, nothing was charged")
    token = response.headers.get("x-charge-token")
    if reply.charge_id:
        again = (
            f", to be fetched again with X-Charge-Token: {terminal.plain(token)}" if token and not reply.pending else ""
        )
        terminal.note(f"Charge    {terminal.plain(reply.charge_id)}{again}")
    if reply.pending:
        terminal.note(f"Still under way; ask {terminal.plain(status_url(call, reply) or call.url)}")
        terminal.note(f"with the header X-Charge-Token: {terminal.plain(token)}" if token else "with the same payment")
        raise typer.Exit(terminal.UNDER_WAY)
    if response.status in (402, 412):
        terminal.note(f"Refused   {terminal.plain(_reason(response))}")
        raise typer.Exit(terminal.MONEY)
    if response.status >= 400:
        raise typer.Exit(_exit_status(response))


def _exit_status(response: "HttpResponse") -> int:
    """As the table of errors has it for the answer's code; for an answer without one, by its status."""
    if response.status < 400:
        return 0
    try:
        code = orjson.loads(response.body).get("code")
    except (ValueError, AttributeError):
        code = None
    if code in list(Code):
        return TABLE[Code(code)].exit
    return terminal.NO_ANSWER if response.status >= 500 else terminal.MISUSED


def _reason(response: "HttpResponse") -> str:
    try:
        told = orjson.loads(response.body)
        error, message = told.get("error"), told.get("message")
    except (ValueError, AttributeError):
        return "without a reason"
    if error == "permit2_allowance_required":
        return (
            "this wallet has not approved Permit2 for this token yet; approve it once, or pay --by eip3009 if offered"
        )
    return f"{error}: {message}" if isinstance(message, str) else str(error)
