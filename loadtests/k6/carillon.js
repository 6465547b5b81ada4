// What the scripts share: where the server is, a user's token, publishing.
import http from 'k6/http';

export const base = __ENV.BASE || 'http://127.0.0.1:8080';
export const headers = { Authorization: `Bearer ${__ENV.KEY}`, 'Content-Type': 'application/json' };

export function post(path, body) {
  const answer = http.post(base + path, JSON.stringify(body), { headers });
  if (answer.status >= 300) throw new Error(`${path}: ${answer.status} ${answer.body}`);
  return answer.json();
}

export const token = (user) => post('/v1/tokens', { user, ttl: 3600, topics: { subscribe: ['*'] } }).token;

/** Publishes to a topic what carries its number and the time at which it leaves. */
export const publish = (topic, number) =>
  post(`/v1/topics/${topic}/publish`, { publications: [{ data: { number, sent: Date.now() } }] });

/** Checks numbers that should rise by one; the first may be any. */
export function sequence() {
  let last;
  return (number) => {
    const right = last === undefined || number === last + 1;
    last = number;
    return right;
  };
}
