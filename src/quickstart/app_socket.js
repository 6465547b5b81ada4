// The app's side: Centrifugo's client protocol in JSON on /connection/websocket, by hand. An app would use an official
// `centrifuge` SDK; this shows that there is no magic in it.
//
// A command is `{id, connect | rpc | ...}`, its reply carries the same id, a push has none. `{}` is a ping, and its
// answer. Several may come in one frame, one per line.

const INBOX = "carillon:inbox";

export class AppSocket {
  #session;
  #handlers;
  #socket;
  #pending = new Map();
  #nextId = 1;
  #attempt = 0;
  #wanted = false;
  #retry;
  #silence;
  #patience = 35_000;
  #epoch;
  #from;

  /** `handlers`: `state(name)`, `change(position, change)`, `gap(reason)`, `log(direction, text)`. */
  constructor(session, handlers) {
    this.#session = session;
    this.#handlers = handlers;
  }

  /** `from` answers the position to recover from, whenever a new connection begins. */
  async connect(from) {
    this.#wanted = true;
    this.#from = from;
    this.#handlers.state("connecting");
    let session;
    try {
      session = await this.#session.get();
    } catch (error) {
      return this.#later(error.message);
    }
    if (!this.#wanted || this.#socket) return undefined;
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/connection/websocket`);
    this.#socket = socket;
    socket.onopen = () => this.#greet(socket, session.app.token);
    socket.onmessage = ({ data }) => {
      this.#heard();
      for (const line of data.split("\n")) if (line) this.#read(JSON.parse(line));
    };
    socket.onclose = ({ code, reason }) => this.#closed(socket, code, reason);
    return undefined;
  }

  disconnect() {
    this.#wanted = false;
    clearTimeout(this.#retry);
    this.#drop();
    this.#handlers.state("cut");
    this.#handlers.log("·", "closed by hand");
  }

  /** rpc `carillon.ack`: the body of `POST /v1/acks`. */
  async acknowledge(acks) {
    const { rpc } = await this.#command({ rpc: { method: "carillon.ack", data: { device: "app", acks } } });
    return rpc?.data;
  }

  async #greet(socket, token) {
    const position = this.#from();
    const subs = position ? { [INBOX]: { recover: true, epoch: position.epoch, offset: position.seq } } : undefined;
    this.#handlers.log("→", `connect${position ? `  recover from ${position.epoch}-${position.seq}` : ""}`);
    try {
      const { connect } = await this.#command({
        connect: { token, name: "quickstart", data: { device: "app", inbox: true }, ...(subs && { subs }) },
      });
      this.#attempt = 0;
      this.#patience = ((connect.ping ?? 25) + 10) * 1000;
      this.#subscribed(connect.subs?.[INBOX]);
      this.#handlers.state("live");
    } catch (error) {
      if (this.#socket !== socket) return;
      this.#handlers.log("←", `error ${error.code ?? ""}  ${error.message}`);
      if (error.code === 109 || error.code === 101) await this.#session.renew().catch(() => {});
      this.#drop();
      this.#later("not let in");
    }
  }

  #subscribed(sub) {
    if (!sub) return this.#handlers.log("·", `${INBOX} was not subscribed`);
    this.#epoch = sub.epoch;
    this.#handlers.log("←", `connected  ${INBOX} at ${sub.epoch}-${sub.offset ?? 0}`);
    if (sub.was_recovering && !sub.recovered) return this.#handlers.gap("not recovered");
    for (const publication of sub.publications ?? []) this.#publication(publication);
    return undefined;
  }

  #read(message) {
    if (message.id) {
      const waiting = this.#pending.get(message.id);
      this.#pending.delete(message.id);
      if (message.error) waiting?.reject(Object.assign(new Error(message.error.message), { code: message.error.code }));
      else waiting?.resolve(message);
      return;
    }
    const push = message.push;
    if (!push) {
      this.#socket?.send("{}"); // A ping wants an answer.
      return;
    }
    if (push.pub && push.channel === INBOX) this.#publication(push.pub);
    if (push.subscribe && push.channel === INBOX) this.#subscribed(push.subscribe);
    if (push.disconnect) this.#handlers.log("←", `disconnect ${push.disconnect.code}  ${push.disconnect.reason}`);
    if (push.unsubscribe && push.channel === INBOX) this.#socket?.close();
  }

  #publication({ offset, data }) {
    this.#handlers.change({ epoch: this.#epoch, seq: offset ?? 0 }, data);
  }

  #command(command) {
    const socket = this.#socket;
    if (socket?.readyState !== WebSocket.OPEN) return Promise.reject(new Error("The app is not connected."));
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      socket.send(JSON.stringify({ id, ...command }));
    });
  }

  /** Any frame shows that the server is there; pings come often enough. */
  #heard() {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#socket?.close(), this.#patience);
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = undefined;
    clearTimeout(this.#silence);
    for (const { reject } of this.#pending.values()) reject(new Error("The connection ended."));
    this.#pending.clear();
    socket?.close();
  }

  async #closed(socket, code, reason) {
    if (this.#socket !== socket) return;
    this.#drop();
    this.#handlers.log("←", `close ${code}  ${reason}`);
    if (code === 3500) await this.#session.renew().catch(() => {});
    else if (code >= 3500 && code < 4000) {
      this.#wanted = false;
      this.#handlers.state("stopped");
      return;
    }
    this.#later();
  }

  #later(why) {
    if (!this.#wanted) return;
    this.#handlers.state("waiting");
    if (why) this.#handlers.log("·", why);
    const delay = Math.min(10_000, 400 * 2 ** this.#attempt++) * (0.7 + 0.6 * Math.random());
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#wanted && this.connect(this.#from), delay);
  }
}
