# Throw-away mail servers on the loopback interface: Exim, a real MTA, and tests/mail/sink.mjs, which checks sign-in and
# DKIM signatures. Sourced by tests/run.sh.

MAIL_PIDS=()

# mail_certificates FOLDER: an authority (authority.pem) and a certificate of its for the loopback address.
mail_certificates() {
  local folder=$1
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 7 -subj "/CN=Carillon's tests" \
    -keyout "$folder/authority.key" -out "$folder/authority.pem"
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \
    -keyout "$folder/key.pem" -out "$folder/request.pem"
  printf '%s\n' 'subjectAltName = DNS:localhost, IP:127.0.0.1' 'basicConstraints = critical, CA:FALSE' >"$folder/extensions"
  openssl x509 -req -in "$folder/request.pem" -CA "$folder/authority.pem" -CAkey "$folder/authority.key" \
    -CAcreateserial -days 7 -extfile "$folder/extensions" -out "$folder/certificate.pem"
}

# mail_wait NAME PORT: until somebody listens there.
mail_wait() {
  local attempt
  for attempt in $(seq 100); do
    if (exec 3<>"/dev/tcp/127.0.0.1/$2") 2>/dev/null; then return 0; fi
    sleep 0.1
  done
  echo "$1 does not listen on port $2" >&2
  return 1
}

# exim_up FOLDER PORT: Exim with STARTTLS on PORT, which takes mail for example.net into FOLDER/mail/new.
exim_up() {
  local folder=$1/exim port=$2 user
  user=$(id -un)
  # Exim does not run as root.
  if [ "$(id -u)" = 0 ]; then user=Debian-exim; fi
  mkdir -p "$folder/spool" "$folder/log"
  cat >"$folder/exim.conf" <<CONF
primary_hostname = mx.example.net
spool_directory = $folder/spool
log_file_path = $folder/log/%s
pid_file_path = $folder/pid
exim_user = $user
exim_group = $(id -gn "$user")
never_users =
local_interfaces = 127.0.0.1
daemon_smtp_ports = $port
tls_advertise_hosts = *
tls_certificate = $folder/certificate.pem
tls_privatekey = $folder/key.pem
dsn_advertise_hosts = *
pipelining_advertise_hosts = *
domainlist local_domains = example.net
acl_smtp_rcpt = recipient
host_lookup =
rfc1413_hosts =
message_size_limit = 100K
keep_environment =
deliver_drop_privilege = true

begin acl
recipient:
  deny message = no such user
       local_parts = ^unknown
       domains = +local_domains
  defer message = greylisted
       local_parts = ^grey
       domains = +local_domains
  accept domains = +local_domains
       authenticated = *
  deny message = relay not permitted

begin routers
bounce:
  driver = redirect
  local_parts = ^bounce
  domains = +local_domains
  allow_fail
  data = :fail: no such user here
mailbox:
  driver = accept
  domains = +local_domains
  transport = maildir

begin transports
maildir:
  driver = appendfile
  directory = $folder/mail
  maildir_format
  user = $user

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = \${if and{{eq{\$auth2}{hub}}{eq{\$auth3}{password}}}}
  server_set_id = \$auth2
  server_advertise_condition = \${if def:tls_in_cipher}
CONF
  cp "$1/certificate.pem" "$1/key.pem" "$folder/"
  if [ "$(id -u)" = 0 ]; then
    chown -R "$user:" "$folder"
    chown root: "$folder/exim.conf" # Exim trusts no configuration that its user may write
    chmod 644 "$folder/exim.conf"
  fi
  /usr/sbin/exim4 -C "$folder/exim.conf" -bdf -q5s >"$folder/output" 2>&1 &
  MAIL_PIDS+=($!)
  mail_wait Exim "$port" || { cat "$folder/output" "$folder/log/"*; return 1; }
}

# mail_up FOLDER: both, with what the tests must know in CARILLON_TEST_*.
mail_up() {
  local folder=$1 first=${CARILLON_TEST_MAIL_PORT:-23120} smtp smtps exim
  chmod 755 "$folder"
  mail_certificates "$folder" 2>&1
  smtp=$(free_port "$first")
  smtps=$(free_port "$((smtp + 1))")
  exim=$(free_port "$((smtps + 1))")
  node tests/mail/sink.mjs "$smtp" "$smtps" "$folder" &
  MAIL_PIDS+=($!)
  exim_up "$folder" "$exim"
  mail_wait "the sink" "$smtps"
  export CARILLON_TEST_SMTP=127.0.0.1:$smtp CARILLON_TEST_SMTPS=127.0.0.1:$smtps CARILLON_TEST_EXIM=127.0.0.1:$exim
  export CARILLON_TEST_MAIL_FOLDER=$folder
}

mail_down() {
  local pid
  for pid in "${MAIL_PIDS[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait "${MAIL_PIDS[@]}" 2>/dev/null || true
  rm -rf "$1"
}
