// What third parties' TypeScript says of a running gateway: `node discover.mjs http://127.0.0.1:8402`.
//
// Reads the OpenAPI as agentcash and x402scan do, probes every address of /.well-known/x402 unpaid and without a
// body, and gives each 402 to their validator and to the official SDK's. Prints a JSON array of
// {tool, severity, code, where, message}; nothing but findings, so an empty array is a clean bill. Whatever origin the
// documents name, the one given is asked: nothing here leaves the machine.

import {
  checkEndpointSchema,
  checkL2ForOpenAPI,
  checkL4ForOpenAPI,
  getOpenAPI,
  getWarningsForFavicon,
  getWarningsForL2,
  getWarningsForL3,
  getWarningsForL4,
  getWarningsForOpenAPI,
  validatePaymentRequiredDetailed,
} from "@agentcash/discovery";
import { parsePaymentRequired } from "@x402/core/schemas";
import { validateDiscoveryExtension, validateDiscoveryExtensionSpec } from "@x402/extensions/bazaar";

const origin = process.argv[2];
const findings = [];

function report(tool, where, issues) {
  for (const { severity = "error", code, message } of issues) findings.push({ tool, severity, code, where, message });
}

async function documents() {
  const openapi = (await getOpenAPI(origin)).unwrapOr(null);
  report("agentcash openapi", "/openapi.json", getWarningsForOpenAPI(openapi));
  if (openapi === null || openapi.parseFailure) return;
  report("agentcash routes", "/openapi.json", getWarningsForL2(checkL2ForOpenAPI(openapi)));
  report("agentcash guidance", "/openapi.json", getWarningsForL4(checkL4ForOpenAPI(openapi)));
  report("agentcash favicon", "/", (await getWarningsForFavicon(origin)).unwrapOr([]));
}

async function offer(method, url) {
  const where = `${method} ${url}`;
  const response = await fetch(url, { method });
  const header = response.headers.get("payment-required");
  if (response.status !== 402 || header === null) {
    const message = `status ${response.status}, ${header === null ? "no" : "a"} PAYMENT-REQUIRED header`;
    report("probe", where, [{ code: "NO_OFFER", message }]);
    return;
  }
  const required = JSON.parse(Buffer.from(header, "base64").toString("utf8"));
  const strict = { requireInputSchema: true, requireOutputSchema: true };
  report("agentcash offer", where, validatePaymentRequiredDetailed(required, strict).issues);
  const parsed = parsePaymentRequired(required);
  if (!parsed.success) report("@x402/core", where, [{ code: "SCHEMA", message: parsed.error.message }]);
  const block = required.extensions?.bazaar ?? {};
  for (const check of [validateDiscoveryExtension, validateDiscoveryExtensionSpec]) {
    const verdict = check(block);
    const issues = (verdict.errors ?? []).map((message) => ({ code: check.name, message }));
    report("@x402/extensions", where, verdict.valid ? [] : issues);
  }
}

async function endpoint(method, url) {
  const checked = await checkEndpointSchema({ url, probe: true });
  const advisory = checked.found ? checked.advisories.find((each) => each.method === method) : undefined;
  report("agentcash endpoint", `${method} ${url}`, getWarningsForL3(advisory ?? null));
}

await documents();
const manifest = await (await fetch(`${origin}/.well-known/x402`)).json();
for (const resource of manifest.resources) {
  const [method, listed] = resource.split(" ");
  const url = origin + new URL(listed).pathname;
  await offer(method, url);
  await endpoint(method, url);
}
console.log(JSON.stringify(findings));
