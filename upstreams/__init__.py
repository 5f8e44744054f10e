"""What we sell. Whatever is in ALL is on sale once it is configured; plug-ins from elsewhere join the same way."""

from upstreams.companies import Companies
from upstreams.http_api import HttpApi
from upstreams.lead_lists import LeadLists
from upstreams.leads import Leads
from upstreams.people import People
from upstreams.support import Support
from upstreams.web import Web

ALL = (People, Companies, LeadLists, Web, Leads, HttpApi, Support)
"""Every upstream that ships with the gateway, in the order of the catalogue."""
