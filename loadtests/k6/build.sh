#!/usr/bin/env bash
# Builds k6 with the module "k6/x/sse" of sse/, at the version that sse/go.mod pins, as loadtests/k6/k6. Needs Go 1.25.
set -euo pipefail
cd "$(dirname "$0")/sse"
go test .
go build -trimpath -o ../k6 .
../k6 version
