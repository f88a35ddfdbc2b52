#!/bin/sh
# Builds the book and the specification beside it, as pages in target/book: sh docs/book.sh
# A page's links to other files of the repository lead there too, and every one is followed.
set -eu
cd "$(dirname "$0")/.."
mdbook build docs
mdbook build spec
for folder in src tests fuzz examples python; do ln -sfn "../../$folder" "target/book/$folder"; done
cp README.md target/book/README.html # as text: mdBook leads links to Markdown to pages

dead=0
for page in target/book/docs/*.html target/book/spec/*.html; do
  for link in $(grep -o 'href="[^"#]*' "$page" | sed 's/^href="//' | grep -v -e '^$' -e : | sort -u); do
    if ! [ -e "$(dirname "$page")/$link" ]; then
      echo "$page: nothing at $link"
      dead=1
    fi
  done
done
exit $dead
