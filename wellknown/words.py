"""The documents in plain words: /llms.txt, /robots.txt, the guidance inside /openapi.json, and a small icon."""

from gateway.core.catalogue import Catalogue, Operation
from wellknown.identity import Identity
from wellknown.prices import in_words, notes

GUIDANCE_MAX_CHARS = 4000

ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">'
    '<rect width="16" height="16" rx="3" fill="#14342b"/>'
    '<path d="M3 4v8M13 4v8M3 6.5h4.2M13 9.5H8.8" stroke="#f4d35e" stroke-width="1.8" stroke-linecap="round"/>'
    "</svg>\n"
)


def llms(catalogue: Catalogue, identity: Identity) -> str:
    """/llms.txt: what is sold here, how it is paid, where the rest stands."""
    return "\n".join(
        (
            f"# {_line(identity.name)}",
            "",
            f"> {_line(identity.description)}",
            "",
            *(("sandbox: true", "") if identity.sandbox else ()),
            "## Operations",
            "",
            *(_operation(operation, identity) for operation in catalogue.operations),
            "",
            "## How to pay",
            "",
            *(f"- {sentence}" for sentence in (*_paying(identity), *notes(catalogue, identity))),
            "",
            "## Documents",
            "",
            *(f"- [{title}]({identity.url(path)}): {what}" for title, path, what in _documents(identity)),
            *((f"- [Documentation]({identity.docs_url}): the operator's own pages",) if identity.docs_url else ()),
            "",
        )
    )


def guidance(catalogue: Catalogue, identity: Identity) -> str:
    """`info.x-guidance`: the same in at most 4,000 characters; what does not fit stands in /llms.txt."""
    told = " ".join((*_paying(identity), *notes(catalogue, identity)))
    listed = [f"{o.method} {o.path}: {_line(o.summary)} ({in_words(o)})." for o in catalogue.operations]
    more = f"More: {identity.url('/llms.txt')}"
    text = ""
    for piece in (told, *listed):
        if len(text) + len(piece) + len(more) + 2 > GUIDANCE_MAX_CHARS:
            break
        text += piece + "\n"
    return text + more


def robots(identity: Identity) -> str:
    """/robots.txt: everything may be read; a paid address answers a crawler with its price."""
    return "\n".join(
        (
            *(("# sandbox: true",) if identity.sandbox else ()),
            "User-agent: *",
            "Allow: /",
            f"# What is sold here: {identity.url('/openapi.json')} and {identity.url('/llms.txt')}",
            "",
        )
    )


def _operation(operation: Operation, identity: Identity) -> str:
    where = identity.url(operation.example_url_path)
    return f"- [{operation.method} {operation.path}]({where}): {_line(operation.summary)}; {in_words(operation)}"


def _paying(identity: Identity) -> tuple[str, ...]:
    balance = "From a prepaid balance: send `Authorization: Bearer` and your agent's token with the call."
    if not identity.terms:
        return (balance,)
    networks = ", ".join(f"{terms.token.symbol} on {terms.network}" for terms in identity.terms)
    x402 = (
        "By x402 version 2: call without payment, read the 402's PAYMENT-REQUIRED header, sign one of its offers, "
        f"repeat the call with the PAYMENT-SIGNATURE header, the 402's extensions in it. Accepted: {networks}."
    )
    also = () if identity.anonymous == "all" else ("A payment needs a bearer token beside it.",)
    kept = (
        "An answer of 202 to a call means that the payment is on its way: ask its Location, never pay again.",
        "X-Charge-Id and X-Charge-Token of a paid answer fetch it once more from /api/v1/charges/{charge_id}.",
    )
    return (x402, *also, balance, *kept)


def _documents(identity: Identity) -> tuple[tuple[str, str, str], ...]:
    return (
        ("OpenAPI", "/openapi.json", "every route, schema and error"),
        ("Prices", "/pricing", "what each operation costs, as JSON"),
        ("x402 manifest", "/.well-known/x402", "what can be bought by x402"),
        ("x402 offers", "/.well-known/x402.json", "the same with whole offers"),
        ("Discovery", "/discovery/resources", "the same with filters and pages"),
    )


def _line(text: str) -> str:
    """One line, whatever an operator wrote."""
    return " ".join(text.split())
