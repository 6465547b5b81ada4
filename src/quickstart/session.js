// Who this page is, and requests in that name.

/** An answer of the API that is not a success: RFC 9457 problem+json. */
export class Problem extends Error {
  constructor(status, problem) {
    super(problem.detail ?? problem.title ?? `The server answered ${status}.`);
    this.status = status;
    this.code = problem.code;
    this.errors = problem.errors ?? [];
  }
}

/** The development session: an API key to send with, and a token for each of the two devices. */
export class Session {
  #user;
  #current;

  constructor(user) {
    this.#user = user;
  }

  /** The session, fetched once; `renew` fetches it again, for example when a token has expired. */
  get() {
    this.#current ??= this.#fetch();
    return this.#current;
  }

  renew() {
    this.#current = undefined;
    return this.get();
  }

  async #fetch() {
    const query = this.#user ? `?${new URLSearchParams({ user: this.#user })}` : "";
    try {
      const response = await fetch(`/dev/session${query}`, { cache: "no-store" });
      return await read(response);
    } catch (error) {
      this.#current = undefined; // The next caller tries again.
      throw error;
    }
  }

  /** Calls the API as `who`: `key`, `browser` or `app`. A refused credential is renewed once. */
  async request(who, method, path, { body, headers } = {}) {
    const call = async (session) =>
      fetch(path, {
        method,
        cache: "no-store",
        headers: {
          Authorization: `Bearer ${who === "key" ? session.key : session[who].token}`,
          ...(body === undefined ? {} : { "Content-Type": "application/json" }),
          ...headers,
        },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
    let response = await call(await this.get());
    if (response.status === 401) response = await call(await this.renew());
    return read(response);
  }
}

async function read(response) {
  const text = await response.text();
  let value;
  try {
    value = text === "" ? undefined : JSON.parse(text);
  } catch {
    value = undefined;
  }
  if (!response.ok) throw new Problem(response.status, value ?? {});
  return value;
}
