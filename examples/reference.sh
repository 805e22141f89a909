#!/bin/sh
# The symbols of a kernel that CI has stored already: nothing is uploaded.
#
#   reference.sh IMAGE_URL [OUTPUT]
#
# IMAGE_URL is under a prefix that the operator of the service lists (BSDSYMS_IMAGE_SOURCES):
#   S3           reference.sh "$(aws s3 presign s3://BUCKET/vmlinux --expires-in 600)"
#   nginx        reference.sh "http://farm.example:8000/$BUILD_ID/vmlinux"
#   NFS          reference.sh "file:///srv/kernels/$BUILD_ID/vmlinux"
# BSDSYMS_URL is the service, BSDSYMS_TOKEN its token, if it wants one.
set -eu
image_url=$1
output=${2:-bsdsyms.bin}

# The URL may hold a signature: neither it nor the token is an argument, which other users of the machine could see.
{
  printf 'data-urlencode = "imageUrl=%s"\n' "$image_url"
  if [ -n "${BSDSYMS_TOKEN:-}" ]; then printf 'oauth2-bearer = "%s"\n' "$BSDSYMS_TOKEN"; fi
} | curl --config - -G -sS --fail-with-body --retry 10 \
  -H 'Accept: application/octet-stream, text/plain;q=0.5' \
  -o "$output" "${BSDSYMS_URL:-http://127.0.0.1:8080}/bsdsyms" || {
  cat "$output" >&2
  rm -f "$output"
  exit 1
}
