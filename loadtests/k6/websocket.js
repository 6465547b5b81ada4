// Subscribers over the WebSocket and one publisher by the clock. Every publication comes once and in order.
import { WebSocket } from 'k6/experimental/websockets';
import { check } from 'k6';
import { Counter, Trend } from 'k6/metrics';
import { base, byTheClock, post, sequence, token } from './carillon.js';

const VUS = Number(__ENV.VUS || 100);
const SECONDS = Number(__ENV.SECONDS || 10);
const RATE = Number(__ENV.RATE || 10);
const TOPIC = 'live.k6';
const latency = new Trend('publication_latency', true);
const publications = new Counter('publications');

export const options = {
  scenarios: {
    subscribers: { executor: 'per-vu-iterations', vus: VUS, iterations: 1, maxDuration: `${SECONDS + 20}s`, exec: 'subscribe' },
    publisher: {
      executor: 'per-vu-iterations',
      vus: 1,
      iterations: 1,
      startTime: '3s',
      maxDuration: `${SECONDS + 20}s`,
      exec: 'publisher',
    },
  },
  thresholds: {
    checks: ['rate==1'],
    publication_latency: ['p(99)<500'],
    // All are subscribed when the first one is published.
    publications: [`count==${VUS * RATE * SECONDS}`],
  },
};

export const setup = () => ({ token: token('ada') });

export function subscribe(data) {
  const socket = new WebSocket(`${base.replace('http', 'ws')}/connection/websocket`);
  const follows = sequence();
  socket.onopen = () => socket.send(JSON.stringify({ id: 1, connect: { token: data.token } }));
  socket.onmessage = (message) => {
    for (const line of message.data.split('\n').filter(Boolean)) {
      const reply = JSON.parse(line);
      if (line === '{}') socket.send('{}');
      else if (reply.id === 1) socket.send(JSON.stringify({ id: 2, subscribe: { channel: TOPIC } }));
      else if (reply.id === 2) {
        check(reply, { subscribed: (r) => !r.error });
        setTimeout(() => socket.close(), (SECONDS + 5) * 1000);
      } else if (reply.push && reply.push.pub) {
        const { number, sent } = reply.push.pub.data;
        latency.add(Date.now() - sent);
        publications.add(1);
        check(number, { 'once and in order': follows });
      }
    }
  };
}

export function publisher() {
  byTheClock(RATE, RATE * SECONDS, (number, sent) =>
    post(`/v1/topics/${TOPIC}/publish`, { publications: [{ data: { number, sent } }] }),
  );
}
