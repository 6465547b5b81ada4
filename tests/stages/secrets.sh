# Looks for the secrets that the tests used in everything that the run printed, logged and was answered. Sourced by
# tests/run.sh. `tests/harness/secrets.rs` and `tests/node/secrets.mjs` leave in tests/output/secrets what there is to look
# for (secrets-*: kind, tab, secret) and where (server-*, answers-*, commands-*). Answers that hand a secret out are not
# among them: they may.

# Kinds without which the run would not have shown anything.
SECRET_KINDS=("relay password" "DKIM key" "source secret" crk_ eyJ whsec_ whsk_ ticket)

# hits PATTERNS FILE...: FILE:LINE of each line with one of the patterns, never the line itself.
hits() {
  local patterns=$1
  shift
  grep -a -n -H -F -f "$patterns" -- "$@" | sed -E 's/^([^:]+:[0-9]+):.*/\1/'
}

stage_secrets() {
  local kept=$OUTPUT/secrets work patterns places kind found log
  work=$(mktemp -d "${TMPDIR:-/tmp}/carillon-secrets.XXXXXX")
  # shellcheck disable=SC2064
  trap "rm -rf '$work'" EXIT
  patterns=$work/patterns
  cat "$kept"/secrets-* >"$work/secrets"
  for kind in "${SECRET_KINDS[@]}"; do
    grep -q "^$kind"$'\t' "$work/secrets" || { echo "no test used a secret of the kind $kind: nothing is shown"; return 1; }
  done
  # The database's password too.
  {
    cut -f 2 "$work/secrets"
    find "$OUTPUT" -maxdepth 1 -name '*.url' -exec sed -n 's#^postgres://postgres:\([^@]*\)@.*#\1#p' {} +
  } | awk 'length >= 8' | sort -u >"$patterns"
  mapfile -t places < <(
    find "$OUTPUT" -maxdepth 1 -type f \( -name '*.log' -o -name 'crash-*.jsonl' \) ! -name secrets.log
    find "$kept" -type f ! -name 'secrets-*'
  )

  # It must find what is there: each kind, planted at the end of a copy of what a server logged.
  log=$(find "$kept" -name 'server-*' -size -1024k -print -quit)
  for kind in "${SECRET_KINDS[@]}"; do
    cp "$log" "$work/planted"
    printf 'a line with %s in it\n' "$(awk -F '\t' -v kind="$kind" '$1 == kind { print $2; exit }' "$work/secrets")" >>"$work/planted"
    [ -n "$(hits "$patterns" "$work/planted")" ] || { echo "a planted secret of the kind $kind is not found"; return 1; }
  done

  found=$(hits "$patterns" "${places[@]}" || true)
  if [ -n "$found" ]; then
    echo "secrets stand in:"
    head -n 50 <<<"$found"
    return 1
  fi
  echo "report: $(wc -l <"$patterns") secrets of the tests are in none of ${#places[@]} files ($(du -cm "${places[@]}" | tail -n 1 | cut -f 1) MiB) that the run left; planted ones are found"
}
