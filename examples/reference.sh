#!/bin/sh
# The symbols of a kernel that CI has stored already: nothing is uploaded.
#
#   reference.sh IMAGE_URL [BLOB]
#
# IMAGE_URL is under a prefix that the operator of the service lists (BSDSYMS_IMAGE_SOURCES):
#   S3           reference.sh "$(aws s3 presign s3://BUCKET/vmlinux --expires-in 600)"
#   nginx        reference.sh "http://farm.example:8000/$BUILD_ID/vmlinux"
#   NFS          reference.sh "file:///srv/kernels/$BUILD_ID/vmlinux"
#
# BSDSYMS_URL         where the service is (http://127.0.0.1:8080)
# BSDSYMS_TOKEN       a bearer token, if it wants one
# BSDSYMS_REQUEST_ID  what the log of the service calls the request, such as the id of the job
# BSDSYMS_RETRIES     how often it is tried again when nobody answers, the service is busy, or the origin fails (10)
#
# Ends with 0 when there is a blob (bsdsyms.bin), with 1 when the kernel is broken, with 2 when it could not be read or the service
# could not be asked.
set -eu

[ $# -ge 1 ] && [ $# -le 2 ] || {
  echo 'usage: reference.sh IMAGE_URL [BLOB]' >&2
  exit 2
}
image_url=$1
blob=${2:-bsdsyms.bin}
url=${BSDSYMS_URL:-http://127.0.0.1:8080}

# A quote or a new line would end the value below, and what follows would be options of curl.
case $image_url in
*[!A-Za-z0-9._~:/?#@!\$\&\'\(\)*+,\;=%\[\]-]*)
  echo 'the URL of the image has characters that no URL has: write them percent-encoded' >&2
  exit 2
  ;;
esac
# What an earlier build has left is no result of this one.
[ ! -f "$blob" ] || rm -f "$blob" || exit 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# An id of other characters, or a longer one, would not be taken over.
id=$(printf %s "${BSDSYMS_REQUEST_ID:-}" | tr -c 'A-Za-z0-9_.:-' - | cut -c 1-64)

# The URL may hold a signature: neither it nor the token is an argument, which other users of the machine could see.
status=$({
  printf 'data-urlencode = "imageUrl=%s"\n' "$image_url"
  if [ -n "${BSDSYMS_TOKEN:-}" ]; then printf 'oauth2-bearer = "%s"\n' "$BSDSYMS_TOKEN"; fi
} | curl --config - -G -sS --max-time 600 --retry "${BSDSYMS_RETRIES:-10}" --retry-all-errors --retry-max-time 600 \
  -H "X-Request-Id: $id" -H 'Accept: application/octet-stream, text/plain;q=0.5' \
  -o "$work/answer" -w '%{http_code}' "$url/bsdsyms") || status=000
if [ "$status" = 200 ]; then
  mv "$work/answer" "$blob"
  exit 0
fi
[ ! -s "$work/answer" ] || cat "$work/answer" >&2
# 422 is about the image, unless too little of it could be read.
if [ "$status" = 422 ] && ! grep -q '^source-' "$work/answer"; then exit 1; fi
echo "$url has no answer for the image (status $status)" >&2
exit 2
