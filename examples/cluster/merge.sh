#!/bin/bash
# Merges the shards in FOLDER into FOLDER/results.json; takes the options of the shards. Questions that no shard answered are answered now.
set -euo pipefail
shards=("$FOLDER"/shard-*.journal.jsonl)
list=$(printf '%s,' "${shards[@]/%.journal.jsonl/.json}")
exec aircache eval "$@" --merge "${list%,}" --out "$FOLDER/results.json"
