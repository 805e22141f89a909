#!/bin/sh
# Makes the symbol blob of a kernel, and fails when the kernel is broken:
#
#   check-kernel.sh vmlinux [bsdsyms.bin]
#
# BSDSYMS_URL is where the service is (http://127.0.0.1:8080), BSDSYMS_TOKEN a bearer token if it wants one.
# Ends with 0, or 1 when the kernel is refused, 2 for wrong usage, 75 when the service cannot be had for now.
set -eu

kernel=${1:?usage: check-kernel.sh KERNEL [BLOB]}
blob=${2:-bsdsyms.bin}
url=${BSDSYMS_URL:-http://127.0.0.1:8080}
max_attempts=${BSDSYMS_ATTEMPTS:-10}

[ -r "$kernel" ] || {
  echo "$kernel: cannot be read" >&2
  exit 2
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

attempt=1
while :; do
  # The token goes through standard input, where other users of the machine cannot see it. A problem comes as one line
  # of text. -T sends the file as it is read; --data-binary would hold all of it in memory.
  failed=0
  status=$(echo "${BSDSYMS_TOKEN:+oauth2-bearer = $BSDSYMS_TOKEN}" |
    curl --config - -sS --fail-with-body --max-time 600 -X POST -T "$kernel" \
      -H 'Accept: application/octet-stream, text/plain;q=0.5' \
      -D "$work/head" -o "$work/body" -w '%{http_code}' "$url/bsdsyms") || failed=$?
  [ "$failed" -ne 0 ] || break
  case $status in
  429 | 503)
    # What the service says, or a second.
    wait=$(tr -d '\r' <"$work/head" | sed -n 's/^[Rr][Ee][Tt][Rr][Yy]-[Aa][Ff][Tt][Ee][Rr]: *\([0-9][0-9]*\)$/\1/p' | tail -n 1)
    ;;
  000)
    # No answer at all: nobody listens, or the connection broke.
    wait=2
    ;;
  *)
    echo "$kernel: $status $(cat "$work/body")" >&2
    exit 1
    ;;
  esac
  if [ "$attempt" -ge "$max_attempts" ]; then
    echo "$kernel: no answer after $attempt attempts; the last status was $status" >&2
    exit 75
  fi
  attempt=$((attempt + 1))
  sleep "${wait:-1}"
done

grep -i '^bsdsyms-' "$work/head" | tr -d '\r'
mv "$work/body" "$blob"
