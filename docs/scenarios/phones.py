#!/usr/bin/env python3
"""The phones of the stories: a worker of the channel `phone` (docs/channels.md, "A channel of your own").

    phones.py show SECONDS   does what it is told for so many seconds, and says it: a line for each
    phones.py read NAME      NAME's phone was picked up: what came last there was read
"""
import json
import os
import sys
import time
import urllib.request

SHOWN = "phones.json"


def call(path, body):
    request = urllib.request.Request(
        os.environ["URL"] + "/v1/channels/phone/" + path,
        data=json.dumps(body).encode(),
        headers={"Authorization": "Bearer " + os.environ["WORKER_KEY"], "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=40) as answer:
        return json.load(answer)


def phone_of(address):
    return address.removesuffix("-phone") + "'s phone"


def show(seconds):
    shown = json.load(open(SHOWN)) if os.path.exists(SHOWN) else {}
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        work = call("pull", {"limit": 100, "wait": max(1, min(int(left), 5))})["data"]
        outcomes = []
        for one in work:
            operation, phone = one["operation"], phone_of(one["address"])
            if operation == "recall":
                print(f"{phone} takes it back", flush=True)
            else:
                print(f"{phone} shows: {one['message']['content']['title']}", flush=True)
                shown[phone] = one["delivery"]
            outcome = {"delivery": one["delivery"], "lease": one["lease"], "provider_id": one["delivery"]}
            outcome["outcome"] = "recalled" if operation == "recall" else "delivered"
            outcomes.append(outcome)
        if outcomes:
            call("outcomes", {"outcomes": outcomes})
    json.dump(shown, open(SHOWN, "w"))


def read(name):
    delivery = json.load(open(SHOWN))[f"{name}'s phone"]
    call("receipts", {"receipts": [{"delivery": delivery, "kind": "read"}]})
    print(f"{name} has read it on the phone")


if sys.argv[1] == "show":
    show(float(sys.argv[2]))
else:
    read(sys.argv[2])
