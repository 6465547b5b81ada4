// Users with a stream of server-sent events each, and one publisher by the clock. Halfway each stream is cut, and goes on
// behind its Last-Event-ID a second later. Every notification comes once and in order. Needs the k6 that build.sh makes.
import { connect } from 'k6/x/sse';
import { check } from 'k6';
import { Counter, Trend } from 'k6/metrics';
import exec from 'k6/execution';
import { base, byTheClock, post, token } from './carillon.js';

const VUS = Number(__ENV.VUS || 50);
const SECONDS = Number(__ENV.SECONDS || 10);
const RATE = Number(__ENV.RATE || 10);
const COUNT = RATE * SECONDS;
const latency = new Trend('notification_latency', true);
const notifications = new Counter('notifications');
const resumed = new Counter('streams_resumed');
const users = Array.from({ length: VUS }, (_, number) => `k6-${number}`);

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
    notification_latency: ['p(99)<500'],
    notifications: [`count==${VUS * COUNT}`],
    streams_resumed: [`count==${VUS}`],
  },
};

export const setup = () => ({ run: `${Date.now()}`, tokens: users.map(token) });

export function subscribe({ run, tokens }) {
  const headers = { Authorization: `Bearer ${tokens[exec.scenario.iterationInTest]}` };
  let [next, id, cut] = [0, undefined, false];
  const open = () => {
    const since = Date.now();
    const stream = connect(`${base}/v1/stream`, {
      headers,
      lastEventId: id,
      onopen: (status) => check(status, { opened: (s) => s === 200 }),
      onevent: (event) => {
        id = event.id;
        if (event.type === 'gap') check(event, { 'no gap': () => false });
        if (event.type !== 'added') return;
        const { data } = JSON.parse(event.data).entry.content;
        // What an earlier run left is not ours.
        if (data.run !== run) return;
        notifications.add(1);
        check(data.number, { 'once and in order': (number) => number === next });
        // What it missed while it was away is not late.
        if (data.sent >= since) latency.add(Date.now() - data.sent);
        next = data.number + 1;
        if (next === COUNT) stream.close();
        else if (!cut && next >= COUNT / 2) {
          cut = true;
          stream.close();
          setTimeout(() => {
            resumed.add(1);
            open();
          }, 1000);
        }
      },
      onend: (why) => check(why, { 'closed by nobody else': (reason) => reason === '' }),
    });
  };
  open();
}

export function publisher({ run }) {
  const targets = users.map((user) => ({ user }));
  byTheClock(RATE, COUNT, (number, sent) => {
    post('/v1/notifications', { targets, content: { title: 'Build failed', data: { run, number, sent } } });
  });
}
