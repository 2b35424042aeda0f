#!/bin/sh
# tools/fuzz.sh SECONDS: each fuzz target for so long; the first crash, hang or undocumented error ends it.
#
# With clang the core is built to report which of its branches an input took, under both sanitizers. Without, the fuzzer
# sees only the Python models that the targets compare the core with. What was found worth keeping stays in build/corpus,
# and the input of a crash beside it.
set -eu
seconds=$1
python=$PWD/.venv/bin/python
corpus=$PWD/build/corpus
preload=
lacks=
if ! command -v clang >/dev/null; then
    lacks="clang"
    packages="clang libclang-rt-14-dev"
elif ! echo 'int main(void) { return 0; }' | clang -fsanitize=address,undefined -x c -o /dev/null - 2>/dev/null; then
    lacks="clang's sanitizers"
    packages="libclang-rt-$(clang -dumpversion | cut -d. -f1)-dev"
fi
if [ -z "$lacks" ]; then
    tools/build_apart.sh fuzz IMCORE_SANITIZE=1 CC=clang LDSHARED="clang -shared" CFLAGS=-fsanitize=fuzzer-no-link
    preload=$("$python" -c 'import atheris; print(atheris.path())')/asan_with_fuzzer.so
else
    echo "imcore: $lacks missing: the compiled core is fuzzed without a view of its branches, and without sanitizers." >&2
    echo "imcore: for them: apt-get install --no-install-recommends $packages" >&2
    tools/build_apart.sh fuzz
fi
cd build/fuzz
for target in fuzz/fuzz_*.py; do
    name=$(basename "$target" .py)
    mkdir -p "$corpus/$name"
    echo "== $name: $seconds s"
    LD_PRELOAD=$preload ASAN_OPTIONS=detect_leaks=0 PYTHONPATH="$PWD/src:$PWD" \
        "$python" "$target" "$corpus/$name" -artifact_prefix="$corpus/$name-" -max_total_time="$seconds" -timeout=10 \
        >"$name.log" 2>&1 || { tail -n 60 "$name.log"; exit 1; }
    grep 'DONE' "$name.log" || { tail -n 60 "$name.log"; exit 1; }
done
