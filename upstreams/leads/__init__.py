"""Lead sessions: `enrich/lead-session` takes a lead as a CRM has it and gives a graph of what is known of it.

    lead.py         free-form keys -> a lead                     query.py     what may be asked, and what may not
    graph.py        sources and statements; merging              prior.py     a graph that a caller sends back
    resolving.py    who is who                                   confidence.py   how sure
    picture.py      what a graph shows of a lead                 report.py    the same, as it is told
    coverage.py     what is missing, and the summary             answers.py   what tools answer -> statements
    planning.py     what to do next, by rules                    choosing.py  or by an LLM, within the same rails
    tools.py        one hop                                      advising.py  the LLM itself
    session.py      the loop: rounds, budget, deadline           leads.py     the operation, as it is sold

What asks anybody is in tools, choosing, advising and session; all the rest is pure.
"""

from upstreams.leads.leads import Leads
from upstreams.leads.settings import LeadSettings
from upstreams.leads.tools import Tool, Tools

__all__ = ["LeadSettings", "Leads", "Tool", "Tools"]
