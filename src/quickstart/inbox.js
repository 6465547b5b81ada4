// One device's copy of the inbox: what the list said, and every change since. No DOM, no network.

/** `<epoch>-<seq>`, the place of a change in the mailbox log. */
export function parsePosition(text) {
  const at = text?.lastIndexOf("-") ?? -1;
  if (at < 1) return undefined;
  return { epoch: text.slice(0, at), seq: Number(text.slice(at + 1)) };
}

export const formatPosition = ({ epoch, seq }) => `${epoch}-${seq}`;

/** Whether an entry still rings: neither read, nor put away, nor answered by a button. */
export const isOpen = (entry) =>
  !entry.read_at && !entry.archived_at && !entry.snoozed_until && entry.acknowledgement?.kind !== "acted";

export class Inbox {
  position;
  counts = { total: 0, unread: 0, unseen: 0 };
  #entries = new Map();

  /** Takes the answer of `GET /v1/inbox`. */
  load({ data, position, counts }) {
    this.#entries = new Map(data.map((entry) => [entry.id, entry]));
    this.position = parsePosition(position);
    this.counts = counts;
  }

  /**
   * Applies one change. Answers `undefined` when it was seen before, else what it did: `{ kind, entries }`.
   * After a hole the caller reloads: `{ kind: "hole" }`.
   */
  apply(position, change) {
    const here = this.position;
    if (here && position.epoch !== here.epoch) return { kind: "hole", entries: [] };
    if (here && position.seq <= here.seq) return undefined;
    if (here && position.seq > here.seq + 1) return { kind: "hole", entries: [] };
    this.position = position;
    if (change.counts) this.counts = change.counts;
    return { kind: change.type, change: change.change, entries: this.#touch(change) };
  }

  #touch(change) {
    switch (change.type) {
      case "added":
      case "replaced":
        this.#entries.delete(change.entry.id); // A replacement goes to the top again.
        this.#entries.set(change.entry.id, change.entry);
        return [change.entry];
      case "state_changed":
        return change.entries.map(({ id }) => this.#set(id, change)).filter(Boolean);
      case "recalled":
        return this.#remove([change.entry]);
      case "deleted":
        return this.#remove(change.entries);
      default:
        return [];
    }
  }

  #set(id, { change, at, until, acknowledgement }) {
    const entry = this.#entries.get(id);
    if (!entry) return undefined;
    if (acknowledgement) entry.acknowledgement = acknowledgement;
    if (change === "seen") entry.seen_at ??= at;
    if (change === "read") entry.read_at ??= at;
    if (change === "unread") delete entry.read_at;
    if (change === "archived") entry.archived_at ??= at;
    if (change === "snoozed") entry.snoozed_until = until;
    if (change === "unsnoozed") delete entry.snoozed_until;
    return entry;
  }

  #remove(references) {
    return references
      .map(({ id }) => {
        const entry = this.#entries.get(id);
        this.#entries.delete(id);
        return entry;
      })
      .filter(Boolean);
  }

  get(id) {
    return this.#entries.get(id);
  }

  /** Newest first. */
  open() {
    return [...this.#entries.values()].filter(isOpen).sort(newestFirst);
  }

  answered() {
    return [...this.#entries.values()].filter((entry) => !isOpen(entry)).sort(newestFirst);
  }
}

const newestFirst = (a, b) => shownSince(b) - shownSince(a);
// A replacement takes a new notification's time; ids sort by time as well, and break ties.
const shownSince = (entry) => Number.parseInt(entry.notification_id.slice(4, 16), 16) || Date.parse(entry.created_at);
