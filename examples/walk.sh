#!/bin/sh
# A walk through the whole house in a few seconds, offline, with a scripted model:  sh examples/walk.sh
set -eu
cp -r "$(dirname "$0")/offline" "${1:-walk}"
cd "${1:-walk}"

solon check recipe.yaml            # is the page right?
solon plan recipe.yaml             # what would it ask, what would it cost?
solon run recipe.yaml --limit 1    # walk one row ...
solon show 0                       # ... and look at it
solon run recipe.yaml              # then all: what is known is not asked again
solon pairs -n 2
solon export --to dataset
ls dataset dataset/data
