"""Web research: what pages say about a firm, with the words they say it in.

settings    what an operator may set: WebSettings
question    what may be asked, and the shape of the answer
research    the upstream: the order of the steps
  searching   search engines, asked and read
  fetching    strangers' pages: guarded, robots honoured (robots)
  markup      HTML -> what a visitor sees of it
  extraction  a page -> what it states about the firm, without a model
  llm         a model's reading of the pages
  quotes      whether a quote is true
  findings    how far a statement is believed, and what is a match
"""

from upstreams.web.research import Web
from upstreams.web.settings import WebSettings

__all__ = ["Web", "WebSettings"]
