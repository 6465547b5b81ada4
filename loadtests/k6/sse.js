// The same as websocket.js on event streams. k6 itself has no client for them: this needs the module k6/x/sse.
import sse from 'k6/x/sse';
import { check } from 'k6';
import { Counter, Trend } from 'k6/metrics';
import exec from 'k6/execution';
import { base, publish, sequence, token } from './carillon.js';

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
      executor: 'constant-arrival-rate',
      rate: RATE,
      timeUnit: '1s',
      duration: `${SECONDS}s`,
      startTime: '3s',
      preAllocatedVUs: 1,
      maxVUs: 1,
      exec: 'publisher',
    },
  },
  thresholds: { checks: ['rate==1'], publication_latency: ['p(99)<500'], publications: ['count>0'] },
};

export const setup = () => ({ token: token('ada') });

export function subscribe(data) {
  const follows = sequence();
  const headers = { Authorization: `Bearer ${data.token}` };
  const answer = sse.open(`${base}/v1/stream?inbox=false&topic=${TOPIC}`, { headers }, (client) => {
    client.on('event', (event) => {
      if (event.name !== 'publication') return;
      const { number, sent } = JSON.parse(event.data).data;
      latency.add(Date.now() - sent);
      publications.add(1);
      check(number, { 'once and in order': follows });
      if (number === RATE * SECONDS - 1) client.close();
    });
  });
  check(answer, { 'stream was open': (r) => r && r.status === 200 });
}

export const publisher = () => publish(TOPIC, exec.scenario.iterationInTest);
