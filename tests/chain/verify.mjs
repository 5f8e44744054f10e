// What the reference library of Standard Webhooks says of deliveries: a JSON array of {secret, body, headers} comes in,
// an array of true and false goes out.
import { readFileSync } from "node:fs";
import { Webhook } from "standardwebhooks";

function holds({ secret, body, headers }) {
  try {
    new Webhook(secret).verify(body, headers);
    return true;
  } catch {
    return false;
  }
}

process.stdout.write(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map(holds)));
