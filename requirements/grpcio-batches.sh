#!/bin/bash
# Compiles gRPC's C++ sources in batches, because the compiler spends most of its time on the headers that they share.
#
#   grpcio-batches.sh DIRECTORY    replaces the sources of gRPC's core in an unpacked source distribution by batches of ten
#   CXX=grpcio-batches.sh          the compiler for its setup.py: compiles batches, and passes everything else to c++
set -euo pipefail

if [ -d "${1:-}" ]; then
  cd "$1"
  list=src/python/grpcio/grpc_core_dependencies.py
  sed -n "s|^ *'\(src/core/.*\.cc\)',$|#include \"\1\"|p" $list | split --lines=10 --additional-suffix=.cc - batch-
  sed -i "/^ *'src\/core\/.*\.cc',$/d" $list
  echo "import glob; CORE_SOURCE_FILES[:0] = sorted(glob.glob('batch-*.cc'))" >> $list
  # Let each thread take one source at a time: setup.py deals out a hundred, and one thread would get most of the batches.
  sed -i 's/_compile_single_file, objects$/&, chunksize=1/' src/python/grpcio/_parallel_compile_patch.py
  exit
fi

[[ $* =~ -c\ (batch-[^ ]*)\.cc\ -o\ ([^ ]*)\.o ]] || exec c++ "$@"
batch=${BASH_REMATCH[1]} object=${BASH_REMATCH[2]}
errors=$(c++ -Wfatal-errors "$@" 2>&1) && exit
[ "$(wc -l < "$batch.cc")" -gt 1 ] || { echo "$errors" >&2; exit 1; }
# Two sources can define the same name, most often neighbors: compile every other source separately and join the objects.
split --number=r/2 --suffix-length=1 --additional-suffix=.cc "$batch.cc" "$batch-"
for half in "$batch-a" "$batch-b"; do "$0" "${@//"$batch."/"$half."}"; done
ld -r -o "$object.o" "$object-a.o" "$object-b.o"
