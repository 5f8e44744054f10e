"""Transfers to the address for deposits, as a node's logs tell them."""

import aiohttp
from eth_account import Account
from rigs.chain import CHAIN_ID, Chain
from rigs.till import NETWORK_HERE

from gateway.settlement.arrivals import ChainArrivals
from gateway.settlement.protocol import Unknown
from gateway.settlement.rpc import Rpc


async def test_a_node_that_has_not_seen_all_of_a_range_is_not_believed(
    chain: Chain, http: aiohttp.ClientSession
) -> None:
    """Nobody looks again at what was searched, so nothing is searched that is not there yet."""
    arrivals = ChainArrivals(
        NETWORK_HERE, Rpc(http, [chain.url], chain_id=CHAIN_ID, timeout_s=2), address=Account.create().address
    )
    last = chain.height + 1
    assert isinstance(await arrivals.between(0, last), Unknown)
    chain.mine()
    assert await arrivals.between(0, last) == []
