"""`faregate init`: a configuration in which everything is explained and nothing is switched on."""

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import terminal

if TYPE_CHECKING:
    from pydantic import BaseModel

HEAD = """\
# The configuration of a Faregate gateway. Everything is optional: a line that begins with "# key =" shows the default,
# or an example where there is none. Check it with `faregate check`.
#
# Secrets belong in the environment: "${NAME}" in any string is the variable NAME.
# FAREGATE_<TABLE>__<KEY>, as FAREGATE_SERVICE__PORT=9000, stands above this file.
"""

NETWORKS = """\
# Chains on which payments are taken; one table for each.
# [[networks]]
# id = "eip155:8453"                          # Base
# rpc_urls = ["${BASE_RPC_URL}"]
# pay_to = "0x..."                            # your address, not the relayer's
# methods = ["eip3009", "permit2"]
# confirmations = 1
# A token other than the network's USDC:
# tokens = [{ address = "0x...", name = "Name", version = "1", decimals = 6 }]
"""

PRICES = """\
# What an operation costs, in USD, in quotes.
[prices]
# "enrich/phone" = "0.330"
# "enrich/person" = "0.500"
# "enrich/lead-session" = "1.500"
# "leads/search" = "1.000"
"""

PROVIDERS = """\
# Whom answers are bought from: README.md, "Buying answers".
[providers]
# whitepages = { key = "${WHITEPAGES_KEY}", cost_per_call = "0.10" }
"""

WATERFALLS = """\
# Who is asked in which order. Left out: the directory, then whoever is configured.
[waterfalls]
# "enrich/phone" = ["local_directory", "whitepages"]
"""

SETTLE = """\
# When the signed payments of an operation are settled: "after" a match, or "before" the work, as a top-up of the
# payer's account, where a miss or a failure leaves the money.
[settle]
# "enrich/person" = "before"
"""

PLUGINS = """\
# What an installed plug-in is told stands in a table with its name, as [plugins.tides]: README.md, "An upstream in
# forty lines".
[plugins]
"""

UPSTREAMS = """\
# Any HTTP API as an operation: README.md, "Selling an HTTP API".
# [[http_upstreams]]
# id = "weather/now"                          # sold at /api/v1/weather/now
# summary = "The weather in a city"
# price = "0.010"
# url = "https://api.example.com/v1/cities/{city}/weather"
# headers = { Authorization = "Bearer ${WEATHER_KEY}" }
# match = { pointer = "/temperature", exists = true }
# input = { city = { type = "string", example = "Springfield" } }
# example_output = { temperature = 21.5 }
"""

OTHERS = {
    "providers": PROVIDERS,
    "waterfalls": WATERFALLS,
    "prices": PRICES,
    "settle": SETTLE,
    "plugins": PLUGINS,
    "http_upstreams": UPSTREAMS,
}

EXAMPLES = {
    ("service", "public_url"): "https://api.example.com",
    ("service", "contact_email"): "you@example.com",
    ("service", "docs_url"): "https://example.com/docs",
    ("service", "index_verification"): "0" * 64,
    ("service", "operator_token"): "${OPERATOR_TOKEN}",
    ("relayer", "key"): "${RELAYER_KEY}",
    ("relayer", "key_file"): "/run/secrets/relayer_key",
    ("facilitator", "url"): "https://facilitator.example.com",
    ("facilitator", "bearer"): "${FACILITATOR_TOKEN}",
    ("facilitator", "jwt_key_id"): "${CDP_API_KEY_ID}",
    ("facilitator", "jwt_secret"): "${CDP_API_KEY_SECRET}",
    ("directory", "path"): "data/directory.db",
    ("llm", "api"): "openai",
    ("llm", "url"): "https://api.example.com/v1",
    ("llm", "model"): "a-model",
    ("llm", "key"): "${LLM_KEY}",
    ("llm", "input_usd"): "0.50",
    ("llm", "output_usd"): "1.50",
    ("deposits", "address"): "0x... (not pay_to)",
    ("deposit_match", "ends_at"): "2027-01-31T00:00:00Z",
}


def init(path: Annotated[Path, typer.Argument(help="The file to write.")] = terminal.DEFAULT_CONFIG) -> None:
    """Write a commented faregate.toml. Never writes over an existing file."""
    text = template()
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        terminal.fail(f"{path} exists already and was left as it is; name another file, or remove it")
    terminal.say(f"{path} written. Next: edit it, then `faregate check`, then `faregate serve`.")


def template() -> str:
    """The file's text, made from the tables of the settings themselves."""
    from gateway.settings.tables import Settings

    parts = [HEAD]
    for name, field in Settings.model_fields.items():
        if name == "networks":
            parts.append(NETWORKS)
        elif isinstance(field.default, tuple | dict) or field.description is not None:
            parts.append(OTHERS[name])
        elif name not in ("source", "changed_s"):
            parts.append("\n".join(_table(name, type(field.default))))
    return "\n".join(parts)


def _table(name: str, model: "type[BaseModel]") -> Iterator[str]:
    yield f"# {(model.__doc__ or '').strip()}"
    yield f"[{name}]"
    for key, field in model.model_fields.items():
        yield f"# {field.description}"
        yield f"# {key} = {toml(EXAMPLES.get((name, key), field.default))}"
    yield ""


def toml(value: Any) -> str:
    """A setting's default as it is written in the file."""
    match value:
        case bool():
            return str(value).lower()
        case tuple():
            return "[" + ", ".join(toml(each) for each in value) + "]"
        case int() | float() | Decimal():
            return str(value)
        case str() | PurePath():
            return json.dumps(str(value))
        case _:
            return '""'
