#!/bin/sh
# The tests under AddressSanitizer and UndefinedBehaviourSanitizer (Linux). Any report fails the run, also one of a child
# process whose exit code no test looks at. PYTHONMALLOC=malloc, so that the sanitizer sees each object by itself.
set -eu
python=$PWD/.venv/bin/python
compiler=${CC:-gcc}
tools/build_apart.sh sanitize CC="$compiler" IMCORE_SANITIZE=1
cd build/sanitize
mkdir reports
log=log_path=$PWD/reports/report
status=0
LD_PRELOAD="$("$compiler" -print-file-name=libasan.so) $("$compiler" -print-file-name=libubsan.so)" \
    ASAN_OPTIONS="$log:detect_leaks=0:detect_stack_use_after_return=1" \
    UBSAN_OPTIONS="$log:print_stacktrace=1" \
    PYTHONMALLOC=malloc PYTHONPATH=src \
    "$python" -m pytest tests --hypothesis-profile=sanitize -o timeout=300 || status=$?
for report in reports/*; do
    [ -f "$report" ] || continue
    cat "$report"
    status=1
done
exit $status
