#!/usr/bin/env python3
"""A worker that brings the channel `sms` to Carillon, with nothing but Python's standard library.

It writes what it "sends" to a file, one JSON object per line, and so shows the whole remote-channel API: announce, pull,
answer, recall, receipts. Put a provider's client in the place of `send` and `take_back`, and it sends.

    CARILLON_URL=http://127.0.0.1:8080 CARILLON_KEY=crk_... SMS_FILE=/tmp/sms.jsonl ./worker.py
"""

import json
import os
import random
import re
import signal
import sys
import time
import urllib.error
import urllib.request

URL = os.environ.get("CARILLON_URL", "http://127.0.0.1:8080").rstrip("/")
KEY = os.environ.get("CARILLON_KEY", "")
KIND = os.environ.get("CHANNEL", "sms")
FILE = os.environ.get("SMS_FILE", "sms.jsonl")

NUMBER = re.compile(r"\+[1-9][0-9]{5,14}")
LONGEST = 480  # characters: three parts

stopping = False


def stop(*_):
    global stopping
    stopping = True


def call(method, path, body):
    """One request; the answer's JSON."""
    request = urllib.request.Request(
        f"{URL}/v1/channels/{KIND}{path}",
        method=method,
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
    )
    # Longer than the longest wait of a pull.
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def write(line):
    with open(FILE, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def known():
    """What was sent before: a delivery may come twice, always with the same id."""
    try:
        with open(FILE, encoding="utf-8") as file:
            return {line["delivery"] for line in map(json.loads, file) if line["did"] == "sent"}
    except FileNotFoundError:
        return set()


def text_of(message):
    """The short form, else the plain text, else title and body."""
    content, forms = message["content"], message["forms"]
    text = forms.get("short") or forms.get("text")
    if not text:
        text = "\n".join(part for part in (content["title"], content.get("body")) if part)
    return text[:LONGEST]


def send(item, sent):
    if not NUMBER.fullmatch(item["address"]):
        return {"outcome": "gone", "reason": "no telephone number"}
    if item["message"]["type"] != "notification":
        return {"outcome": "rejected", "reason": "only notifications fit into a text"}
    if item["delivery"] not in sent:
        write({"did": "sent", "delivery": item["delivery"], "to": item["address"], "text": text_of(item["message"])})
        sent.add(item["delivery"])
    return {"outcome": "delivered", "provider_id": "sms-" + item["delivery"]}


def take_back(item):
    write({"did": "recalled", "delivery": item["delivery"], "provider_id": item["provider_id"]})
    return {"outcome": "recalled"}


def outcome(item, sent):
    try:
        said = take_back(item) if item["operation"] == "recall" else send(item, sent)
    except OSError as error:
        # Ours to mend, not the address's: it counts for the channel's breaker.
        said = {"outcome": "retry", "fault": "provider", "reason": str(error)}
    return {"delivery": item["delivery"], "lease": item["lease"], **said}


def main():
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    sent, failures, announced = known(), 0, False
    while not stopping:
        try:
            if not announced:
                call("PUT", "", {"recall": True, "forms": ["short", "text"]})
                announced = True
            work = call("POST", "/pull", {"limit": 20, "wait": 20})["data"]
            if work:
                # One that is stale (409) is somebody else's by now: there is nothing to do about it.
                call("POST", "/outcomes", {"outcomes": [outcome(item, sent) for item in work]})
            failures = 0
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):
                sys.exit(f"the key is not good for the channel {KIND}: {error}")
            if error.code != 409:
                failures += 1
                announced = False
        except OSError as error:
            print(f"Carillon did not answer: {error}", file=sys.stderr)
            failures += 1
        if failures:
            # What was pulled and not answered comes again once its lease ends.
            time.sleep(random.uniform(0, min(30, 2**failures)))


if __name__ == "__main__":
    main()
