# Throw-away PostgreSQL servers on the loopback interface, each in a temporary folder. Sourced by tests/run.sh.

postgres_bin() {
  local found
  found=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
  if [ -z "$found" ]; then found=$(pg_config --bindir); fi
  [ -x "$found/initdb" ] || { echo "no PostgreSQL server is installed: $found/initdb is missing" >&2; return 1; }
  echo "$found"
}

# PostgreSQL refuses to run as root; with root, run as the package's user.
as_postgres() {
  if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi
}

free_port() {
  local port=$1
  while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
  echo "$port"
}

# postgres_up NAME PORT [VARIABLE=VALUE...]: starts a server and leaves its URL in tests/output/NAME.url. The
# variables become the server's environment. The default settings stay: what is committed is synced.
postgres_up() {
  local name=$1 port bin folder password
  port=$(free_port "$2")
  shift 2
  bin=$(postgres_bin) || return 1
  folder=$(mktemp -d "${TMPDIR:-/tmp}/carillon-$name.XXXXXX") || return 1
  password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
  printf '%s\n' "$password" >"$folder/password"
  if [ "$(id -u)" = 0 ]; then chown -R postgres: "$folder"; fi
  chmod 700 "$folder"
  STOP+=("postgres_down $folder $bin")
  as_postgres env -C "$folder" "$bin/initdb" -D "$folder/data" -A scram-sha-256 -U postgres --pwfile="$folder/password" \
    -E UTF8 --locale=C.UTF-8 --no-sync || return 1
  as_postgres tee -a "$folder/data/postgresql.conf" >/dev/null <<CONF || return 1
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = '$folder'
max_connections = 400
shared_buffers = 128MB
logging_collector = off
CONF
  as_postgres env -C "$folder" "$@" "$bin/pg_ctl" -D "$folder/data" -l "$folder/log" -w -t 60 start || { cat "$folder/log"; return 1; }
  echo "postgres://postgres:$password@127.0.0.1:$port/postgres" >"$OUTPUT/$name.url"
  chmod 600 "$OUTPUT/$name.url"
}

postgres_down() {
  local folder=$1 bin=$2
  as_postgres env -C "$folder" "$bin/pg_ctl" -D "$folder/data" -m immediate -w stop || true
  rm -rf "$folder"
}
