#!/usr/bin/env bash
# Installs the servers that `make bench` measures beside Carillon. What cannot be installed is left out, and the report says so.
set -uo pipefail
cd "$(dirname "$0")"
packages=()
for package in nginx-light libnginx-mod-nchan pushpin zurl nodejs npm; do
  case $package in
    nodejs) command -v node >/dev/null && continue ;;
    npm) command -v npm >/dev/null && continue ;;
  esac
  [ "$(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || packages+=("$package")
done
if [ ${#packages[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get -o DPkg::Lock::Timeout=300 update -qq
    # One by one: that one is missing does not keep the others away.
    for package in "${packages[@]}"; do
      apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "$package" >/dev/null || echo "peer not installed: $package"
    done
  else
    echo "only root can install: ${packages[*]}"
  fi
fi
# npm's packages, each folder by itself: NAME FOLDER COMMAND...
modules() {
  local name=$1 folder=$2
  shift 2
  (
    cd "$folder" || exit 1
    if ! cmp -s package-lock.json node_modules/.installed; then
      "$@" --omit=optional --no-audit --no-fund --loglevel=error && cp package-lock.json node_modules/.installed
    fi
  ) || echo "peer not installed: $name"
}
modules socket.io . npm ci
# Of what soketi needs, packages for other systems are missing in the lock file where they were missing in the registry: `npm ci`
# refuses such a file, `npm install` takes what it names.
modules soketi soketi npm install --no-save
# It has to be compiled, which takes 10 to 19 minutes on two cores: only when it is asked for.
if ! command -v sockudo >/dev/null; then
  if [ "${SOCKUDO:-}" = 1 ]; then
    if [ "$(id -u)" = 0 ]; then
      apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends protobuf-compiler libprotobuf-dev >/dev/null
    fi
    cargo install sockudo --version 5.2.0 --locked --no-default-features --features local || echo "peer not installed: sockudo"
  else
    echo "peer not installed: sockudo (SOCKUDO=1 $0 compiles it)"
  fi
fi
exit 0
