# What each stage of tests/run.sh does. Sourced by it.

CARGO_DENY_VERSION=0.20.2
# One build serves all stages. The feature compiles the planted bugs in; they wait for CARILLON_PLANT at run time.
SHAPE=(--workspace --all-targets --features carillon/planted-bugs)

have() { command -v "$1" >/dev/null; }

stage_install() {
  local packages=()
  postgres_bin >/dev/null 2>&1 || packages+=(postgresql-15)
  have chromium || packages+=(chromium)
  fc-list 2>/dev/null | grep -qi liberation || packages+=(fonts-liberation fontconfig)
  have node && have npm || packages+=(nodejs npm)
  have cc || packages+=(gcc libc6-dev)
  [ -x /usr/sbin/exim4 ] || packages+=(exim4-daemon-light)
  have openssl || packages+=(openssl)
  have curl || packages+=(curl)
  have prometheus || packages+=(prometheus)
  have prometheus-alertmanager || packages+=(prometheus-alertmanager)
  python3 -m pip --version >/dev/null 2>&1 || packages+=(python3 python3-pip)
  if [ ${#packages[@]} -gt 0 ]; then
    if [ "$(id -u)" != 0 ]; then
      echo "these Debian packages are missing, and only root can install them: ${packages[*]}"
      return 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get -o DPkg::Lock::Timeout=300 update -qq
    apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${packages[@]}"
  fi
  # Reinstalled only when the lock file changed. The lock names no registry: npm asks the one that it is set to.
  local folder
  for folder in tests/node tests/mail tests/webhooks; do
    (
      cd "$folder"
      if ! cmp -s package-lock.json node_modules/.installed; then
        npm ci --omit=optional --no-audit --no-fund --loglevel=error
        cp package-lock.json node_modules/.installed
      fi
    )
  done
  python_packages tests/webhooks
}

# Into a folder of their own: nothing of the system's Python changes.
python_packages() (
  cd "$1"
  cmp -s requirements.txt python_packages/.installed && return
  rm -rf python_packages
  python3 -m pip install --quiet --root-user-action=ignore --disable-pip-version-check --no-deps --require-hashes \
    --target python_packages -r requirements.txt
  cp requirements.txt python_packages/.installed
)

stage_tools() {
  if ! "$TOOLS/bin/cargo-deny" --version 2>/dev/null | grep -qF "$CARGO_DENY_VERSION"; then
    CARGO_TARGET_DIR=$TOOLS/build cargo install --locked --root "$TOOLS" --version "$CARGO_DENY_VERSION" cargo-deny
    rm -rf "$TOOLS/build"
  fi
  "$TOOLS/bin/cargo-deny" --version
}

stage_lint() {
  cargo fetch --locked # what cargo-deny reads below, offline
  cargo fmt --all --check
  # As released, then with the planted bugs compiled in.
  cargo clippy --locked --workspace --all-targets -- -D warnings
  cargo clippy --locked "${SHAPE[@]}" -- -D warnings
  # Advisories are the checked-in floors in deny.toml: their public database is not fetched.
  "$TOOLS/bin/cargo-deny" --offline --locked check --hide-inclusion-graph bans licenses sources
  bash -n tests/run.sh tests/stages/*.sh .ci/run
}

stage_build() {
  rm -rf "$OUTPUT/secrets" # of an earlier run
  cargo test --locked "${SHAPE[@]}" --no-run --message-format=json-render-diagnostics >"$OUTPUT/build.json"
  node tests/stages/executables.mjs "$OUTPUT/build.json" >"$OUTPUT/executables"
  cc -std=c11 -O2 -Wall -Wextra -Werror -shared -fPIC -o "$OUTPUT/libsync_log.so" tests/sync/sync_log.c -ldl
  cat "$OUTPUT/executables"
}

executable() { awk -F '\t' -v kind="$1" '$1 == kind { print $3; exit }' "$OUTPUT/executables"; }

# Runs the product's tests whose names begin with $1; the rest goes to the test runner.
product() {
  local filter=$1
  shift
  CARILLON_BIN=$(executable carillon)
  export CARILLON_BIN RUST_BACKTRACE=1 CARILLON_TEST_OUTPUT=$OUTPUT
  "$(executable product)" "$filter" "$@"
}

on_sqlite() { export CARILLON_TEST_STORE=sqlite; }

on_postgres() {
  export CARILLON_TEST_STORE=postgres CARILLON_TEST_POSTGRES
  CARILLON_TEST_POSTGRES=$(cat "$OUTPUT/${1:-postgres}.url")
}

stage_postgres() { postgres_up postgres "${CARILLON_TEST_POSTGRES_PORT:-23010}"; }

stage_unit() {
  local kind folder executable status=0
  on_postgres
  while IFS=$'\t' read -r kind folder executable; do
    [ "$kind" = unit ] || continue
    echo "-- $executable"
    (cd "$folder" && "$executable" --quiet) || status=1
  done <"$OUTPUT/executables"
  product imports:: || status=1
  product reference:: || status=1
  return $status
}

# What `unit` plays too, with as many seeds as CARILLON_SIM_SEEDS says.
stage_simulation() {
  local kind folder executable
  on_postgres
  while IFS=$'\t' read -r kind folder executable; do
    case $kind:$(basename "$folder") in
      unit:dispatcher) (cd "$folder" && "$executable" simulation:: --nocapture --test-threads=1) ;;
    esac
  done <"$OUTPUT/executables"
}

# Runs in a subshell of its own (tests/run.sh), so its servers are stopped however it ends.
stage_mail() {
  local folder
  folder=$(mktemp -d "${TMPDIR:-/tmp}/carillon-mail.XXXXXX")
  # shellcheck disable=SC2064
  trap "mail_down '$folder'" EXIT
  mail_up "$folder"
  "$(executable mail)"
  on_sqlite
  product mta::
}

stage_e2e_sqlite() { on_sqlite; product e2e::; }
stage_e2e_postgres() { on_postgres; product e2e::; }
stage_sources() { on_sqlite; product tools::; }

node_tests() {
  CARILLON_BIN=$(executable carillon) CARILLON_TEST_OUTPUT=$OUTPUT \
    node --test --test-reporter=tap --test-concurrency=1 "$@"
}
stage_sdk() { on_sqlite; node_tests tests/node/sdk.test.mjs; }
stage_browser() { on_sqlite; node_tests tests/node/browser.test.mjs tests/node/preferences.test.mjs; }

# Alone, one request in flight: what is synced between a request and its answer is that request's.
stage_sync_sqlite() {
  on_sqlite
  CARILLON_SYNC_LIBRARY=$OUTPUT/libsync_log.so product sync:: --test-threads=1
}
stage_sync_postgres() {
  # A server of its own, with the same library loaded: there the commits are PostgreSQL's.
  local log status=0 folder
  folder=$(mktemp -d "${TMPDIR:-/tmp}/carillon-sync.XXXXXX")
  cp "$OUTPUT/libsync_log.so" "$folder/"
  log=$folder/log
  : >"$log"
  chmod 755 "$folder"
  chmod 666 "$log"
  STOP=()
  postgres_up sync-postgres "$((${CARILLON_TEST_POSTGRES_PORT:-23010} + 1))" LD_PRELOAD="$folder/libsync_log.so" CARILLON_SYNC_LOG="$log" || status=1
  if [ $status -eq 0 ]; then
    on_postgres sync-postgres
    CARILLON_SYNC_LIBRARY=$OUTPUT/libsync_log.so CARILLON_SYNC_POSTGRES_LOG=$log product sync:: --test-threads=1 || status=1
  fi
  local stopping
  for stopping in "${STOP[@]}"; do $stopping || true; done
  rm -rf "$folder"
  return $status
}

# One test at a time: each one loads both cores.
stage_crash_sqlite() { on_sqlite; product crash:: --test-threads=1 --nocapture; }
stage_crash_postgres() { on_postgres; product crash:: --test-threads=1 --nocapture; }
