#!/bin/sh
# tools/fuzz.sh SECONDS: every fuzz target for so long; the first crash, hang or undocumented error ends it. With clang
# there is coverage of the compiled core to steer by; without, only that of the Python models which the targets compare
# it with. What was found worth keeping stays in build/corpus, and the input of a crash beside it.
set -eu
seconds=$1
python=$PWD/.venv/bin/python
corpus=$PWD/build/corpus
if command -v clang >/dev/null; then
    tools/build_apart.sh fuzz CC=clang CFLAGS=-fsanitize=fuzzer-no-link
else
    tools/build_apart.sh fuzz
fi
cd build/fuzz
export PYTHONPATH="src:."
for target in fuzz/fuzz_*.py; do
    name=$(basename "$target" .py)
    mkdir -p "$corpus/$name"
    echo "== $name, $seconds s"
    "$python" "$target" "$corpus/$name" -artifact_prefix="$corpus/$name-" -max_total_time="$seconds" -timeout=10 \
        -verbosity=0 -print_final_stats=1
done
