#!/bin/sh
# tools/sanitize.sh [TESTS ...]: the tests, or these of them, under AddressSanitizer and UndefinedBehaviourSanitizer
# (Linux, GCC). Any report fails the run, also one of a child process whose exit code no test looks at; of the leaks,
# those that name a module of ours: Python and the shells that tests start leave some at exit. PYTHONMALLOC=malloc, so
# that the sanitizer sees each object by itself.
set -eu
[ $# -gt 0 ] || set -- tests
python=$PWD/.venv/bin/python
compiler=${CC:-gcc}
tools/build_apart.sh sanitize CC="$compiler" IMCORE_SANITIZE=1
cd build/sanitize
mkdir reports
log=log_path=$PWD/reports/report
status=0
LD_PRELOAD="$("$compiler" -print-file-name=libasan.so) $("$compiler" -print-file-name=libubsan.so)" \
    ASAN_OPTIONS="$log:detect_stack_use_after_return=1:exitcode=0" UBSAN_OPTIONS="$log:print_stacktrace=1" \
    PYTHONMALLOC=malloc PYTHONPATH="$PWD/src" \
    "$python" -m pytest "$@" --hypothesis-profile=sanitize -o timeout=300 || status=$?
for report in reports/*; do
    [ -f "$report" ] || continue
    if grep -q 'LeakSanitizer: detected' "$report"; then
        awk 'BEGIN { RS = ""; ORS = "\n\n" } /imcore\/_/' "$report" >ours
    else
        cp "$report" ours
    fi
    [ -s ours ] || continue
    cat ours
    status=1
done
exit $status
