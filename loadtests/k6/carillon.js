// What the scripts share: where the server is, a user's token, publishing.
import http from 'k6/http';
import { sleep } from 'k6';

export const base = __ENV.BASE || 'http://127.0.0.1:8080';
export const headers = { Authorization: `Bearer ${__ENV.KEY}`, 'Content-Type': 'application/json' };

export function post(path, body) {
  const answer = http.post(base + path, JSON.stringify(body), { headers });
  if (answer.status >= 300) throw new Error(`${path}: ${answer.status} ${answer.body}`);
  return answer.json();
}

export const token = (user) => post('/v1/tokens', { user, ttl: 3600, topics: { subscribe: ['*'] } }).token;

/**
 * Calls `publish(number, due)` by the clock, one after the other: a stall delays what follows, which then counts from when
 * it should have left, and nothing is left out.
 */
export function byTheClock(perSecond, count, publish) {
  const begin = Date.now();
  for (let number = 0; number < count; number += 1) {
    const due = begin + (number * 1000) / perSecond;
    sleep(Math.max(0, due - Date.now()) / 1000);
    publish(number, due);
  }
}

/** Checks numbers that should rise by one from 0. */
export function sequence() {
  let next = 0;
  return (number) => {
    const right = number === next;
    next = number + 1;
    return right;
  };
}
