"""What a webhook says, how it is signed, when it comes again, and where it may not go."""

import hashlib
import hmac
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rigs.targets import targets_at
from standardwebhooks import Webhook, WebhookVerificationError

from gateway.core import ids, webhook
from gateway.core.webhook import JobTold

CHAIN = Path(__file__).parents[1] / "chain"
EVENT = ids.new_id("evt_", 1_800_000_000_000, b"0123456789")
OLD, NEW, OTHER = (webhook.new_secret(bytes([n]) * 32) for n in (1, 2, 3))
TOLD = JobTold("ej_1", "shop/find", "completed", True, True, 250_000, "https://api.example.com/api/v1/enrich/jobs/ej_1")
BODY = webhook.job_event(EVENT, webhook.JOB_COMPLETED, 1_800_000_000_000, "agt_1", TOLD)


def test_the_event_as_it_is_written() -> None:
    assert json.loads(BODY) == {
        "event_id": EVENT,
        "event_type": "enrich.job_completed",
        "created_at": "2027-01-15T08:00:00Z",
        "agent_id": "agt_1",
        "data": {
            "job_id": "ej_1",
            "route": "shop/find",
            "status": "completed",
            "matched": True,
            "billed": True,
            "charged_usd": "0.250",
            "result_url": "https://api.example.com/api/v1/enrich/jobs/ej_1",
        },
    }


# F-137


def signed(*secrets: str, body: bytes = BODY, at_s: int | None = None) -> dict[str, str]:
    return webhook.headers(EVENT, body, secrets, int(time.time()) if at_s is None else at_s, "Faregate")


def tampered() -> Iterator[tuple[str, bytes, dict[str, str]]]:
    """What no verifier may let pass: (what was done, body, headers)."""
    good = signed(NEW)
    yield "another body", BODY.replace(b"0.250", b"0.000"), good
    yield "a space more", BODY + b" ", good
    yield "the same in another order", json.dumps(json.loads(BODY), sort_keys=True).encode(), good
    yield "another id", BODY, {**good, "webhook-id": EVENT[:-1] + "z"}
    yield "another time", BODY, {**good, "webhook-timestamp": str(int(good["webhook-timestamp"]) + 1)}
    yield "too old", BODY, signed(NEW, at_s=int(time.time()) - 600)
    yield "from the future", BODY, signed(NEW, at_s=int(time.time()) + 600)
    yield "somebody else's secret", BODY, signed(OTHER)
    yield "no signature", BODY, {**good, "webhook-signature": ""}
    yield "another version", BODY, {**good, "webhook-signature": good["webhook-signature"].replace("v1,", "v2,")}
    flipped = "A" if good["webhook-signature"][5] != "A" else "B"
    yield "a flipped character", BODY, {
        **good, "webhook-signature": good["webhook-signature"][:5] + flipped + good["webhook-signature"][6:]
    }  # fmt: skip


def in_python(secret: str, body: bytes, headers: dict[str, str]) -> bool:
    try:
        Webhook(secret).verify(body, headers)
    except WebhookVerificationError:
        return False
    return True


def in_node(cases: list[tuple[str, bytes, dict[str, str]]]) -> list[bool]:
    asked = json.dumps([{"secret": s, "body": body.decode(), "headers": headers} for s, body, headers in cases])
    run = subprocess.run(
        ["node", "verify.mjs"], cwd=CHAIN, env={"PATH": os.environ["PATH"]}, input=asked, capture_output=True,
        text=True, check=True, timeout=60,
    )  # fmt: skip
    answered: list[bool] = json.loads(run.stdout)
    return answered


def one_by_one(cases: list[tuple[str, bytes, dict[str, str]]]) -> list[bool]:
    return [in_python(*case) for case in cases]


Verifier = Callable[[list[tuple[str, bytes, dict[str, str]]]], list[bool]]


@pytest.fixture(params=["Python", pytest.param("Node", marks=pytest.mark.chain)])
def verify(request: pytest.FixtureRequest) -> Verifier:
    """The reference library of one language."""
    return one_by_one if request.param == "Python" else in_node


def test_f137_the_reference_libraries_take_what_we_sign(verify: Verifier) -> None:
    """One secret; two while one is replaced, and each alone is enough; nothing with a foreign one."""
    both = signed(NEW, OLD)
    cases = [
        (NEW, BODY, signed(NEW)),
        (NEW, BODY, both),
        (OLD, BODY, both),
        (OTHER, BODY, both),
        (OLD, BODY, signed(NEW)),
    ]
    assert verify(cases) == [True, True, True, False, False]
    assert len(both["webhook-signature"].split()) == 2


def test_f137_the_reference_libraries_refuse_what_was_tampered_with(verify: Verifier) -> None:
    cases = list(tampered())
    assert verify([(NEW, body, headers) for _, body, headers in cases]) == [False] * len(cases)


@pytest.mark.parametrize("text", ["Zoë in Köln", "日本", "a.b.c", "\\u0000", '"', "\x7f"])
def test_f137_the_exact_bytes_are_signed_whatever_is_in_them(verify: Verifier, text: str) -> None:
    body = webhook.event(EVENT, "test", 0, None, {"text": text})
    assert verify([(NEW, body, signed(NEW, body=body))]) == [True]


def test_f137_the_id_is_stable_over_tries_and_the_time_is_each_trys_own() -> None:
    first, second = signed(NEW, at_s=1_000), signed(NEW, at_s=1_060)
    assert first["webhook-id"] == second["webhook-id"] == EVENT
    assert (first["webhook-timestamp"], second["webhook-timestamp"]) == ("1000", "1060")
    assert first["webhook-signature"] != second["webhook-signature"]
    assert "." not in EVENT


def test_the_other_style_is_by_the_newest_secrets_text() -> None:
    made = signed(NEW, OLD, at_s=1_800_000_000)
    digest = hmac.new(NEW.encode(), b"1800000000." + BODY, hashlib.sha256).hexdigest()
    assert made["X-Faregate-Signature"] == f"sha256={digest}"
    assert made["X-Faregate-Timestamp"] == made["webhook-timestamp"] == "1800000000"
    assert "X-411data-Signature" in webhook.headers(EVENT, BODY, [NEW], 1, "411data")


def test_without_a_secret_nothing_is_signed() -> None:
    with pytest.raises(ValueError, match="no secret"):
        signed()
    with pytest.raises(ValueError, match="32 bytes"):
        webhook.new_secret(b"short")


# F-141


def test_f141_five_tries_over_hours() -> None:
    assert [webhook.pause_s(n, 5, 0.5) for n in range(1, 6)] == [60, 600, 3_600, 14_400, None]
    assert 5 * 3_600 < sum(webhook.PAUSES_S) < 6 * 3_600
    assert webhook.pause_s(1, 1, 0.5) is None
    assert webhook.pause_s(9, 20, 0.5) == 14_400


@pytest.mark.parametrize("chance", [0.0, 0.25, 0.5, 0.999999])
def test_f141_jitter_stays_within_a_fifth(chance: float) -> None:
    for attempts, pause in enumerate(webhook.PAUSES_S, 1):
        assert pause * 0.8 <= (webhook.pause_s(attempts, 5, chance) or 0) <= pause * 1.2
    assert webhook.pause_s(1, 5, 0.0) != webhook.pause_s(1, 5, 0.999999)


# F-134, F-140


def refused(url: str, **terms: Any) -> str | None:
    return webhook.refuse_callback(url, **{"own_origin": "https://api.example.com", "allow_http": False, **terms})


TAKEN = [
    "https://hooks.example.org", "https://hooks.example.org/a?b=c", "https://hooks.example.org:8443/x", "https://1.1.1.1/",
    "https://[2606:4700:4700::1111]/x", "https://hooks.example.org:80/", "https://api.example.com.evil.example/",
    "https://hooks.example.org/" + "a" * (webhook.CALLBACK_CHARS_MAX - 26),
]  # fmt: skip
NOT_TAKEN = [
    "http://hooks.example.org/", "https://user@hooks.example.org/", "https://user:pass@hooks.example.org/",
    "https://hooks.example.org/#part", "https://hooks.example.org:22/", "https://hooks.example.org:1023/",
    "https://hooks.example.org:6379/", "https://hooks.example.org:0/", "https://hooks.example.org:65536/", "",
    "https://hooks.example.org/" + "a" * (webhook.CALLBACK_CHARS_MAX - 25), "hooks.example.org", "https:///x",
    "https://api.example.com/", "https://API.example.com:8443/x", "https://hooks.example.org/ x", "https://ключ.example/",
    "https://localhost.:8443/", "https://127.0.0.1/", "https://10.0.0.1/", "https://[::1]/", "https://169.254.169.254/",
    "https://localhost/", "https://app.localhost/", "https://db/", "https://metadata.google.internal/", "https://nas.local/",
]  # fmt: skip


@pytest.mark.parametrize("url", TAKEN)
def test_urls_that_may_be_called_back(url: str) -> None:
    assert refused(url) is None


@pytest.mark.parametrize("url", NOT_TAKEN)
def test_f134_f140_urls_that_are_refused_when_they_are_named(url: str) -> None:
    reason = refused(url)
    assert reason is not None
    assert "private = true" not in reason, "customers have no such switch"
    assert not url or url not in reason


def test_http_is_for_the_operator_to_allow() -> None:
    assert refused("http://hooks.example.org/") == "callbacks go by https only"
    assert refused("http://hooks.example.org/", allow_http=True) is None


def test_f140_our_own_address_in_any_port_or_spelling() -> None:
    for own in ("https://api.example.com", "http://api.example.com:8402", "https://API.EXAMPLE.COM"):
        for url in ("https://api.example.com/x", "https://api.example.com:8443/", "http://Api.Example.Com/"):
            assert refused(url, own_origin=own, allow_http=True) == "the url is this service itself"


def test_f134_the_whole_matrix_is_refused_by_its_text() -> None:
    """Names alone are judged when they are resolved: tests/flows/test_webhooks.py."""
    targets = targets_at(8443)
    assert len(targets) >= 150
    assert [url for url in targets if refused(url, allow_http=True) is None] == []
    assert [url for url in targets if refused(url.replace("http:", "https:", 1)) is None] == []
