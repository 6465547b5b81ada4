// A mail server that keeps what it is sent: STARTTLS and implicit TLS, sign-in by PLAIN, LOGIN and XOAUTH2, refusals by
// the recipient's name, and DKIM signatures verified against TXT records in files.
//   node sink.mjs PORT TLS_PORT FOLDER
// FOLDER holds certificate.pem and key.pem; messages/ID.json comes about per message, dns/NAME is a TXT record.
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { dkimVerify } from "mailauth/lib/dkim/verify.js";
import { SMTPServer } from "smtp-server";

const [port, tlsPort, folder] = process.argv.slice(2);
for (const name of ["messages", "dns"]) mkdirSync(join(folder, name), { recursive: true });

const refusal = (responseCode, text) => Object.assign(new Error(text), { responseCode });
const atRecipient = {
  unknown: refusal(550, "no such user here"),
  grey: refusal(451, "Greylisted, please come back later"),
  full: refusal(452, "mailbox full"),
  relay: refusal(550, "relay not permitted"),
};
const afterMessage = {
  large: refusal(552, "message too large"),
  busy: refusal(451, "4.3.0 queue file write error"),
  later: refusal(451, "4.7.1 try again later"),
  spam: refusal(554, "rejected as spam"),
};
const localPart = (address) => address.split("@")[0];

// As DNS answers: a list of records, each a list of strings.
async function resolver(name) {
  try {
    return [[readFileSync(join(folder, "dns", name), "utf8")]];
  } catch {
    throw Object.assign(new Error(`no record ${name}`), { code: "ENOTFOUND" });
  }
}

async function keep(raw, session) {
  const { results } = await dkimVerify(raw, { resolver });
  const text = raw.toString("utf8");
  const id = /^message-id: *<([^@]+)@/im.exec(text)?.[1] ?? "none";
  const message = {
    connection: session.id,
    secure: session.secure,
    user: session.user ?? null,
    from: session.envelope.mailFrom.address,
    parameters: session.envelope.mailFrom.args ?? null,
    to: session.envelope.rcptTo.map((recipient) => recipient.address),
    dkim: results.map(({ signingDomain, selector, status, signingHeaders }) => ({
      domain: signingDomain,
      selector,
      result: status.result,
      signed: signingHeaders?.keys ?? null,
    })),
    raw: text,
  };
  const path = join(folder, "messages", `${id}.json`);
  writeFileSync(`${path}.new`, JSON.stringify(message));
  renameSync(`${path}.new`, path);
  return id;
}

function serve(port, secure) {
  const server = new SMTPServer({
    secure,
    key: readFileSync(join(folder, "key.pem")),
    cert: readFileSync(join(folder, "certificate.pem")),
    authMethods: ["PLAIN", "LOGIN", "XOAUTH2"],
    authOptional: true,
    allowInsecureAuth: false,
    size: 1 << 20,
    onAuth({ method, username, password, accessToken }, session, done) {
      const right = method === "XOAUTH2" ? accessToken === "token" : password === "password";
      if (username !== "hub" || !right) return done(refusal(535, "authentication failed"));
      done(null, { user: `${username} by ${method}` });
    },
    onRcptTo({ address }, session, done) {
      done(atRecipient[localPart(address)]);
    },
    onData(stream, session, done) {
      const chunks = [];
      stream.on("data", (chunk) => chunks.push(chunk));
      stream.on("end", () => {
        const refused = afterMessage[localPart(session.envelope.rcptTo[0].address)];
        if (refused) return done(refused);
        keep(Buffer.concat(chunks), session).then((id) => done(null, `OK: queued as ${id}`), done);
      });
    },
  });
  server.on("error", () => {}); // clients that hang up are not its trouble
  return new Promise((resolve) => server.listen(Number(port), "127.0.0.1", resolve));
}

await serve(port, false);
await serve(tlsPort, true);
console.log("ready");
