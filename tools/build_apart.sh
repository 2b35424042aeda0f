#!/bin/sh
# tools/build_apart.sh NAME [VARIABLE=VALUE ...]: copies the tree to build/NAME and builds the core there, in place, with
# these variables set. So a build with other flags never mixes with the one that everybody runs.
set -eu
name=$1
shift
python=$PWD/.venv/bin/python
rm -rf "build/$name"
mkdir -p "build/$name"
tar -cf - --exclude='*.so' --exclude='*.egg-info' --exclude=__pycache__ --exclude=./build --exclude=./dist \
    --exclude=./data ./[!.]* | tar -xf - -C "build/$name"
cd "build/$name"
env "$@" "$python" setup.py build_ext --inplace >build.log 2>&1 || { cat build.log >&2; exit 1; }
