// Reads cargo's JSON messages and prints `kind<TAB>package folder<TAB>executable` for what the stages run: `carillon`
// (the program), `product` (the tests of the whole), `mail` (those that need mail servers) and `unit` (every other test
// executable).
import { readFileSync } from "node:fs";
import { dirname } from "node:path";

for (const line of readFileSync(process.argv[2], "utf8").split("\n")) {
  if (!line.startsWith("{")) continue;
  const message = JSON.parse(line);
  if (message.reason !== "compiler-artifact" || !message.executable) continue;
  const { name, kind } = message.target;
  const isProgram = kind.includes("bin") && !message.profile.test;
  if (!isProgram && !message.profile.test) continue; // an example or a benchmark: built, not run
  const label = isProgram || ["product", "mail"].includes(name) ? name : "unit";
  console.log([label, dirname(message.manifest_path), message.executable].join("\t"));
}
