"""How much of a lead is known, what is missing, and how that is told in words. Pure.

Words are made by template from what the graph says. Values are data: they are escaped, so that no name or title found
somewhere can make a heading, a link or an image of itself.
"""

import re
from typing import Any

from upstreams.directory import phones
from upstreams.leads import confidence
from upstreams.leads.picture import Contact, Picture

Json = Any

_WEIGHTS = {"phone": 0.30, "decision_maker": 0.30, "email": 0.15, "address": 0.15, "registry": 0.10}
_WORTH = {"none": 0.0, "weak": 0.5, "named": 0.6, "good": 1.0, "found": 1.0}
_SIGNS = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~&:@])")
LISTED_MAX = 5


def coverage(picture: Picture) -> dict[str, Json]:
    """{phone, decision_maker, email, address, registry, score}: none, weak or good; of people none, named or found."""
    told: dict[str, Json] = {
        "phone": _level(max((picture.sure[key] for key in picture.phones), default=0.0)),
        "decision_maker": _decider(picture),
        "email": _level(max((picture.sure[key] for key in picture.emails), default=0.0)),
        "address": _level(_address(picture)),
        "registry": "good" if _registered(picture) else "none",
    }
    score = sum(weight * _WORTH[told[name]] for name, weight in _WEIGHTS.items())
    return {**told, "score": round(score, 2)}


def _level(sure: float) -> str:
    return "good" if sure >= confidence.GOOD else "weak" if sure > 0 else "none"


def decider(picture: Picture) -> Contact | None:
    """Whoever decides: the first contact who does, or the person that it is about."""
    for contact in picture.contacts:
        if contact.decides or (picture.person is not None and contact.node.id == picture.person.id):
            return contact
    return None


def _decider(picture: Picture) -> str:
    contact = decider(picture)
    if contact is None:
        return "none"
    return "found" if reachable(picture, contact) else "named"


def reachable(picture: Picture, contact: Contact) -> bool:
    """Whether there is a number of his own that is sure enough."""
    return any(picture.sure["tel:" + number] >= confidence.GOOD for number in contact.phones)


def _address(picture: Picture) -> float:
    sure = [
        edge.confidence
        for edge in picture.edges
        if edge.type == "located_at"
        and picture.nodes[edge.target].place.line1
        and edge.origin in {node.id for node in picture.subjects}
    ]
    return max(sure, default=0.0)


def _registered(picture: Picture) -> bool:
    node = picture.business
    return node is not None and any(s.property == "identifier" for s in node.statements)


def satisfied(picture: Picture) -> bool:
    """Whether there is nothing left that is worth looking for by itself: somebody who decides with a number, an
    address, and, of a firm, a number of its own that two have named."""
    if _decider(picture) != "found" or _address(picture) < confidence.GOOD:
        return False
    if picture.business is None:
        return True
    own = picture.values_of(picture.business, picture.phones)
    return any(confidence.status(picture.graph, value.statements) == "corroborated" for value in own)


# what is missing

_GAPS = {
    "PHONE_MISSING": "No phone number was found",
    "PHONE_WEAK": "No phone number is sure",
    "OWNER_UNKNOWN": "Nobody who decides was found",
    "DECISION_MAKER_PHONE_MISSING": "Whoever decides has no phone number of his own yet",
    "EMAIL_MISSING": "No email address was found",
    "EMAIL_SINGLE_SOURCE": "The email address is known from one source only",
    "ADDRESS_MISSING": "No street address was found",
    "REGISTRY_MISSING": "No entry in a register was found",
    "CONFLICTING_FACTS": "Sources contradict each other, see conflicts",
    "PROMPT_NOT_UNDERSTOOD": "A prompt could not be made into a search; nothing was looked for because of it",
    "TOOL_FAILED": "A source could not be asked, so something may be missing",
    "BUDGET_SPENT": "There is more to look for than the budget allowed",
}


def gap(code: str, about: str | None = None) -> dict[str, Json]:
    return {"code": code, "text": _GAPS[code], **({"about": about} if about else {})}


def gaps(picture: Picture) -> list[dict[str, Json]]:
    """What is missing, most wanted first."""
    covered, found = coverage(picture), []
    if covered["phone"] != "good":
        found.append(gap("PHONE_MISSING" if covered["phone"] == "none" else "PHONE_WEAK"))
    if covered["decision_maker"] == "none":
        found.append(gap("OWNER_UNKNOWN"))
    elif covered["decision_maker"] == "named":
        contact = decider(picture)
        found.append(gap("DECISION_MAKER_PHONE_MISSING", contact.node.id if contact else None))
    if covered["email"] == "none":
        found.append(gap("EMAIL_MISSING"))
    elif all(confidence.status(picture.graph, v.statements) == "single_source" for v in picture.emails.values()):
        found.append(gap("EMAIL_SINGLE_SOURCE"))
    if covered["address"] == "none":
        found.append(gap("ADDRESS_MISSING"))
    if covered["registry"] == "none" and picture.business is not None:
        found.append(gap("REGISTRY_MISSING"))
    if picture.conflicts:
        found.append(gap("CONFLICTING_FACTS"))
    return found


_PROMPTS = {
    "OWNER_UNKNOWN": "Who is the owner?",
    "DECISION_MAKER_PHONE_MISSING": "What is the decision maker's direct phone?",
    "EMAIL_MISSING": "What is the email address?",
    "EMAIL_SINGLE_SOURCE": "Is the email address right?",
    "ADDRESS_MISSING": "What is the street address?",
    "REGISTRY_MISSING": "Who is the registered agent?",
    "PHONE_MISSING": "What is the phone number?",
    "PHONE_WEAK": "Is the phone number right?",
}


def suggested_prompts(found: list[dict[str, Json]]) -> list[str]:
    """What a caller could ask next, from what is missing."""
    return [_PROMPTS[each["code"]] for each in found if each["code"] in _PROMPTS][:LISTED_MAX]


# in words


def escaped(text: str) -> str:
    """A value within Markdown: itself, and nothing else."""
    return _SIGNS.sub(r"\\\1", text).replace("\n", " ")


def summary(picture: Picture) -> str:
    """The graph in a few lines of Markdown."""
    lines = [_headline(picture)]
    own = picture.business or picture.person
    numbers = picture.values_of(own, picture.phones) or list(picture.phones.values())
    for value in numbers[:LISTED_MAX]:
        state = confidence.status(picture.graph, value.statements).replace("_", " ")
        lines.append(f"- Phone: {escaped(phones.national(value.text))} ({state}, {_percent(picture.sure[value.key])})")
    for contact in picture.contacts[:LISTED_MAX]:
        lines.append("- " + _contact_line(contact))
    for value in sorted(picture.emails.values(), key=lambda v: (-picture.sure[v.key], v.key))[:LISTED_MAX]:
        lines.append(f"- Email: {escaped(value.text)} ({_percent(picture.sure[value.key])})")
    for node in picture.places_of(own)[:2]:
        if node.place.line1:
            lines.append(f"- Address: {escaped(node.name)}")
    if picture.conflicts:
        lines.append(f"- Contradictions: {len(picture.conflicts)}")
    missing = [each["text"] for each in gaps(picture)]
    if missing:
        lines.append("- Open: " + "; ".join(missing))
    return "\n".join(lines)


def _headline(picture: Picture) -> str:
    own = picture.business or picture.person
    if own is None:
        return "**Nobody was found**"
    place = next((node.place for node in picture.places_of(own)), None)
    where = ", ".join(filter(None, (place.city, place.state_code))) if place else ""
    return f"**{escaped(own.name)}**" + (f" ({escaped(where)})" if where else "")


def _contact_line(contact: Contact) -> str:
    title = f", {escaped(contact.title)}" if contact.title else ""
    reach = [phones.national(number) for number in contact.phones[:2]] + list(contact.emails[:1])
    told = f": {', '.join(map(escaped, reach))}" if reach else ""
    return f"Contact: {escaped(contact.node.name)}{title}{told} ({_percent(contact.node.confidence)})"


def _percent(sure: float) -> str:
    return f"{round(sure * 100)}%"
