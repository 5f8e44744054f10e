"""What third parties say of a running gateway: their tools, unchanged, as functions (origin) -> findings.

    conformance     x402-conformance's check_402, on every listed address
    lint            x402lint's rules, on every listed address
    sdk             the official Python SDK: its parser, its bazaar validators, its discovery client
    agentcash       @agentcash/discovery and the official TypeScript SDK, by tests/chain/discover.mjs
    schemathesis    requests made up from /openapi.json; looks for server errors and undocumented answers
    vectors         the Bazaar's filter-honesty vectors V0 to V7
    dead_links      every address of ours that any document names
    drift           every number of every document beside the live 402's

The addresses come from /.well-known/x402, as a crawler would find them, and are asked unpaid and without a body.
Whatever origin they name, the one under test is asked: nothing here leaves the machine.
"""

import base64
import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from x402.extensions.bazaar.facilitator import validate_discovery_extension, validate_discovery_extension_spec
from x402.extensions.bazaar.facilitator_client import _parse_list_response
from x402.schemas import PaymentRequired
from x402conf.harness import check_402

from gateway.core.money import format_usd

SCHEMATHESIS_CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)
NODE = Path(__file__).parents[1] / "chain"
"""Where Node's packages are installed, by scripts/setup."""


@dataclass(frozen=True)
class Finding:
    tool: str
    severity: str
    """error, warn or info"""
    where: str
    message: str


@dataclass(frozen=True)
class Probe:
    """One unpaid answer."""

    method: str
    url: str
    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def where(self) -> str:
        return f"{self.method} {self.url}"

    @property
    def required(self) -> dict[str, Any]:
        decoded: dict[str, Any] = json.loads(base64.b64decode(self.headers["payment-required"], validate=True))
        return decoded


def probes(origin: str) -> list[Probe]:
    """Every address of /.well-known/x402, asked without payment and without a body."""
    with httpx.Client() as client:
        listed = [each.split(" ", 1) for each in client.get(f"{origin}/.well-known/x402").json()["resources"]]
        return [_probe(client, method, here(origin, url)) for method, url in listed]


def here(origin: str, url: str) -> str:
    """The same path at the origin under test."""
    return origin + urlsplit(url).path


def _probe(client: httpx.Client, method: str, url: str) -> Probe:
    response = client.request(method, url)
    return Probe(method, url, response.status_code, dict(response.headers), response.content)


def conformance(origin: str) -> list[Finding]:
    found = []
    for probe in probes(origin):
        for check in check_402({"status": probe.status, "headers": probe.headers, "body": probe.body}):
            if not check["pass"]:
                found.append(
                    Finding("x402-conformance", check["severity"], probe.where, f"{check['check']}: {check['detail']}")
                )
    return found


def dead_links(origin: str) -> list[Finding]:
    """Crawls from the documents that everybody knows to all that they name: whatever is listed answers (F-168)."""
    known = ["/openapi.json", "/llms.txt", "/robots.txt", "/.well-known/x402", "/.well-known/x402.json", "/pricing"]
    waiting, seen, found = [origin + path for path in known], set[str](), []
    with httpx.Client() as client:
        public = client.get(f"{origin}/openapi.json").json()["servers"][0]["url"]
        while waiting:
            url = waiting.pop()
            if url in seen:
                continue
            seen.add(url)
            response = client.get(url)
            if response.status_code not in (200, 402):
                found.append(Finding("dead_links", "error", url, f"status {response.status_code}"))
            elif response.status_code == 200 and "svg" not in response.headers["content-type"]:
                named = re.findall(re.escape(public) + r"/[^\s\"')>,]*[^\s\"')>,.:]", response.text)
                waiting += [here(origin, each) for each in named]
    return found


def drift(origin: str) -> list[Finding]:
    """What the documents say of price, payee, token, network, time and schema, against the live 402 (F-168)."""
    paths = ("/.well-known/x402", "/.well-known/x402.json", "/discovery/resources", "/openapi.json", "/pricing")
    with httpx.Client(base_url=origin) as client:
        manifest, items, listed, openapi, pricing = (client.get(path).json() for path in paths)
    live = probes(origin)
    found = [
        Finding("drift", "error", path, f"lists {len(rows)} operations, {len(live)} are for sale")
        for path, rows in zip(paths[1:], (items["items"], listed["items"], None, pricing["operations"]), strict=True)
        if rows is not None and len(rows) != len(live)
    ]
    for index, probe in enumerate(live):
        views = {
            **_offers_agree(probe, items["items"][index], listed["items"][index]),
            **_prices_agree(probe, manifest["resources"][index], manifest["prices"][index], openapi, pricing),
        }
        found += [Finding("drift", "error", probe.where, view) for view, agrees in views.items() if not agrees]
    return found


def _offers_agree(probe: Probe, item: dict[str, Any], listed: dict[str, Any]) -> dict[str, bool]:
    required = probe.required
    return {
        "body of the 402": all(json.loads(probe.body)[name] == required[name] for name in ("accepts", "extensions")),
        "x402.json offers": item["accepts"] == required["accepts"],
        "x402.json resource": item["resource"] == required["resource"],
        "/discovery offers": listed["accepts"] == required["accepts"],
        "/discovery extensions": listed["extensions"] == lasting(required["extensions"]),
        "/discovery address": listed["resource"] == required["resource"]["url"],
    }


def lasting(extensions: dict[str, Any]) -> dict[str, Any]:
    """A live 402's extensions without what it has alone. It must have that, and documents must not."""
    assert "repeat-key" in extensions
    return {name: block for name, block in extensions.items() if name != "repeat-key"}


def _prices_agree(
    probe: Probe, address: str, price: dict[str, Any], openapi: dict[str, Any], pricing: dict[str, Any]
) -> dict[str, bool]:
    required = probe.required
    block = required["extensions"]["bazaar"]
    path = re.sub(r":(\w+)", r"{\1}", block.get("routeTemplate", urlsplit(probe.url).path))
    described = openapi["paths"][path][probe.method.lower()]
    prices = {(each["method"], each["path"]): each["price"] for each in pricing["operations"]}
    priced = prices[probe.method, path]
    return {
        "x402 address": address == f"{probe.method} {required['resource']['url']}",
        "x402 price": price["price_usd"] == _base_price(priced),
        "openapi price": described["x-payment-info"]["price"] == priced,
        "openapi request": _same_request(described, block),
        "amounts": {_usd(offer) for offer in required["accepts"] if offer["scheme"] == "exact"}
        <= {_base_price(priced)},
        "ceilings": all(
            "max" in priced and Decimal(_base_price(priced)) <= Decimal(_usd(offer)) <= Decimal(priced["max"])
            for offer in required["accepts"]
            if offer["scheme"] == "upto"
        ),
        "something to pay by": bool(required["accepts"]),
    }


def _base_price(price: dict[str, str]) -> str:
    return price["amount"] if price["mode"] == "fixed" else price["min"]


def _usd(accepted: dict[str, Any]) -> str:
    """Every token that these gateways take has six decimals."""
    return format_usd(int(accepted["amount"]))


def _same_request(described: dict[str, Any], block: dict[str, Any]) -> bool:
    schemas = block["schema"]["properties"]["input"]["properties"]
    if "body" in schemas:
        told = described["requestBody"]["content"]["application/json"]["schema"]
        return bool(told["properties"].keys() == schemas["body"]["properties"].keys())
    names = {each["name"] for each in described["parameters"] if each.get("in") == "query"}
    return names == set(schemas.get("queryParams", {}).get("properties", ()))


def lint_is_installed() -> bool:
    return importlib.util.find_spec("x402lint") is not None


def lint(origin: str) -> list[Finding]:
    rules = importlib.import_module("x402lint.protocol")
    levels = {"FAIL": "error", "WARN": "warn"}
    return [
        Finding("x402lint", levels[check.level], probe.where, f"{check.id}: {check.message}")
        for probe in probes(origin)
        for check in rules.lint_response(probe.url, probe.status, probe.headers, probe.body).checks
        if check.level in levels
    ]


def sdk(origin: str) -> list[Finding]:
    found = []
    for probe in probes(origin):
        offered = PaymentRequired.model_validate(probe.required)
        if not offered.accepts:
            found.append(Finding("x402 sdk", "error", probe.where, "nothing to accept"))
        block = probe.required.get("extensions", {}).get("bazaar", {})
        for verdict in (validate_discovery_extension(block), validate_discovery_extension_spec(block)):
            found += [Finding("x402 sdk bazaar", "error", probe.where, message) for message in verdict.errors]
    listing = _parse_list_response(httpx.get(f"{origin}/discovery/resources").json())
    if {here(origin, item.resource) for item in listing.items} != {probe.url for probe in probes(origin)}:
        found.append(Finding("x402 sdk", "error", "/discovery/resources", "lists other addresses than the manifest"))
    return found


def node_is_ready() -> bool:
    return (NODE / "node_modules" / "@agentcash" / "discovery").exists()


def agentcash(origin: str) -> list[Finding]:
    command = ["node", str(NODE / "discover.mjs"), origin]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=NODE)
    if run.returncode != 0:
        raise RuntimeError(f"discover.mjs failed: {run.stderr}")
    return [
        Finding(each["tool"], each["severity"], each["where"], f"{each['code']}: {each['message']}")
        for each in json.loads(run.stdout)
    ]


def schemathesis(origin: str, *, examples_max: int = 5, seed: int = 1) -> list[Finding]:
    """Made-up requests, unpaid. What they may be answered with is the contract's business, not theirs: whether data
    is accepted cannot be seen before it is paid for."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{origin}/openapi.json", "--url", origin]
    command += [
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
    ]
    command += ["--phases", "examples,coverage,fuzzing", "--max-examples", str(examples_max), "--seed", str(seed)]
    command += ["--no-color", "--generation-deterministic", "--continue-on-failure"]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "", "COLUMNS": "200"}
    with tempfile.TemporaryDirectory() as scratch:
        run = subprocess.run(
            command, capture_output=True, text=True, timeout=300, check=False, env=environment, cwd=scratch
        )
    if run.returncode == 0:
        return []
    return [Finding("schemathesis", "error", origin, run.stdout[-6000:] + run.stderr[-2000:])]


def vectors(origin: str) -> list[Finding]:
    """V0 to V6 over HTTP; V7 where one network is offered by some but not by all."""
    with httpx.Client(base_url=origin) as client:
        baseline = client.get("/discovery/resources", params={"limit": "50"}).json()["items"]
        return [Finding("vectors", "error", vector, message) for vector, message in _vectors(client, baseline)]


_HOLDS: dict[str, Callable[[dict[str, Any], str], bool]] = {
    "type": lambda item, value: item["type"] == value,
    "payTo": lambda item, value: any(a["payTo"].lower() == value.lower() for a in item["accepts"]),
    "scheme": lambda item, value: any(a["scheme"] == value for a in item["accepts"]),
    "network": lambda item, value: any(a["network"] == value for a in item["accepts"]),
    "extensions": lambda item, value: value in item.get("extensions", {}),
}


def _vectors(client: httpx.Client, baseline: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    if not baseline:
        yield "V0", "nothing is listed"
    asked = [
        ("V1", "type", "mcp", True),
        ("V2", "payTo", "0x0000000000000000000000000000000000000001", True),
        ("V3", "scheme", "batch-settlement", True),
        ("V4", "network", "eip155:999999999", True),
        ("V5", "extensions", "payment-identifier", True),
        ("V6", "network", "!!!", False),
    ]
    networks = [{accepted["network"] for accepted in item["accepts"]} for item in baseline]
    for network in sorted(set().union(*networks)):
        if not all(network in each for each in networks):
            asked.append(("V7", "network", network, True))
    for vector, name, value, well_formed in asked:
        response = client.get("/discovery/resources", params={name: value})
        message = _dishonest(response, name, value, well_formed)
        if message is not None:
            yield vector, message


def _dishonest(response: httpx.Response, name: str, value: str, well_formed: bool) -> str | None:
    page = response.json()
    if response.status_code == 400 and not well_formed:
        return None if isinstance(page.get("error"), str) and page["error"] else "400 without a string `error`"
    if response.status_code != 200:
        return f"status {response.status_code}"
    if name in page.get("unappliedFilters", ()):
        return None
    if not all(_HOLDS[name](item, value) for item in page["items"]):
        return "an item that the filter excludes"
    return "a total above an empty page" if not page["items"] and page["pagination"]["total"] else None
