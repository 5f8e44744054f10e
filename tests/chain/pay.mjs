// The official TypeScript clients with their defaults, as a customer runs them.
//
//   echo '{"client": "fetch", "url": "http://...", "body": {...}, "key": "0x..."}' | node pay.mjs
//
// `permit2` true makes the client prefer Permit2 by a policy, as its documentation shows; `rpc` is the node it may ask
// whether Permit2 is approved, to sign a permit where it is not. Prints one JSON object:
// {status, body, receipt}, the receipt decoded by the client's own function.

import { readFileSync } from "node:fs";

import { ExactEvmScheme } from "@x402/evm";
import { x402Client as AxiosClient, decodePaymentResponseHeader, wrapAxiosWithPayment } from "@x402/axios";
import { x402Client as FetchClient, wrapFetchWithPayment } from "@x402/fetch";
import axios from "axios";
import { privateKeyToAccount } from "viem/accounts";

const asked = JSON.parse(readFileSync(0, "utf8"));
const byPermit2 = (version, offers) => offers.filter((offer) => offer.extra?.assetTransferMethod === "permit2");

function customer(Client) {
  const client = new Client().register("eip155:*", new ExactEvmScheme(privateKeyToAccount(asked.key), asked.rpc ? { rpcUrl: asked.rpc } : undefined));
  return asked.permit2 ? client.registerPolicy(byPermit2) : client;
}

async function byFetch() {
  const pay = wrapFetchWithPayment(fetch, customer(FetchClient));
  const headers = { "Content-Type": "application/json" };
  const response = await pay(asked.url, { method: "POST", headers, body: JSON.stringify(asked.body) });
  return [response.status, await response.json(), response.headers.get("payment-response")];
}

async function byAxios() {
  const api = wrapAxiosWithPayment(axios.create({ validateStatus: (status) => status !== 402 }), customer(AxiosClient));
  const response = await api.post(asked.url, asked.body);
  return [response.status, response.data, response.headers["payment-response"]];
}

const [status, body, receipt] = await (asked.client === "fetch" ? byFetch() : byAxios());
console.log(JSON.stringify({ status, body, receipt: receipt ? decodePaymentResponseHeader(receipt) : null }));
