// What the stage `secrets` looks for, and where; see tests/stages/secrets.sh.
import { appendFileSync, copyFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";

const output = process.env.CARILLON_TEST_OUTPUT;
const folder = output && join(output, "secrets");
if (folder) mkdirSync(folder, { recursive: true });
let logs = 0;

export function secret(kind, text) {
  if (folder) appendFileSync(join(folder, `secrets-node-${process.pid}`), `${kind}\t${text}\n`);
}

export function keepLog(path) {
  if (folder) copyFileSync(path, join(folder, `server-node-${process.pid}-${logs++}.log`));
}
