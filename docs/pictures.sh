#!/bin/sh
# The book's pictures, made by the project's own commands: sh docs/pictures.sh docs/pictures
# tests/house/book.rs runs this and compares.
set -eu
explain() { aircache explain --quiet "$@"; }
explain --sample 18 --policies aircache --retain 0.1 --layer 5 --format png --out "$1/kept-18.png"
explain --sample 18 --policies aircache --retain 0.1 --format png --out "$1/kept-18-all.png"
explain --sample 18 --policies random --retain 0.1 --layer 5 --format png --out "$1/random-18.png"
