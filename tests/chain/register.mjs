// A wallet that registers with viem, as a customer writes it: its own reading of the message, its own signature.
//
//   echo '{"url": "http://...", "key": "0x...", "chainId": 84532, "allowance": "10"}' | node register.mjs
//
// Prints one JSON object: {status, body, read}, `read` what viem's parser finds in the message.

import { readFileSync } from "node:fs";

import { privateKeyToAccount } from "viem/accounts";
import { createSiweMessage, parseSiweMessage, validateSiweMessage } from "viem/siwe";

const asked = JSON.parse(readFileSync(0, "utf8"));
const account = privateKeyToAccount(asked.key);
const agents = `${asked.url}/api/v1/agents`;

async function post(route, body) {
  const headers = { "Content-Type": "application/json" };
  const response = await fetch(`${agents}/${route}`, { method: "POST", headers, body: JSON.stringify(body) });
  return { status: response.status, body: await response.json() };
}

const { body: invited } = await post("wallet-nonce", {
  address: account.address, chain_id: asked.chainId, allowance_usd: asked.allowance,
});
const read = parseSiweMessage(invited.siwe_message);
const valid = validateSiweMessage({ message: read, address: account.address, domain: new URL(asked.url).host, nonce: invited.nonce });
const signature = await account.signMessage({ message: invited.siwe_message });
const stated = invited.allowance_intent_message;
const answer = await post("wallet-register", {
  address: account.address,
  nonce: invited.nonce,
  siwe_message: invited.siwe_message,
  siwe_signature: signature,
  ...(stated ? { allowance_intent_signature: await account.signMessage({ message: stated }) } : {}),
  label: "viem",
});
// It writes milliseconds, which nobody has to.
const same = createSiweMessage(read).replaceAll(".000Z", "Z") === invited.siwe_message;
console.log(JSON.stringify({ ...answer, read: { ...read, valid, same } }));
