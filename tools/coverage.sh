#!/bin/sh
# Which lines the tests run, those of the compiled core too (Cython writes trace calls into the C).
set -eu
python=$PWD/.venv/bin/python
tools/build_apart.sh coverage IMCORE_COVERAGE=1
cd build/coverage
export PYTHONPATH="$PWD/src"
status=0
"$python" -m coverage run -m pytest tests -q -o timeout=300 || status=$?
"$python" -m coverage report
exit $status
