"""Where the ledger has a person: what is found, what the audit says of it."""

import base64

import orjson
import pytest
from rigs.books import agent, charge, work
from rigs.person import CANARY

from gateway.core import subject
from gateway.core.charge import Event
from gateway.core.erasure import Identity
from gateway.core.vendor_call import Outcome, VendorCall, kept
from gateway.store import answers, charges, erasing, subjects
from gateway.store.audit import audit
from gateway.store.sqlite import SqliteDatabase

SHE = Identity(
    phones=frozenset({"phone:12065550142"}),
    emails=frozenset({subject.of_email(CANARY.email)}),
    names=subject.names_of(CANARY.name),
    places=subject.places_to_suppress("Seattle", "WA", "98101"),
    states=frozenset({"wa"}),
)


@pytest.mark.parametrize(
    "body", [orjson.dumps({"results": [CANARY.vendor]}), b"<p>Zephyrine Quillwort</p>", b"call 206-555-0142", b"\xff@"]
)
def test_a_vendors_raw_answer_is_looked_into(body):
    """A job's journal keeps it in base64."""
    call = VendorCall("hop", "whitepages", Outcome.MATCH)
    answer = {"status": 200, "headers": {}, "body": base64.b64encode(body).decode()}
    hop = orjson.dumps(kept(call, "chg_1", answer=answer))
    assert not SHE.is_told_by(hop)
    assert SHE.is_told_by(erasing.readable("job_hops", hop)) is (body != b"\xff@")
    assert not SHE.is_told_by(erasing.readable("job_hops", orjson.dumps(kept(call, "chg_1", answer=None))))


@pytest.mark.parametrize("event", [Event.FAILED, Event.MISSED])
async def test_the_audit_finds_an_answer_to_be_given_again_that_nobody_has_paid_for(db: SqliteDatabase, event: Event):
    await _ended(db, event)
    assert await db.read(audit) == []
    await db.write(answers.keep, b"q" * 16, "chg_1", b"{}", 1_000)
    (finding,) = await db.read(audit)
    assert (finding.rule, finding.subject) == ("result", "chg_1")
    await db.write(lambda tx: tx.execute("DELETE FROM answers"))


async def test_the_audit_finds_somebody_told_of_a_call_that_failed(db: SqliteDatabase):
    await _ended(db, Event.FAILED)
    await db.write(subjects.note_access, "chg_1", 1, 7, (b"d" * 16,))
    (finding,) = await db.read(audit)
    assert (finding.rule, finding.subject) == ("access", "chg_1")
    await db.write(lambda tx: tx.execute("DELETE FROM accesses"))


async def test_the_audit_finds_an_entry_by_which_nobody_is_known(db: SqliteDatabase):
    entry = subjects.Suppression("sup_1", subject.Kind.PHONE, "...42", "", 7, 0)
    await db.write(subjects.suppress, entry, [])
    (finding,) = await db.read(audit)
    assert (finding.rule, finding.subject) == ("subject", "sup_1")
    await db.write(subjects.unsuppress, "sup_1")


async def _ended(db: SqliteDatabase, event: Event) -> None:
    party = await agent(db, "one", own=1_000_000)
    held = await db.write(charges.hold, charge("chg_1", party, 1_000), work(party), None, None)
    assert isinstance(held, charges.Held)
    await db.write(charges.record, "chg_1", event)
