#!/bin/sh
# Fails a build whose kernel is broken, and writes its symbol blob when that is wanted:
#
#   check-kernel.sh KERNEL [BLOB]
#
# BSDSYMS_URL         where the service is (http://127.0.0.1:8080)
# BSDSYMS_TOKEN       a bearer token, if it wants one
# BSDSYMS_REQUIRE     what is required of the kernel, separated by spaces: "symbols pv netbsd". Without it: that its symbols
#                     load, that it asks for them, and that the guest which it says it is finds them
# BSDSYMS_JUNIT       a file for the result as JUnit XML
# BSDSYMS_REQUEST_ID  what the log of the service calls the request, such as the id of the job
# BSDSYMS_RETRIES     how often it is tried again when nobody answers, or the service is busy (10)
#
# Ends with 0 when the kernel is good, with 1 when it is broken, with 2 when the service could not be asked.
set -eu

[ $# -ge 1 ] && [ $# -le 2 ] || {
  echo 'usage: check-kernel.sh KERNEL [BLOB]' >&2
  exit 2
}
kernel=$1
blob=${2:-}
url=${BSDSYMS_URL:-http://127.0.0.1:8080}
junit=${BSDSYMS_JUNIT:-}

[ -r "$kernel" ] || {
  echo "$kernel: cannot be read" >&2
  exit 2
}
for output in "$blob" "$junit"; do
  [ -f "$output" ] || continue
  [ ! "$output" -ef "$kernel" ] || {
    echo "$output: is the kernel; give the result another name" >&2
    exit 2
  }
  # What an earlier build has left is no result of this one.
  rm -f "$output" || exit 2
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# An id of other characters, or a longer one, would not be taken over.
id=$(printf %s "${BSDSYMS_REQUEST_ID:-}" | tr -c 'A-Za-z0-9_.:-' - | cut -c 1-64)

# ask PATH ACCEPT: sends the kernel; the answer is in $work/answer. The token goes through standard input, where other
# users of the machine cannot see it. -T sends the file as it is read; --data-binary would hold all of it in memory. curl waits
# as long as a 503 or 429 says, and tries again when it is not connected.
ask() {
  rm -f "$work/answer"
  status=$(echo "${BSDSYMS_TOKEN:+oauth2-bearer = $BSDSYMS_TOKEN}" |
    curl --config - -sS -T "$kernel" --max-time 600 \
      --retry "${BSDSYMS_RETRIES:-10}" --retry-all-errors --retry-max-time 600 \
      -H "X-Request-Id: $id" -H "Accept: $2" -o "$work/answer" -w '%{http_code}' "$url$1") || status=000
  case $status in
  200) return 0 ;;
  422)
    # JUnit XML, or lines of text.
    if grep -q '<testsuites' "$work/answer"; then
      sed -n 's/.*<failure type="\([^"]*\)" message="\([^"]*\)".*/FAILED: \1: \2/p' "$work/answer" >&2
    else
      cat "$work/answer" >&2
    fi
    return 1
    ;;
  *)
    echo "$url could not be asked (status $status):" >&2
    [ ! -s "$work/answer" ] || cat "$work/answer" >&2
    exit 2
    ;;
  esac
}

query=
for name in ${BSDSYMS_REQUIRE:-}; do
  query="$query&require=$name"
done
broken=0
if [ -n "$junit" ]; then
  ask "/check?${query#&}" 'application/xml, text/plain;q=0.5' || broken=1
  ! grep -q '<testsuites' "$work/answer" || cp "$work/answer" "$junit"
else
  ask "/check?${query#&}" text/plain || broken=1
  [ "$broken" -ne 0 ] || cat "$work/answer"
fi
[ "$broken" -eq 0 ] || exit 1
[ -n "$blob" ] || exit 0
ask /bsdsyms 'application/octet-stream, text/plain;q=0.5' || exit 1
mv "$work/answer" "$blob"
