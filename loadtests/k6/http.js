// POST /v1/notifications at a constant rate: an open loop, so that a stall counts with the whole of its delay.
import http from 'k6/http';
import { check } from 'k6';
import { base, headers } from './carillon.js';

export const options = {
  scenarios: {
    accept: {
      executor: 'constant-arrival-rate',
      rate: Number(__ENV.RATE || 200),
      timeUnit: '1s',
      duration: __ENV.DURATION || '10s',
      // So many that none has to be made while the clock runs: k6 would leave out what is due meanwhile.
      preAllocatedVUs: 200,
      maxVUs: 200,
    },
  },
  thresholds: { checks: ['rate==1'], http_req_duration: ['p(99)<500'], dropped_iterations: ['count==0'] },
};

const body = JSON.stringify({ targets: [{ user: 'ada' }], content: { title: 'Build failed', body: 'main is red' } });

export default function () {
  const answer = http.post(`${base}/v1/notifications`, body, { headers });
  check(answer, { accepted: (r) => r.status === 202 });
}
