#!/usr/bin/env bash
# Runs the stages below in order, prints the time of each, and ends with `N passed, N failed` alone on a line.
#   tests/run.sh                 everything
#   tests/run.sh build e2e-sqlite   only these (stages that another needs must be named before it)
# Each stage's output is kept in tests/output/NAME.log. Everything started here is stopped here, by process id.
set -euo pipefail
cd "$(dirname "$0")/.."
ROOT=$PWD
OUTPUT=$ROOT/tests/output
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}
TOOLS=${CARILLON_TOOLS_DIR:-$CACHE/carillon-tools}
if [ -z "${CARGO_TARGET_DIR:-}" ] && { [ -n "${CI:-}${CARILLON_TARGET_DIR:-}" ] || [ -d "$CACHE/carillon-target" ]; }; then
  CARGO_TARGET_DIR=${CARILLON_TARGET_DIR:-$CACHE/carillon-target}
fi
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$ROOT/target}
export CARGO_TERM_COLOR=never
# A clean checkout compiles each crate once: what incremental builds keep for the next time is gigabytes for nothing.
if [ -n "${CI:-}" ]; then export CARGO_INCREMENTAL=0; fi
mkdir -p "$OUTPUT" "$TOOLS"

STAGES=(install tools lint build postgres unit mail e2e-sqlite e2e-postgres sources sdk browser sync-sqlite sync-postgres crash-sqlite crash-postgres secrets)
# shellcheck source=tests/stages/postgres.sh
. tests/stages/postgres.sh
# shellcheck source=tests/stages/mail.sh
. tests/stages/mail.sh
# shellcheck source=tests/stages/secrets.sh
. tests/stages/secrets.sh
# shellcheck source=tests/stages/stages.sh
. tests/stages/stages.sh

PASSED=0 FAILED=0 TABLE=() BROKEN=()
STARTED=$(date +%s)

report() {
  local status=$? stopping
  trap - EXIT INT TERM
  for stopping in "${STOP[@]}"; do $stopping >>"$OUTPUT/stop.log" 2>&1 || true; done
  printf '\n%-16s %8s %8s %8s  %s\n' stage seconds passed failed result
  [ ${#TABLE[@]} -eq 0 ] || printf '%s\n' "${TABLE[@]}"
  printf '%-16s %8s\n\n' total "$(($(date +%s) - STARTED))"
  for stage in "${BROKEN[@]}"; do failures "$stage"; done
  if [ $status -ne 0 ] && [ $FAILED -eq 0 ]; then FAILED=1; fi
  echo "$PASSED passed, $FAILED failed"
  exit $((status != 0 || FAILED != 0))
}
STOP=()
trap report EXIT
trap 'exit 130' INT TERM

# Test counts come from the runners' own summaries; a stage without tests counts as one check.
count() {
  awk '
    /^test result: / { passed += $4; failed += $6 }                     # libtest
    /^# pass [0-9]+$/ { passed += $3 } /^# fail [0-9]+$/ { failed += $3 } # node --test, TAP
    END { print passed + 0, failed + 0 }' "$1"
}

# What failed in a stage, by name and with the first lines that it said: a stage runs many executables, and the one that
# failed is seldom the last.
failures() {
  awk -v stage="$1" '
    function failed(name) { if (!(name in known)) print "failed in " stage ": " name; known[name] }
    /^---- .* stdout ----$/ { failed($2); said = 15; next } # libtest
    /^ *not ok [0-9]+ - / { sub(/^ */, ""); failed($0); said = 15; next } # node --test, TAP
    /^failures:$/ { said = 0; listed = 1; next }
    /^test result: / { said = 0; listed = 0 }
    listed && said == 0 && NF == 1 && /^    / { failed($1); next } # what was said is not there with --nocapture
    said > 0 && NF { print "  " substr($0, 1, 400); said-- }' "$OUTPUT/$1.log"
  echo
}

run_stage() {
  local name=$1 log=$OUTPUT/$1.log begin status=0 passed failed
  begin=$(date +%s)
  echo "== $name"
  # A subshell under `set -e`, so that a stage ends at its first error; what it must leave behind goes through files.
  # The stages that start servers run here, for their stop commands.
  set +e
  if [ "$name" = postgres ]; then stage_postgres >"$log" 2>&1; status=$?; else (set -e; "stage_${name//-/_}") >"$log" 2>&1; status=$?; fi
  set -e
  read -r passed failed < <(count "$log")
  if [ "$passed$failed" = 00 ]; then if [ $status -eq 0 ]; then passed=1; else failed=1; fi; fi
  if [ $status -ne 0 ] && [ "$failed" -eq 0 ]; then failed=1; fi
  PASSED=$((PASSED + passed)) FAILED=$((FAILED + failed))
  TABLE+=("$(printf '%-16s %8s %8s %8s  %s' "$name" "$(($(date +%s) - begin))" "$passed" "$failed" "$([ $status -eq 0 ] && echo ok || echo FAILED)")")
  echo "${TABLE[-1]}"
  grep -h '^report: ' "$log" || true
  if [ $status -ne 0 ]; then
    BROKEN+=("$name")
    echo "-- $name failed; the last lines of tests/output/$name.log:"
    tail -n 60 "$log" | cut -c -400
    case $name in install | tools | build | postgres) exit 1 ;; esac # nothing after it can run
  fi
}

if [ $# -gt 0 ]; then STAGES=("$@"); fi
for stage in "${STAGES[@]}"; do
  declare -F "stage_${stage//-/_}" >/dev/null || { echo "no stage is called $stage"; exit 2; }
done
for stage in "${STAGES[@]}"; do run_stage "$stage"; done
