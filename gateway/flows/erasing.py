"""Suppressing and erasing a person, in this order: first nothing new is told, then what was kept is looked for beside
running gateways, then it is taken out in one transaction, and at last its copies in the files go.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gateway.core import answer
from gateway.core.erasure import Identity
from gateway.core.job import ENDED
from gateway.core.lead import LeadKey
from gateway.core.subject import SubjectKey, Suppressed
from gateway.flows.jobs import OnEnd, stop
from gateway.store import erasing, jobs, subjects
from gateway.store.database import Database, Tx
from gateway.store.erasing import Trace
from gateway.store.subjects import Suppression

ROUNDS_MAX = 3


@dataclass(frozen=True, slots=True)
class Entry:
    """One more on the list."""

    suppression: Suppression
    spellings: frozenset[str]


@dataclass(frozen=True, slots=True)
class Erased:
    taken: tuple[Trace, ...]
    stays: tuple[Trace, ...]
    """What nothing may change: notes and labels."""
    under_way: tuple[str, ...]
    """Jobs that were begun and are asked to stop: what they hold goes with their end."""
    leads: int
    """What agents had asked about, by hash."""


async def suppress(db: Database, key: SubjectKey, entries: Sequence[Entry]) -> None:
    """From now on nothing is told about them, neither anew nor from what is kept: of stored results the rest stays."""
    await enter(db, key, entries)
    hides = Suppressed(key, key.digests(spelling for entry in entries for spelling in entry.spellings)).hides
    results, answers = await db.read(erasing.kept_answers)
    left = [(id, less) for id, body in results if (less := answer.without(body, hides, sold=True)) is not None]
    again = [id for id, body in answers if answer.without(body, hides) is not None]

    def take_out(tx: Tx) -> None:
        erasing.rewrite_results(tx, left)
        erasing.forget_answers(tx, again)

    await db.write(take_out)


async def enter(db: Database, key: SubjectKey, entries: Sequence[Entry]) -> None:
    """On the list: nothing new is told about them."""
    hashed = [(entry.suppression, key.digests(entry.spellings)) for entry in entries]

    def write(tx: Tx) -> None:
        for suppression, digests in hashed:
            subjects.suppress(tx, suppression, digests)

    await db.write(write)


async def erase(
    db: Database, identity: Identity, lead_key: LeadKey, leads: Iterable[str], result_ttl_ms: int, told: OnEnd
) -> Erased:
    """Everything of a person who is suppressed already. `leads`: his spellings of core/lead.py."""
    spellings = tuple(leads)
    taken: list[Trace] = []
    under_way: set[str] = set()
    for _ in range(ROUNDS_MAX):  # what was being written when it was looked for
        found = [trace for trace in await db.read(erasing.traces, identity) if not trace.stays]
        open_jobs = {trace.id for trace in found if trace.table == "jobs"} | {
            trace.id.partition(" ")[0] for trace in found if trace.table == "job_hops"
        }
        under_way |= await db.write(_take_out, found, open_jobs, result_ttl_ms, told)
        taken += found
        if not found or open_jobs & under_way:
            break
    every = await db.read(lambda tx: [row[0] for row in tx.execute("SELECT DISTINCT agent_id FROM leads")])
    digests = [(agent_id, lead_key.digest(agent_id, spelling)) for agent_id in every for spelling in spellings]
    forgotten = await db.write(erasing.forget_leads, digests)
    stays = [trace for trace in await db.read(erasing.traces, identity) if trace.stays]
    return Erased(tuple(taken), tuple(stays), tuple(sorted(under_way)), forgotten)


def _take_out(tx: Tx, found: list[Trace], open_jobs: set[str], result_ttl_ms: int, told: OnEnd) -> set[str]:
    """Jobs that ask about him are stopped first; those that run are answered."""
    running: set[str] = set()
    for job_id in sorted(open_jobs):
        job = jobs.find(tx, job_id)
        if job is None or job.state in ENDED:
            continue
        stop(tx, job_id, result_ttl_ms, told)
        again = jobs.find(tx, job_id)
        if again is not None and again.state not in ENDED:
            running.add(job_id)
    erasing.erase(tx, [trace for trace in found if not _held_by(trace, running)])
    return running


def _held_by(trace: Trace, running: set[str]) -> bool:
    return trace.table == "job_hops" and trace.id.partition(" ")[0] in running
