// Receives webhooks and answers 200 with what it verified, or 401. Prints its port.
import { createPublicKey, verify } from "node:crypto";
import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const key = process.env.WEBHOOK_KEY;

// The package knows HMAC only; Ed25519 is checked with Node's own.
function verifyEd25519(body, headers) {
  const publicKey = createPublicKey({
    key: { kty: "OKP", crv: "Ed25519", x: Buffer.from(key.slice("whpk_".length), "base64").toString("base64url") },
    format: "jwk",
  });
  const signed = Buffer.from(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`);
  const fits = headers["webhook-signature"].split(" ").some((one) => {
    const [version, signature] = one.split(",");
    return version === "v1a" && verify(null, signed, publicKey, Buffer.from(signature, "base64"));
  });
  if (!fits) throw new Error("no matching signature");
}

createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks).toString();
  try {
    if (key.startsWith("whpk_")) verifyEd25519(body, request.headers);
    else new Webhook(key).verify(body, request.headers);
    response.writeHead(200).end(`${request.headers["webhook-id"]} ${Buffer.byteLength(body)}`);
  } catch (error) {
    response.writeHead(401).end(error.message);
  }
}).listen(0, "127.0.0.1", function () {
  console.log(this.address().port);
});
