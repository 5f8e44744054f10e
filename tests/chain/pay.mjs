// The official TypeScript clients with their defaults, as a customer runs them.
//
//   echo '{"client": "fetch", "url": "http://...", "body": {...}, "key": "0x..."}' | node pay.mjs
//
// `permit2` true makes the client prefer Permit2 by a policy, as its documentation shows; `rpc` is the node it may ask
// whether Permit2 is approved, to sign a permit where it is not. Prints one JSON object:
// {status, body, receipt}, the receipt decoded by the client's own function. A 202 with a poll bearer is a job: it is
// asked about by the same client until it has ended, and `ended` is what that answered, of the same form.

import { readFileSync } from "node:fs";

import { ExactEvmScheme } from "@x402/evm";
import { UptoEvmScheme } from "@x402/evm/upto/client";
import { x402Client as AxiosClient, decodePaymentResponseHeader, wrapAxiosWithPayment } from "@x402/axios";
import { x402Client as FetchClient, wrapFetchWithPayment } from "@x402/fetch";
import axios from "axios";
import { privateKeyToAccount } from "viem/accounts";

const asked = JSON.parse(readFileSync(0, "utf8"));
const byPermit2 = (version, offers) => offers.filter((offer) => offer.extra?.assetTransferMethod === "permit2");

function customer(Client) {
  const account = privateKeyToAccount(asked.key);
  const client = new Client()
    .register("eip155:*", new ExactEvmScheme(account, asked.rpc ? { rpcUrl: asked.rpc } : undefined))
    .register("eip155:*", new UptoEvmScheme(account));
  return asked.permit2 ? client.registerPolicy(byPermit2) : client;
}

function byFetch() {
  const pay = wrapFetchWithPayment(fetch, customer(FetchClient));
  return async (url, method, headers, body) => {
    const response = await pay(url, { method, headers, body: body && JSON.stringify(body) });
    return told(response.status, await response.json(), response.headers.get("payment-response"));
  };
}

function byAxios() {
  const api = wrapAxiosWithPayment(axios.create({ validateStatus: (status) => status !== 402 }), customer(AxiosClient));
  return async (url, method, headers, data) => {
    const response = await api.request({ url, method, headers, data });
    return told(response.status, response.data, response.headers["payment-response"]);
  };
}

const told = (status, body, receipt) => ({ status, body, receipt: receipt ? decodePaymentResponseHeader(receipt) : null });

async function ended({ poll_url, poll_bearer }) {
  for (;;) {
    const poll = await call(new URL(`${poll_url}?wait=5`, asked.url).href, "GET", { Authorization: `Bearer ${poll_bearer}` });
    if (poll.status !== 200 || !["queued", "running"].includes(poll.body.status)) return poll;
  }
}

const call = asked.client === "fetch" ? byFetch() : byAxios();
const answer = await call(asked.url, "POST", { "Content-Type": "application/json" }, asked.body);
if (answer.status === 202 && answer.body.poll_bearer) answer.ended = await ended(answer.body);
console.log(JSON.stringify(answer));
