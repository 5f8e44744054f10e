"""The operation's example, and what the demo's directory answers to it, but for times."""

from typing import Any

EXAMPLE: dict[str, Any] = {"lead": {"dm_name": "Dana Q Sample", "city": "Seattle", "state": "WA", "contact_id": "4711"}}
FOUND: dict[str, Any] = {
    "schema": "lead_enrichment_v1",
    "session_id": "ls_example",
    "chat_session_id": "cs_example",
    "mode": "auto",
    "input": {
        "subject_kind": "person",
        "external_id": "4711",
        "mapped": {
            "company": None,
            "other_names": [],
            "contact": "Dana Q Sample",
            "title": None,
            "phones": [],
            "emails": [],
            "address": {
                "line1": None,
                "line2": None,
                "city": "Seattle",
                "state_code": "WA",
                "zip": None,
                "country": "US",
            },
            "mailing_address": None,
            "domain": None,
        },
        "ignored_keys": [],
        "warnings": [],
    },
    "backfill": {
        "entities": [
            {
                "id": "ent_c000b1489e70e0c8",
                "type": "person",
                "name": "Dana Q Sample",
                "names": [],
                "confidence": 0.904,
                "from_input": True,
                "sources": ["s_09f606bd8087bd43", "s_60a9d4084087e396"],
            },
            {
                "id": "ent_40c4e1233e2c9e55",
                "type": "place",
                "address": {
                    "line1": "12 Example Ave",
                    "line2": None,
                    "city": "Seattle",
                    "state_code": "WA",
                    "zip": "98101",
                    "country": "US",
                },
                "confidence": 0.68,
                "from_input": False,
                "sources": ["s_60a9d4084087e396"],
            },
        ],
        "contacts": [
            {
                "id": "con_3376e6fa2f190d2f",
                "entity_id": "ent_c000b1489e70e0c8",
                "name": "Dana Q Sample",
                "title": None,
                "roles": ["subject"],
                "phones": ["ph_062c9496d5c117ee"],
                "emails": ["em_bc878aa8e4c8c45c"],
                "confidence": 0.904,
                "rank": 1,
            }
        ],
        "phones": [
            {
                "id": "ph_062c9496d5c117ee",
                "e164": "+12065550100",
                "national": "(206) 555-0100",
                "line_type": "fixed_or_mobile",
                "owner_entity_id": "ent_c000b1489e70e0c8",
                "label": "direct",
                "confidence": 0.807,
                "from_input": False,
                "is_new": True,
                "status": "single_source",
                "sources": ["s_60a9d4084087e396"],
            }
        ],
        "emails": [
            {
                "id": "em_bc878aa8e4c8c45c",
                "email": "dana@example.com",
                "owner_entity_id": "ent_c000b1489e70e0c8",
                "confidence": 0.595,
                "from_input": False,
                "is_new": True,
                "status": "single_source",
                "sources": ["s_60a9d4084087e396"],
            }
        ],
        "edges": [
            {
                "id": "e_44f29bba0e212eb0",
                "from": "ent_c000b1489e70e0c8",
                "to": "em_bc878aa8e4c8c45c",
                "type": "has_email",
                "attrs": {},
                "confidence": 0.595,
                "sources": ["s_60a9d4084087e396"],
            },
            {
                "id": "e_53cc1b36383e44a1",
                "from": "ent_c000b1489e70e0c8",
                "to": "ph_062c9496d5c117ee",
                "type": "has_phone",
                "attrs": {},
                "confidence": 0.807,
                "sources": ["s_60a9d4084087e396"],
            },
            {
                "id": "e_31870067d54e01bf",
                "from": "ent_c000b1489e70e0c8",
                "to": "ent_40c4e1233e2c9e55",
                "type": "located_at",
                "attrs": {},
                "confidence": 0.68,
                "sources": ["s_60a9d4084087e396"],
            },
        ],
        "conflicts": [],
        "sources": [
            {"id": "s_09f606bd8087bd43", "kind": "input", "provider": "caller", "retrieved_at": "2026-01-01T00:00:00Z"},
            {
                "id": "s_60a9d4084087e396",
                "kind": "directory",
                "provider": "local_directory",
                "retrieved_at": "2026-01-01T00:00:00Z",
                "tool": "directory_lookup",
                "round": 1,
                "cache_hit": False,
                "record_ref": "demo_synthetic#2",
            },
        ],
        "summary_markdown": "**Dana Q Sample** (Seattle, WA)\n"
        "- Phone: \\(206\\) 555\\-0100 (single source, 81%)\n"
        "- Contact: Dana Q Sample: \\(206\\) 555\\-0100, dana\\@example\\.com (90%)\n"
        "- Email: dana\\@example\\.com (60%)\n"
        "- Address: 12 Example Ave, Seattle, WA 98101\n"
        "- Open: The email address is known from one source only",
    },
    "found": {"phones": 1, "emails": 1, "addresses": 1},
    "coverage": {
        "phone": "good",
        "decision_maker": "found",
        "email": "weak",
        "address": "good",
        "registry": "none",
        "score": 0.82,
    },
    "gaps": [{"code": "EMAIL_SINGLE_SOURCE", "text": "The email address is known from one source only"}],
    "dig_deeper": None,
    "suggested_user_prompts": None,
    "session": {
        "planner": "rules",
        "rounds_used": 0,
        "max_rounds": 5,
        "stop_reason": "coverage_satisfied",
        "budget_usd": "2.000",
        "budget_usd_effective": "2.000",
        "projected_charge_usd": "1.500",
        "elapsed_ms": 4,
        "hops": [
            {
                "n": 1,
                "tool": "directory_lookup",
                "provider": "local_directory",
                "why": "our own records are looked up first",
                "status": "merged",
                "cache_hit": False,
                "added": {"phones": 1, "emails": 1},
                "ms": 1,
            }
        ],
    },
}
