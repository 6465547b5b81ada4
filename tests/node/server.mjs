// The real executable for tests in Node: started on a free port with a data folder of its own, stopped by process id.
import { spawn, execFile } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { keepLog, secret } from "./secrets.mjs";

const executable = process.env.CARILLON_BIN;
if (!executable) throw new Error("CARILLON_BIN names the executable; tests/run.sh sets it");

// Below the ephemeral range, so that no outgoing connection takes the port in between.
let nextPort = 23100 + (process.pid % 300);

export async function freePort() {
  for (;;) {
    const port = nextPort++;
    const free = await new Promise((resolve) => {
      const probe = createServer();
      probe.once("error", () => resolve(false));
      probe.listen(port, "127.0.0.1", () => probe.close(() => resolve(true)));
    });
    if (free) return port;
  }
}

// Nothing of ours reaches the executable from outside.
const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("CARILLON_")));

export class Server {
  static async start({ args = [], env = {} } = {}) {
    const server = new Server();
    server.data = mkdtempSync(join(tmpdir(), "carillon-node-"));
    server.port = await freePort();
    server.env = { ...clean, ...env };
    server.args = args;
    await server.run();
    return server;
  }

  get address() {
    return `127.0.0.1:${this.port}`;
  }

  get url() {
    return `http://${this.address}`;
  }

  get log() {
    return readFileSync(join(this.data, "server.log"), "utf8");
  }

  async run() {
    const log = openSync(join(this.data, "server.log"), "a");
    this.child = spawn(executable, ["serve", "--data", this.data, "--listen", this.address, ...this.args], {
      env: this.env,
      stdio: ["ignore", log, log],
    });
    closeSync(log);
    this.ended = new Promise((resolve) => this.child.once("exit", (code, signal) => resolve({ code, signal })));
    const deadline = Date.now() + 30_000;
    for (;;) {
      const ready = await fetch(`${this.url}/health/ready`).then((answer) => answer.ok, () => false);
      if (ready) return;
      if (this.child.exitCode !== null || Date.now() > deadline) throw new Error(`the server is not ready:\n${this.log}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async kill(signal = "SIGKILL") {
    this.child.kill(signal);
    return this.ended;
  }

  async command(...args) {
    const { stdout } = await promisify(execFile)(executable, [...args, "--data", this.data], { env: this.env });
    return stdout.trim();
  }

  // The tenant's API key, made by the command line.
  async key() {
    if (!this.apiKey) {
      this.apiKey = await this.command("keys", "create", "--name", "tests");
      secret("crk_", this.apiKey);
    }
    return this.apiKey;
  }

  async post(path, body) {
    const answer = await fetch(this.url + path, {
      method: "POST",
      headers: { authorization: `Bearer ${await this.key()}`, "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${text}`);
    return text ? JSON.parse(text) : null;
  }

  async token(body) {
    const { token } = await this.post("/v1/tokens", body);
    secret("eyJ", token);
    return token;
  }

  async ring(user, title) {
    return (await this.post("/v1/notifications", { targets: [{ user }], content: { title } })).id;
  }

  async stop() {
    if (this.child.exitCode === null && this.child.signalCode === null) await this.kill();
    keepLog(join(this.data, "server.log"));
    rmSync(this.data, { recursive: true, force: true });
  }
}

// Resolves with the first value for which `probe` answers something true.
export async function eventually(what, probe) {
  const deadline = Date.now() + 30_000;
  for (;;) {
    const found = await probe();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`${what}: not within 30 s`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
