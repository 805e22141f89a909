#!/bin/sh
# Puts bsdsyms where bsdsyms.service expects it. In a clone, as root: npm ci && npm run build && deploy/systemd/install.sh
# DESTDIR=/tmp/root puts it below another folder, for a package or to look at it first.
set -eu
cd "$(dirname "$0")/../.."

root=${DESTDIR:-}
app=$root/opt/bsdsyms
unit=deploy/systemd/bsdsyms.service
node=${NODE:-$(sed -n 's/^ExecStart=\([^ ]*\).*/\1/p' "$unit")}

# What the options of ExecStart need.
wanted=26
version=$("$node" --version 2>/dev/null) || {
  echo "install.sh: $node is missing: install Node.js $wanted there, or change ExecStart in $unit" >&2
  exit 1
}
major=${version#v}
major=${major%%.*}
if [ "$major" -lt "$wanted" ]; then
  echo "install.sh: $node is Node.js $version, and the unit needs $wanted or later (with 24: without --allow-net)" >&2
  exit 1
fi
if [ ! -f dist/service/main.js ]; then
  echo 'install.sh: dist is missing: npm ci && npm run build' >&2
  exit 1
fi

mkdir -p "$app" "$root/etc/bsdsyms" "$root/etc/systemd/system"
# Another version may have had other files.
rm -rf "$app/dist"
cp -R dist "$app/dist"
cp package.json package-lock.json openapi.json openapi.yaml LICENSE "$app/"
(cd "$app" && npm ci --omit=dev --ignore-scripts --no-audit --no-fund)
cp "$unit" "$root/etc/systemd/system/"
chmod -R go+rX,go-w "$app"
chmod 0755 "$root/etc/bsdsyms"
chmod 0644 "$root/etc/systemd/system/bsdsyms.service"
echo "Now: systemctl daemon-reload && systemctl enable --now bsdsyms"
