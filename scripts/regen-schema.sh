#!/usr/bin/env bash
# Refreshes schema/src/generated from schema/*.capnp, or with --check says
# whether the committed Rust is what the files give. Needs the `capnp` tool.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v capnp >/dev/null; then
    echo "regen-schema: the capnp tool is missing; on Debian: apt-get install capnproto" >&2
    exit 69
fi
if [ "${1:-}" = --check ]; then
    fresh=$(mktemp -d)
    trap 'rm -rf "$fresh"' EXIT
    cargo run --quiet --locked -p lm-schema-codegen -- "$fresh" >/dev/null
    if ! diff -ru schema/src/generated "$fresh" >"$fresh.diff"; then
        head -n 40 "$fresh.diff" >&2
        rm -f "$fresh.diff"
        echo "regen-schema: schema/src/generated is stale; run scripts/regen-schema.sh and commit" >&2
        exit 1
    fi
    rm -f "$fresh.diff"
    echo "schema: generated code matches"
else
    cargo run --quiet -p lm-schema-codegen
fi
