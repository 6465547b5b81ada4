# Short words for the stories beside this file: `. scenarios/tools.sh`, with an API key in KEY.
# The phones are a channel of our own (docs/channels.md): `phones` is its worker, in the hands of whoever reads the story.
URL=${URL:-http://127.0.0.1:8080}
JSON='Content-Type: application/json'

# api METHOD PATH [JSON]: a request of the backend.
api() { curl --silent --show-error --fail-with-body --max-time 20 -X "$1" "$URL$2" -H "Authorization: Bearer $KEY" -H "$JSON" ${3:+-d "$3"}; }

# as USER METHOD PATH [JSON]: a request with the user's own token.
as() {
  local token
  token=$(api POST /v1/tokens '{"user": "'"$1"'", "device": "laptop"}' | sed 's/.*"token":"\([^"]*\)".*/\1/')
  curl --silent --show-error --fail-with-body --max-time 20 -X "$2" "$URL$3" -H "Authorization: Bearer $token" -H "$JSON" ${4:+-d "$4"}
}

# send JSON: sends a notification and says its id.
send() { api POST /v1/notifications "$1" | grep -o 'ntf_[0-9a-f]*' | head -1; }

# happened TYPE ID DATA: a service says that something happened (CloudEvents 1.0).
happened() {
  curl --silent --show-error --fail-with-body "$URL/v1/events" -H "Authorization: Bearer $KEY" -H 'Content-Type: application/cloudevents+json' \
    -d '{"specversion": "1.0", "source": "/shop", "type": "'"$1"'", "id": "'"$2"'", "data": '"$3"'}'
  echo
}

# person NAME: somebody with a phone.
person() { api PUT "/v1/users/$1" '{"addresses": [{"channel": "phone", "address": "'"$1"'-phone", "verified": true}]}'; echo; }

# busy NAME: the person looks at the laptop. away NAME: not any more.
busy() { as "$1" POST /v1/activity '{"device": "laptop", "focused": true}'; echo; }
away() { as "$1" POST /v1/activity '{"device": "laptop", "focused": false}'; echo; }

# inbox NAME: what the person's inbox shows.
inbox() { as "$1" GET /v1/inbox; echo; }

# Announces the phones once, with a key of their own.
WORKER_KEY=$(carillon keys create --name phones --scope channel:phone | tail -1)
export URL WORKER_KEY
curl --silent --show-error --fail-with-body -X PUT "$URL/v1/channels/phone" -H "Authorization: Bearer $WORKER_KEY" -H "$JSON" \
  -d '{"replace": true, "recall": true, "verified": false, "forms": ["short"]}'
echo

# phones SECONDS: what all phones do within so many seconds, a line each. picks_up NAME: reads the latest on the phone.
phones() { python3 scenarios/phones.py show "$1" || echo 'the phones failed'; }
picks_up() { python3 scenarios/phones.py read "$1"; }
